"""Softmax statistics of three or more classes on the CPU: one pass over the logits forward, one backward.

Pixels are walked in blocks whose (C, block) probabilities stay in the cache. Inside a block every loop runs over
contiguous pixels of one class, which the compiler vectorises; what concerns a pixel's own class is done once per run of
equal labels. Each worker writes to its own accumulators.

The lowest bin of the error histogram (packing.py) is not counted at all: its count and sum are what the other bins leave of
the totals. A class whose probabilities in a block all lie in it, the usual case for a trained network,
costs no scatter.
"""

import numpy as np

from evenseg.statistics.numba.compiler import kernel, loose_kernel
from evenseg.statistics.numba.packing import RESIDUAL, SHIFT, SPREAD
from evenseg.statistics.numba.scalar import exp, log, power

# slots of the sums; the focal and power sums follow
PROB, PROB_SQ, OVERLAP, NLL, NLL_ALL, FIXED_SLOTS = 0, 1, 2, 3, 4, 5
# slots of the counts
LABELS, PREDICTED, HITS, COUNT_SLOTS = 0, 1, 2, 3
# what is wanted, as bits
WANT_PROB, WANT_PROB_SQ, WANT_OVERLAP, WANT_NLL, WANT_NLL_ALL = 1, 2, 4, 8, 16
WANT_HITS, WANT_ERRORS, WANT_PIXEL, WANT_RANKS = 32, 64, 128, 256

POWER_FLOOR = 1e-7


LEAST, MOST = 1e-30, 1e30  # sums of exponentials between these need no shift of the logits


@loose_kernel
def largest_product(x, y, L):
    """Maximum of x y for non-negative numbers."""
    top = x[0] * y[0]
    for i in range(L):
        top = max(top, x[i] * y[i])
    return top


@loose_kernel
def within(x, L, low, high):
    """Whether all of x lie between low and high."""
    outside = 0
    for i in range(L):
        outside += (x[i] < low) | (x[i] > high)
    return outside == 0


@kernel
def read_labels(y, ignore, C, label, L):
    """Labels as int32 with -1 for pixels that do not count. Returns how many do not, and how many of them are wrong."""
    off, bad = 0, 0
    for i in range(L):
        v = np.int64(y[i])
        outside = (v < 0) | (v >= C)
        skip = outside | (v == ignore)
        label[i] = np.int32(-1) if skip else np.int32(v)
        off += skip
        bad += outside & (v != ignore)
    return off, bad


@kernel
def exponentials(z_CP, s, L, label, top, e, others):
    """e_c = exp(z_c - top), 0 at the pixel's own class; others = their sum."""
    for i in range(L):
        others[i] = 0
    for c in range(z_CP.shape[0]):
        row, ec = z_CP[c, s : s + L], e[c]
        for i in range(L):
            v = exp(row[i] - top[i])
            v = v if label[i] != c else v - v
            ec[i] = v
            others[i] += v


@kernel
def scatter(code, L, hot, K, table):
    """Add errors, given as bin and position inside it, to the packed counters."""
    unit = np.int64(1) << SHIFT
    mask = np.int32((1 << RESIDUAL) - 1)
    if 4 * hot < L:
        for i in range(L):
            t = code[i]
            if t > mask:
                table[np.uint32(t >> RESIDUAL)] += unit + np.int64(t & mask)
    else:
        for i in range(L):
            t = code[i]
            b = t >> RESIDUAL
            b = b if b > 0 else np.int32(K + 1 + (i & (SPREAD - 1)))
            table[np.uint32(b)] += unit + np.int64(t & mask)


