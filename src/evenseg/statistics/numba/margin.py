"""Two-sided statistics on the CPU: sigmoid outputs, hinge errors, and softmax over two classes.

All of these depend on a pixel only through its margin u = z on the foreground and -z on the background, where z is the
logit (of two softmax channels, z1 - z0): with m = sigmoid(-u) the probability error, -log p = log(1 + e^-u), and the
hinge error is max(0, 1-u). So one kernel sums functions of u by side, and one histogram by side serves both classes of a
two-class softmax. Packing and blocks are those of the softmax kernel.
"""

import numba as nb
import numpy as np

from evenseg.statistics.bins import OCTAVES
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.packing import RESIDUAL, SHIFT, SPREAD
from evenseg.statistics.numba.scalar import bits_of, exp, log1p, power
from evenseg.statistics.numba.softmax import POWER_FLOOR, WANT_ERRORS, WANT_HITS, WANT_NLL, WANT_NLL_ALL, WANT_PIXEL

MISS, MISS_SQ, NLL, MARGIN, FIXED_SLOTS = 0, 1, 2, 3, 4  # sums by side; focal and power sums follow, then weights and weighted hits
PIXELS, HITS, ZEROS, COUNT_SLOTS = 0, 1, 2, 3  # counts by side; ZEROS: hinge errors of 0, which no histogram counts


