"""Two-sided statistics on the CPU: sigmoid outputs, hinge errors, and softmax over two classes.

All of these depend on a pixel only through its margin u = z on the foreground and -z on the background, where z is the
logit (of two softmax channels, z1 - z0): with m = sigmoid(-u) the probability error, -log p = log(1 + e^-u), and the
hinge error is max(0, 1-u). So one kernel sums functions of u by side, and one histogram by side serves both classes of a
two-class softmax.

The forward pass leaves one small code by pixel: K side + bin, 2K + side for hinge errors of 0, which no histogram counts, and
2K + 2 at ignored pixels (K is 1 without a histogram). The backward pass reads it instead of the labels, and the gradient of a hinge error
is a look-up in one table.
"""

import numba as nb
import numpy as np

from evenseg.statistics.bins import OCTAVES
from evenseg.statistics.numba import stages
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.packing import RESIDUAL, SHIFT, SPREAD
from evenseg.statistics.numba.scalar import bits_of, exp, log1p
from evenseg.statistics.numba.softmax import focal_terms, power_terms
from evenseg.statistics.slots import (
    MARGIN,
    MARGIN_FIXED_SLOTS,
    MARGIN_HITS,
    MARGIN_NLL,
    MISS,
    MISS_SQ,
    PIXELS,
    WANT_ERRORS,
    WANT_HITS,
    WANT_MISS,
    WANT_NLL,
    WANT_NLL_ALL,
    WANT_PIXEL,
    WANT_PROB_SQ,
    ZEROS,
)


@kernel
def _read_sides(y, ignore, labels_to, positive, side):
    """1 where the label is `positive`, 0 elsewhere, -1 where it does not count. Returns the numbers of -1, of 1, of bad labels."""
    off, foreground, bad = 0, 0, 0
    for i in range(y.size):
        v = np.int64(y[i])
        outside = (v < 0) | (v >= labels_to)
        skip = outside | (v == ignore)
        on = v == positive
        side[i] = np.int32(-1) if skip else np.int32(on)
        off += skip
        foreground += on & (not skip)
        bad += outside & (v != ignore)
    return off, foreground, bad


@kernel
def sided_margin(z, side, u):
    """U = z on the foreground, -z on the background, 0 at ignored pixels, whatever stands there."""
    zero = z.dtype.type(0)
    for i in range(z.size):
        v = z[i] if side[i] == 1 else -z[i]
        u[i] = v if side[i] >= 0 else zero


@kernel
def _sided_difference(z0, z1, side, u):
    """As `sided_margin` of z1 - z0."""
    zero = z0.dtype.type(0)
    for i in range(z0.size):
        v = z1[i] - z0[i]
        v = v if side[i] == 1 else -v
        u[i] = v if side[i] >= 0 else zero


@kernel
def _count_hits(side, u):
    """Right predictions by side. A background margin of 0 is one, a foreground one is not: ties go to the lower class."""
    zero = u.dtype.type(0)
    background, foreground = 0, 0
    for i in range(u.size):
        background += (side[i] == 0) & (u[i] >= zero)
        foreground += (side[i] == 1) & (u[i] > zero)
    return background, foreground


@kernel
def sigmoids(u, tail, miss):
    """Tail = e^-|u|, miss = sigmoid(-u), each with its relative precision."""
    zero, one = u.dtype.type(0), u.dtype.type(1)
    for i in range(u.size):
        t = exp(-abs(u[i]))
        share = one / (one + t)
        tail[i] = t
        miss[i] = t * share if u[i] >= zero else share


@kernel
def log_losses(u, tail, nll):
    """-log p = log(1 + e^-u)."""
    zero = u.dtype.type(0)
    for i in range(u.size):
        nll[i] = log1p(tail[i]) + max(-u[i], zero)


@kernel
def _sum_sides(x, on, fg, sums_2S, slot):
    """Add the sums of x over the background and the foreground."""
    a, b = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        a += x[i] * on[i]
        b += x[i] * fg[i]
    sums_2S[0, slot] += a
    sums_2S[1, slot] += b


@kernel
def _sum_weighted_hits(u, on, fg, sums_2S):
    """Add the weights by side, and those of the right predictions."""
    last = sums_2S.shape[1] - 1
    zero = u.dtype.type(0)
    total_bg, total_fg, hit_bg, hit_fg = zero, zero, zero, zero
    for i in range(u.size):
        total_bg += on[i]
        total_fg += fg[i]
        hit_bg += on[i] if u[i] >= zero else zero
        hit_fg += fg[i] if u[i] > zero else zero
    sums_2S[0, last - 1] += total_bg
    sums_2S[1, last - 1] += total_fg
    sums_2S[0, last] += hit_bg
    sums_2S[1, last] += hit_fg