@kernel
def forward(
    z_NCP, y_NP, weight_NP, weighted, ignore, first, last, block, K, want, gammas, powers,
    sums_NSC, counts_N3C, packed_C2K, total_C2, seen_C, whist_2C2K, peak_C, peak_at_C, pixel_NP, top_NP, inv_NP,
):  # fmt: skip
    """Statistics of the blocks first..last-1. Returns the number of pixels with a label outside 0..C-1.

    total_C2 takes the sum of all errors by side, seen_C the classes with a labelled pixel.
    """
    _, C, P = z_NCP.shape
    real = z_NCP.dtype.type
    zero, half, one, two = real(0), real(0.5), real(1), real(2)
    floor, least = real(POWER_FLOOR), real(1e-30)
    blocks = (P + block - 1) // block
    e = np.empty((C, block), z_NCP.dtype)
    top = np.empty(block, z_NCP.dtype)
    others = np.empty(block, z_NCP.dtype)  # sum of exp over all classes but the pixel's own
    own_z = np.empty(block, z_NCP.dtype)  # logit, then p, of the pixel's own class
    own = np.empty(block, z_NCP.dtype)
    inv = np.empty(block, z_NCP.dtype)
    nll = np.empty(block, z_NCP.dtype)
    miss = np.empty(block, z_NCP.dtype)  # 1 - p of the pixel's own class, with its relative precision
    scratch = np.empty(block, z_NCP.dtype)
    label = np.empty(block, np.int32)
    best = np.empty(block, np.int32)
    code = np.empty(block, np.int32)
    scale = real(K * (1 << RESIDUAL))
    mask = np.int32((1 << RESIDUAL) - 1)
    want_errors, want_hits = (want & WANT_ERRORS) != 0, (want & WANT_HITS) != 0
    want_sq, want_all = (want & WANT_PROB_SQ) != 0, (want & WANT_NLL_ALL) != 0
    want_pixel = (want & WANT_PIXEL) != 0
    want_nll = (want & WANT_NLL) != 0 or want_pixel or gammas.size > 0 or powers.size > 0
    last_slot = sums_NSC.shape[1] - 1
    bad = 0
    for j in range(first, last):
        n, s = j // blocks, (j % blocks) * block
        L = min(block, P - s)
        off, wrong = read_labels(y_NP[n, s : s + L], ignore, C, label, L)
        bad += wrong
        for i in range(L):
            k = label[i]
            own_z[i] = z_NCP[n, k, s + i] if k >= 0 else zero
            top[i] = zero
        exponentials(z_NCP[n], s, L, label, top, e, others)
        for i in range(L):
            own[i] = exp(own_z[i])
            inv[i] = others[i] + own[i] if label[i] >= 0 else one
        if not within(inv, L, real(LEAST), real(MOST)):
            # logits too large or too small for a bare exponential: shift by the largest
            row = z_NCP[n, 0, s : s + L]
            for i in range(L):
                top[i] = row[i]
            for c in range(1, C):
                row = z_NCP[n, c, s : s + L]
                for i in range(L):
                    top[i] = max(top[i], row[i])
            exponentials(z_NCP[n], s, L, label, top, e, others)
            for i in range(L):
                top[i] = top[i] if label[i] >= 0 else zero
                own[i] = exp(own_z[i] - top[i])
                inv[i] = others[i] + own[i] if label[i] >= 0 else one
        if off > 0:  # whatever stands at ignored pixels, NaN included, must not count
            for c in range(C):
                ec = e[c]
                for i in range(L):
                    ec[i] = ec[i] if label[i] >= 0 else zero
        if want_nll:
            for i in range(L):
                scratch[i] = log(inv[i]) + top[i] - own_z[i]
        for i in range(L):
            on = one if label[i] >= 0 else zero
            v = on / inv[i]
            inv[i] = v
            own[i] = own[i] * v
            miss[i] = others[i] * v if label[i] >= 0 else zero
        for i in range(L):
            top_NP[n, s + i] = top[i]
            inv_NP[n, s + i] = inv[i]
        if want_nll:
            # -log p; where p is not small, log(1 - miss) by the formula that undoes the rounding of 1 - miss
            for i in range(L):
                u = one - miss[i]
                d = one - u
                v = miss[i] if d == zero else -log(max(u, half)) * (miss[i] / d)
                v = v if miss[i] < half else scratch[i]
                nll[i] = v if label[i] >= 0 else zero
        if want_pixel:
            for i in range(L):
                pixel_NP[n, s + i] = nll[i]
        if want_hits:
            row = z_NCP[n, 0, s : s + L]
            for i in range(L):
                scratch[i] = row[i]
                best[i] = 0
            for c in range(1, C):
                row = z_NCP[n, c, s : s + L]
                for i in range(L):
                    best[i] = np.int32(c) if row[i] > scratch[i] else best[i]
                    scratch[i] = max(scratch[i], row[i])
        if want_all:
            for c in range(C):
                row = z_NCP[n, c, s : s + L]
                acc = zero
                for i in range(L):
                    v = own_z[i] - row[i] + nll[i]  # -log p_c = -log p_y + z_y - z_c
                    v = v * weight_NP[n, s + i] if weighted else v
                    acc += v if label[i] >= 0 else zero
                sums_NSC[n, NLL_ALL, c] += acc

        # every class as background; the pixel's own class is 0 here and done below
        for c in range(C):
            ec = e[c]
            if weighted:
                acc, square = zero, zero
                for i in range(L):
                    v = ec[i] * inv[i]
                    ec[i] = v
                    acc += v * weight_NP[n, s + i]
                    square += v * v * weight_NP[n, s + i]
                sums_NSC[n, PROB, c] += acc
                sums_NSC[n, PROB_SQ, c] += square
            elif want_sq or not want_errors:
                acc, square = zero, zero
                for i in range(L):
                    v = ec[i] * inv[i]
                    acc += v
                    square += v * v
                sums_NSC[n, PROB_SQ, c] += square
                if not want_errors:
                    sums_NSC[n, PROB, c] += acc
            if not want_errors:
                continue
            if weighted:
                for i in range(L):
                    if label[i] >= 0 and label[i] != c:
                        b = min(np.int32(ec[i] * real(K)), K - 1)
                        whist_2C2K[0, c, 0, b] += weight_NP[n, s + i]
                        whist_2C2K[1, c, 0, b] += weight_NP[n, s + i] * ec[i]
                        if ec[i] > peak_C[c] and weight_NP[n, s + i] > 0:
                            peak_C[c] = ec[i]
                            peak_at_C[c] = n * P + s + i
                continue
            acc = zero
            hot = np.int32(0)
            for i in range(L):
                v = ec[i] * inv[i]
                t = np.int32(v * scale)
                code[i] = t
                acc += v
                hot += np.int32(t > mask)
            sums_NSC[n, PROB, c] += acc
            total_C2[c, 0] += acc
            # the largest background error matters only to a class without labels
            if not seen_C[c] and largest_product(ec, inv, L) > peak_C[c]:
                for i in range(L):
                    v = ec[i] * inv[i]
                    if v > peak_C[c]:
                        peak_C[c] = v
                        peak_at_C[c] = n * P + s + i
            if hot > 0:
                scatter(code, L, hot, K, packed_C2K[c, 0])

        # the pixel's own class, by runs of equal labels
        if want_errors and not weighted:
            for i in range(L):
                code[i] = np.int32(miss[i] * scale)
        i = 0
        while i < L:
            c = label[i]
            a = i
            while i < L and label[i] == c:
                i += 1
            if c < 0:
                continue
            counts_N3C[n, LABELS, c] += i - a
            seen_C[c] = True
            acc, square, missed = zero, zero, zero
            if weighted:
                w = 0.0
                for q in range(a, i):
                    w += weight_NP[n, s + q]
                    v = own[q] * weight_NP[n, s + q]
                    acc += v
                    square += v * own[q]
                sums_NSC[n, last_slot, c] += w
            else:
                for q in range(a, i):
                    acc += own[q]
                    square += own[q] * own[q]
            sums_NSC[n, OVERLAP, c] += acc
            sums_NSC[n, PROB, c] += acc
            sums_NSC[n, PROB_SQ, c] += square
            if want_nll:
                acc = zero
                for q in range(a, i):
                    acc += nll[q] * weight_NP[n, s + q] if weighted else nll[q]
                sums_NSC[n, NLL, c] += acc
            if not want_errors:
                continue
            if weighted:
                for q in range(a, i):
                    b = min(np.int32(miss[q] * real(K)), K - 1)
                    whist_2C2K[0, c, 1, b] += weight_NP[n, s + q]
                    whist_2C2K[1, c, 1, b] += weight_NP[n, s + q] * miss[q]
                continue
            hot = np.int32(0)
            for q in range(a, i):
                missed += miss[q]
                hot += np.int32(code[q] > mask)
            total_C2[c, 1] += missed
            if hot > 0:
                scatter(code[a:i], i - a, hot, K, packed_C2K[c, 1])

        for f in range(gammas.size + powers.size):
            exponent = gammas[f] if f < gammas.size else powers[f - gammas.size]
            if f >= gammas.size:
                for i in range(L):
                    scratch[i] = power(max(nll[i], floor), exponent)
            elif exponent == two:
                for i in range(L):
                    scratch[i] = miss[i] * miss[i] * nll[i]
            else:
                for i in range(L):
                    scratch[i] = power(max(miss[i], least), exponent) * nll[i]
            if weighted:
                for i in range(L):
                    scratch[i] *= weight_NP[n, s + i]
            i = 0
            while i < L:
                c = label[i]
                a = i
                acc = zero
                while i < L and label[i] == c:
                    acc += scratch[i]
                    i += 1
                if c >= 0:
                    sums_NSC[n, FIXED_SLOTS + f, c] += acc
        if want_hits:
            for i in range(L):
                if label[i] >= 0:
                    k = best[i]
                    counts_N3C[n, PREDICTED, k] += 1
                    counts_N3C[n, HITS, k] += label[i] == k
                    if weighted:
                        sums_NSC[n, last_slot - 2, k] += weight_NP[n, s + i]
                        if label[i] == k:
                            sums_NSC[n, last_slot - 1, k] += weight_NP[n, s + i]
    return bad