@kernel
def forward(
    z_NCP, pair, y_NRP, weight_NP, weighted, positive_R, ignore, labels_to, hinge, first, last, block, K, want, gammas, powers,
    sums_NR2S, counts_NR23, packed_R2K, total_R2, whist_2R2K, peak_R2, peak_at_R2, pixel_NRP,
):  # fmt: skip
    """Statistics of the blocks first..last-1 of rows (image, channel). Returns the number of pixels with a bad label.

    `pair`: two softmax channels form one row; else each channel is one. Row r is foreground where the label equals
    positive_R[r]; labels are y_NRP[n, r], or y_NRP[n, 0] where there is one map for all channels. Labels other than
    0..labels_to-1 and `ignore` are bad.
    """
    P = z_NCP.shape[2]
    R = positive_R.size
    real = z_NCP.dtype.type
    zero, one, two = real(0), real(1), real(2)
    floor, least = real(POWER_FLOOR), real(1e-30)
    blocks = (P + block - 1) // block
    u = np.empty(block, z_NCP.dtype)
    miss = np.empty(block, z_NCP.dtype)
    nll = np.empty(block, z_NCP.dtype)
    error = np.empty(block, z_NCP.dtype)
    scratch = np.empty(block, z_NCP.dtype)
    on = np.empty(block, z_NCP.dtype)  # weight of the pixel on the background, then on the foreground
    fg = np.empty(block, z_NCP.dtype)
    side = np.empty(block, np.int32)  # 0, 1, or -1 for ignored
    code = np.empty(block, np.int32)
    slot = np.empty(block, np.int32)
    scale = real(K * (1 << RESIDUAL))
    unit = np.int64(1) << SHIFT
    mask = np.int32((1 << RESIDUAL) - 1)
    per_octave = np.int32(K // OCTAVES)
    want_errors, want_hits, want_pixel = (want & WANT_ERRORS) != 0, (want & WANT_HITS) != 0, (want & WANT_PIXEL) != 0
    want_nll = (want & WANT_NLL) != 0 or want_pixel or gammas.size > 0 or powers.size > 0
    width = K + 1 + SPREAD
    bad = 0
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        L = min(block, P - s)
        y = y_NRP[n, r if y_NRP.shape[1] > 1 else 0, s : s + L]
        positive = positive_R[r]
        on_count, fg_count = 0, 0
        for i in range(L):
            v = np.int64(y[i])
            legal = v >= 0 and v < labels_to and v != ignore
            k = np.int32(v == positive) if legal else np.int32(-1)
            side[i] = k
            on_count += legal
            fg_count += k == 1
        if on_count < L:
            for i in range(L):
                v = np.int64(y[i])
                bad += (v < 0 or v >= labels_to) and v != ignore
        if pair:
            z0, z1 = z_NCP[n, 0, s : s + L], z_NCP[n, 1, s : s + L]
            for i in range(L):
                u[i] = z1[i] - z0[i]
        else:
            z1 = z_NCP[n, r, s : s + L]
            for i in range(L):
                u[i] = z1[i]
        if want_hits:
            right_bg, right_fg = 0, 0
            for i in range(L):
                right_bg += side[i] == 0 and u[i] <= zero
                right_fg += side[i] == 1 and u[i] > zero
            counts_NR23[n, r, 0, HITS] += right_bg
            counts_NR23[n, r, 1, HITS] += right_fg
        for i in range(L):
            v = u[i] if side[i] == 1 else -u[i]
            u[i] = v if side[i] >= 0 else zero  # whatever stands under an ignored pixel must not count
        for i in range(L):
            fg[i] = one if side[i] == 1 else zero
            on[i] = one if side[i] == 0 else zero
        if weighted:
            for i in range(L):
                fg[i] *= weight_NP[n, s + i]
                on[i] *= weight_NP[n, s + i]
            total_bg, total_fg, hit_bg, hit_fg = zero, zero, zero, zero
            for i in range(L):
                total_bg += on[i]
                total_fg += fg[i]
                # a background margin of 0 is a hit, a foreground one is not: ties go to the lower class
                hit_bg += on[i] if u[i] >= zero else zero
                hit_fg += fg[i] if u[i] > zero else zero
            last_slot = sums_NR2S.shape[3] - 1
            sums_NR2S[n, r, 0, last_slot - 1] += total_bg
            sums_NR2S[n, r, 1, last_slot - 1] += total_fg
            sums_NR2S[n, r, 0, last_slot] += hit_bg
            sums_NR2S[n, r, 1, last_slot] += hit_fg
        counts_NR23[n, r, 0, PIXELS] += on_count - fg_count
        counts_NR23[n, r, 1, PIXELS] += fg_count
        a, b, c, d = zero, zero, zero, zero
        for i in range(L):
            tail = exp(-abs(u[i]))
            share = one / (one + tail)
            m = tail * share if u[i] >= zero else share
            miss[i] = m
            scratch[i] = tail
            a += m * on[i]
            b += m * fg[i]
            c += m * m * on[i]
            d += m * m * fg[i]
        sums = sums_NR2S[n, r]
        sums[0, MISS] += a
        sums[1, MISS] += b
        sums[0, MISS_SQ] += c
        sums[1, MISS_SQ] += d
        if want_nll:
            a, b = zero, zero
            for i in range(L):
                v = log1p(scratch[i]) + max(-u[i], zero)
                nll[i] = v
                a += v * on[i]
                b += v * fg[i]
            sums[0, NLL] += a
            sums[1, NLL] += b
        if (want & WANT_NLL_ALL) != 0:
            a, b = zero, zero
            for i in range(L):
                a += u[i] * on[i]
                b += u[i] * fg[i]
            sums[0, MARGIN] += a
            sums[1, MARGIN] += b
        if want_pixel:
            for i in range(L):
                pixel_NRP[n, r, s + i] = nll[i] if side[i] >= 0 else zero
        for f in range(gammas.size + powers.size):
            exponent = gammas[f] if f < gammas.size else powers[f - gammas.size]
            a, b = zero, zero
            if f >= gammas.size:
                for i in range(L):
                    scratch[i] = power(max(nll[i], floor), exponent)
            elif exponent == two:
                for i in range(L):
                    scratch[i] = miss[i] * miss[i] * nll[i]
            else:
                for i in range(L):
                    scratch[i] = power(max(miss[i], least), exponent) * nll[i]
            for i in range(L):
                a += scratch[i] * on[i]
                b += scratch[i] * fg[i]
            sums[0, FIXED_SLOTS + f] += a
            sums[1, FIXED_SLOTS + f] += b
        if not want_errors:
            continue

        limit = one
        if hinge:
            limit = real((1 << OCTAVES) - 1)
            for i in range(L):
                error[i] = max(one - u[i], zero)
        else:
            for i in range(L):
                error[i] = miss[i]
        top = zero
        top_bg = zero
        for i in range(L):
            v = error[i] if side[i] >= 0 else zero
            error[i] = v
            top = max(top, v)
            top_bg = max(top_bg, v if side[i] == 0 else zero)
        if top_bg > peak_R2[r, 0]:
            for i in range(L):
                if side[i] == 0 and error[i] > peak_R2[r, 0] and on[i] > zero:
                    peak_R2[r, 0] = error[i]
                    peak_at_R2[r, 0] = n * P + s + i
        if pair:  # the background of class 0 is the foreground of class 1
            for i in range(L):
                if side[i] == 1 and error[i] > peak_R2[r, 1] and fg[i] > zero:
                    peak_R2[r, 1] = error[i]
                    peak_at_R2[r, 1] = n * P + s + i
        if hinge:
            for i in range(L):
                code[i] = hinge_code(min(error[i], limit), per_octave)
        else:
            for i in range(L):
                code[i] = np.int32(error[i] * scale)
        if hinge:
            none_bg, none_fg = 0, 0
            for i in range(L):
                none_bg += (side[i] == 0) & (error[i] == zero)
                none_fg += (side[i] == 1) & (error[i] == zero)
            counts_NR23[n, r, 0, ZEROS] += none_bg
            counts_NR23[n, r, 1, ZEROS] += none_fg
        if weighted or top > limit:
            for i in range(L):
                k = side[i]
                if k >= 0 and not (hinge and error[i] == zero):
                    q = min(code[i] >> RESIDUAL, np.int32(K - 1))
                    v = fg[i] if k == 1 else on[i]
                    whist_2R2K[0, r, k, q] += v
                    whist_2R2K[1, r, k, q] += np.float64(v) * error[i]
            continue
        a, b = zero, zero
        for i in range(L):
            v = error[i]
            a += v if side[i] == 0 else zero
            b += v if side[i] == 1 else zero
        total_R2[r, 0] += a
        total_R2[r, 1] += b
        table = packed_R2K[r].reshape(2 * width)
        for i in range(L):
            q = code[i] >> RESIDUAL
            q = q if q > 0 else np.int32(K + 1 + (i & (SPREAD - 1)))
            slot[i] = q + np.int32(width) if side[i] == 1 else q
        for i in range(L):
            table[np.uint32(slot[i])] += unit + np.int64(code[i] & mask)
    return bad


@nb.njit(inline="always")
def hinge_code(error, per_octave):
    """Bin and position inside it of 1 + error: exponent and leading bits of the float (bins.py has the definition)."""
    bits = bits_of(error)
    octave = bits >> np.int32(23)
    inside = np.float32(bits & np.int32(0x7FFFFF)) * (np.float32(per_octave) * np.float32(2.0 ** (RESIDUAL - 23)))
    return ((octave * per_octave) << np.int32(RESIDUAL)) + np.int32(inside)


@kernel
def backward(
    z_NCP, pair, y_NRP, weight_NP, weighted, positive_R, ignore, labels_to, hinge, first, last, block, K, want, gammas, powers,
    grad_NR2S, table_GR2K, grad_pixel_NRP, grad_NCP,
):  # fmt: skip
    """Gradient with respect to the logits, given the gradient of every sum: d/du of each member, times du/dz = ±1."""
    P = z_NCP.shape[2]
    R = positive_R.size
    real = z_NCP.dtype.type
    zero, one, two = real(0), real(1), real(2)
    floor, least = real(POWER_FLOOR), real(1e-30)
    blocks = (P + block - 1) // block
    u = np.empty(block, z_NCP.dtype)
    miss = np.empty(block, z_NCP.dtype)
    nll = np.empty(block, z_NCP.dtype)
    slope = np.empty(block, z_NCP.dtype)
    side = np.empty(block, np.int32)
    scale = real(K * (1 << RESIDUAL))
    limit = real((1 << OCTAVES) - 1)
    per_octave = np.int32(K // OCTAVES)
    want_errors, want_pixel = (want & WANT_ERRORS) != 0, (want & WANT_PIXEL) != 0
    want_nll = gammas.size > 0 or powers.size > 0
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        L = min(block, P - s)
        group = n if table_GR2K.shape[0] > 1 else 0
        y = y_NRP[n, r if y_NRP.shape[1] > 1 else 0, s : s + L]
        positive = positive_R[r]
        for i in range(L):
            v = np.int64(y[i])
            legal = v >= 0 and v < labels_to and v != ignore
            side[i] = np.int32(v == positive) if legal else np.int32(-1)
        if pair:
            z0, z1 = z_NCP[n, 0, s : s + L], z_NCP[n, 1, s : s + L]
            for i in range(L):
                u[i] = z1[i] - z0[i]
        else:
            z1 = z_NCP[n, r, s : s + L]
            for i in range(L):
                u[i] = z1[i]
        for i in range(L):
            v = u[i] if side[i] == 1 else -u[i]
            u[i] = v if side[i] >= 0 else zero
        g0, g1 = grad_NR2S[n, r, 0], grad_NR2S[n, r, 1]
        for i in range(L):
            tail = exp(-abs(u[i]))
            share = one / (one + tail)
            miss[i] = tail * share if u[i] >= zero else share
            nll[i] = tail
        # through m: dm/du = -m (1-m); through -log p: -m
        linear0, linear1, square0, square1, log0, log1 = g0[MISS], g1[MISS], two * g0[MISS_SQ], two * g1[MISS_SQ], g0[NLL], g1[NLL]
        margin0, margin1 = g0[MARGIN], g1[MARGIN]
        for i in range(L):
            m = miss[i]
            v = (linear1 if side[i] == 1 else linear0) + (square1 if side[i] == 1 else square0) * m
            slope[i] = (margin1 if side[i] == 1 else margin0) - m * (v * (one - m) + (log1 if side[i] == 1 else log0))
        if want_pixel:
            for i in range(L):
                v = grad_pixel_NRP[n, r, s + i]
                if weighted:
                    v = v / weight_NP[n, s + i] if weight_NP[n, s + i] > 0 else zero
                slope[i] -= v * miss[i]
        if want_nll:
            for i in range(L):
                nll[i] = log1p(nll[i]) + max(-u[i], zero)
        for f in range(gammas.size + powers.size):
            exponent = gammas[f] if f < gammas.size else powers[f - gammas.size]
            a, b = g0[FIXED_SLOTS + f], g1[FIXED_SLOTS + f]
            if f >= gammas.size:
                for i in range(L):
                    v = exponent * power(max(nll[i], floor), exponent - one) * miss[i]
                    slope[i] -= (b if side[i] == 1 else a) * v if nll[i] > floor else zero
            else:
                for i in range(L):
                    m = miss[i]
                    v = m * m if exponent == two else power(max(m, least), exponent)
                    slope[i] -= (b if side[i] == 1 else a) * v * (exponent * (one - m) * nll[i] + m)
        if want_errors:
            t0, t1 = table_GR2K[group, r, 0], table_GR2K[group, r, 1]
            if hinge:
                for i in range(L):
                    q = min(hinge_code(min(max(one - u[i], zero), limit), per_octave) >> RESIDUAL, np.int32(K - 1))
                    v = t1[np.uint32(q)] if side[i] == 1 else t0[np.uint32(q)]
                    slope[i] -= v if u[i] < one else zero
            else:
                for i in range(L):
                    m = miss[i]
                    q = min(np.int32(m * scale) >> RESIDUAL, np.int32(K - 1))
                    v = t1[np.uint32(q)] if side[i] == 1 else t0[np.uint32(q)]
                    slope[i] -= v * m * (one - m)
        if weighted:
            for i in range(L):
                slope[i] *= weight_NP[n, s + i]
        for i in range(L):
            v = slope[i] if side[i] == 1 else -slope[i]
            slope[i] = v if side[i] >= 0 else zero
        out = grad_NCP[n, 1 if pair else r, s : s + L]
        for i in range(L):
            out[i] = slope[i]
        if pair:
            out = grad_NCP[n, 0, s : s + L]
            for i in range(L):
                out[i] = -slope[i]