@nb.njit(inline="always")
def hinge_code(error, per_octave):
    """Bin and position inside it of 1 + error: exponent and leading bits of the float (bins.py has the definition)."""
    bits = bits_of(error)
    octave = bits >> np.int32(23)
    inside = np.float32(bits & np.int32(0x7FFFFF)) * (np.float32(per_octave) * np.float32(2.0 ** (RESIDUAL - 23)))
    return ((octave * per_octave) << np.int32(RESIDUAL)) + np.int32(inside)


@kernel
def _hinge_errors(u, side, limit, per_octave, error, packed):
    """Errors (0 at ignored pixels) and their packed places. Returns how many lie beyond the limit."""
    zero, one = u.dtype.type(0), u.dtype.type(1)
    beyond = 0
    for i in range(u.size):
        v = max(one - u[i], zero)
        v = v if side[i] >= 0 else zero
        error[i] = v
        beyond += v > limit
        packed[i] = hinge_code(min(v, limit), per_octave)
    return beyond


@kernel
def _probability_errors(miss, side, scale, error, packed):
    """As `_hinge_errors` for probabilities."""
    zero = miss.dtype.type(0)
    for i in range(miss.size):
        v = miss[i] if side[i] >= 0 else zero
        error[i] = v
        packed[i] = np.int32(v * scale)


@kernel
def _codes(packed, error, side, hinge, K, code):
    """What the backward pass needs to know of a pixel. Returns the numbers of hinge errors of 0 by side."""
    zero = error.dtype.type(0)
    none, none_fg = 0, 0
    K = np.int32(K)
    for i in range(packed.size):
        nothing = hinge & (error[i] == zero)
        bin_ = min(packed[i] >> np.int32(RESIDUAL), K - np.int32(1))
        v = bin_ + (K if side[i] == 1 else np.int32(0))
        v = np.int32(2) * K + side[i] if nothing else v
        code[i] = v if side[i] >= 0 else np.int32(2) * K + np.int32(2)
        none += nothing & (side[i] >= 0)
        none_fg += nothing & (side[i] == 1)
    return none - none_fg, none_fg


@kernel
def _side_codes(side, code):
    """Codes without a histogram."""
    for i in range(side.size):
        code[i] = side[i] if side[i] >= 0 else np.int32(4)


@kernel
def _encode(packed, error, side, K, slot, amount):
    """Counter and amount of every error. Returns the sums by side and how many are above the lowest bin."""
    zero = error.dtype.type(0)
    mask = np.int32((1 << RESIDUAL) - 1)
    unit = np.uint32(1 << SHIFT)
    width = np.int32(K + 1 + SPREAD)
    total, foreground, hot = zero, zero, np.int32(0)
    for i in range(packed.size):
        t = packed[i]
        hot += np.int32(t > mask)
        slot[i] = stages.spread_bin(t, i, K) + (width if side[i] == 1 else np.int32(0))
        amount[i] = unit | np.uint32(t & mask)
        total += error[i]
        foreground += error[i] if side[i] == 1 else zero
    return total - foreground, foreground, hot


@kernel
def _weighted_histogram(packed, error, side, weight, hinge, K, whist_22K):
    """Float histogram: for weighted pixels and for hinge errors beyond the last edge, whose excess packing cannot hold."""
    for i in range(packed.size):
        k = side[i]
        if k >= 0 and not (hinge and error[i] == 0):
            q = min(packed[i] >> RESIDUAL, np.int32(K - 1))
            whist_22K[0, k, q] += weight[i]
            whist_22K[1, k, q] += np.float64(weight[i]) * error[i]


@kernel
def forward(
    z_NCP, pair, y_NRP, weight_NP, weighted, positive_R, ignore, labels_to, hinge, first, last, block, K, want, gammas, powers,
    sums_NR2S, counts_NR23, packed_R2K, total_R2, whist_2R2K, pixel_NRP, code_NRP,
):  # fmt: skip
    """Statistics of the blocks first..last-1 of rows (image, channel). Returns the number of pixels with a bad label.

    `pair`: two softmax channels form one row; else each channel is one. Row r is foreground where the label equals
    positive_R[r]; labels are y_NRP[n, r], or y_NRP[n, 0] where there is one map for all channels. Labels other than
    0..labels_to-1 and `ignore` are bad.
    """
    P = z_NCP.shape[2]
    R = positive_R.size
    real = z_NCP.dtype.type
    zero, one = real(0), real(1)
    blocks = (P + block - 1) // block
    maps = np.empty((7, block), z_NCP.dtype)
    indices, amounts = np.empty((3, block), np.int32), np.empty(block, np.uint32)
    scale, limit, per_octave = real(K * (1 << RESIDUAL)), real((1 << OCTAVES) - 1), np.int32(K // OCTAVES)
    want_errors, want_hits, want_pixel = (want & WANT_ERRORS) != 0, (want & WANT_HITS) != 0, (want & WANT_PIXEL) != 0
    want_nll = (want & WANT_NLL) != 0 or want_pixel or gammas.size > 0 or powers.size > 0
    want_miss, want_margin = (want & WANT_MISS) != 0, (want & WANT_NLL_ALL) != 0
    bad = 0
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        L = min(block, P - s)
        u, tail, miss, nll = maps[0, :L], maps[1, :L], maps[2, :L], maps[3, :L]
        on, fg, scratch = maps[4, :L], maps[5, :L], maps[6, :L]  # on, fg: weight as background, as foreground
        side, packed, slot, amount = indices[0, :L], indices[1, :L], indices[2, :L], amounts[:L]
        sums = sums_NR2S[n, r]
        y = y_NRP[n, r if y_NRP.shape[1] > 1 else 0, s : s + L]
        off, foreground, wrong = _read_sides(y, ignore, labels_to, positive_R[r], side)
        bad += wrong
        counts_NR23[n, r, 0, PIXELS] += L - off - foreground
        counts_NR23[n, r, 1, PIXELS] += foreground
        if pair:
            _sided_difference(z_NCP[n, 0, s : s + L], z_NCP[n, 1, s : s + L], side, u)
        else:
            sided_margin(z_NCP[n, r, s : s + L], side, u)
        if want_hits:
            right_bg, right_fg = _count_hits(side, u)
            counts_NR23[n, r, 0, MARGIN_HITS] += right_bg
            counts_NR23[n, r, 1, MARGIN_HITS] += right_fg
        if want_miss or want_nll or want_margin or weighted:
            for i in range(L):
                fg[i] = one if side[i] == 1 else zero
                on[i] = one if side[i] == 0 else zero
        if weighted:
            weight = weight_NP[n, s : s + L]
            for i in range(L):
                fg[i] *= weight[i]
                on[i] *= weight[i]
            _sum_weighted_hits(u, on, fg, sums)
        if want_miss or want_nll or (want_errors and not hinge):
            sigmoids(u, tail, miss)
        if want_miss:
            _sum_sides(miss, on, fg, sums, MISS)
            if (want & WANT_PROB_SQ) != 0:
                for i in range(L):
                    scratch[i] = miss[i] * miss[i]
                _sum_sides(scratch, on, fg, sums, MISS_SQ)
        if want_nll:
            log_losses(u, tail, nll)
            _sum_sides(nll, on, fg, sums, MARGIN_NLL)
        if want_margin:
            _sum_sides(u, on, fg, sums, MARGIN)
        if want_pixel:
            for i in range(L):
                pixel_NRP[n, r, s + i] = nll[i] if side[i] >= 0 else zero
        for f in range(gammas.size):
            focal_terms(miss, nll, gammas[f], scratch)
            _sum_sides(scratch, on, fg, sums, MARGIN_FIXED_SLOTS + f)
        for f in range(powers.size):
            power_terms(nll, powers[f], scratch)
            _sum_sides(scratch, on, fg, sums, MARGIN_FIXED_SLOTS + gammas.size + f)
        code = code_NRP[n, r, s : s + L]
        if not want_errors:
            _side_codes(side, code)
            continue
        beyond = 0
        if hinge:
            beyond = _hinge_errors(u, side, limit, per_octave, tail, packed)
        else:
            _probability_errors(miss, side, scale, tail, packed)
        none_bg, none_fg = _codes(packed, tail, side, hinge, K, code)
        counts_NR23[n, r, 0, ZEROS] += none_bg
        counts_NR23[n, r, 1, ZEROS] += none_fg
        if weighted or beyond > 0:
            for i in range(L):
                scratch[i] = on[i] + fg[i] if weighted else one
            _weighted_histogram(packed, tail, side, scratch, hinge, K, whist_2R2K[:, r])
            continue
        table = packed_R2K[r].reshape(2 * (K + 1 + SPREAD))
        for a in range(0, L, stages.CHUNK):
            b = min(a + stages.CHUNK, L)
            error_bg, error_fg, hot = _encode(packed[a:b], tail[a:b], side[a:b], K, slot[a:b], amount[a:b])
            total_R2[r, 0] += error_bg
            total_R2[r, 1] += error_fg
            if 8 * hot >= b - a:
                for i in range(a, b):
                    table[np.uint32(slot[i])] += np.int64(amount[i])
            elif hot > 0:
                for i in range(a, b):
                    if packed[i] >= 1 << RESIDUAL:
                        table[np.uint32(slot[i])] += np.int64(amount[i])
    return bad
