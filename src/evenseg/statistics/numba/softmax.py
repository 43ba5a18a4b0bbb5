"""Softmax statistics of three or more classes on the CPU: one pass over the logits forward, one backward.

Pixels are walked in blocks whose (C, block) probabilities stay in the cache. Inside a block every loop runs over
contiguous pixels of one class (stages.py), which the compiler vectorises; what concerns a pixel's own class is done once per
run of equal labels. Each worker writes to its own accumulators.

The lowest bin of the error histogram (packing.py) is not counted at all: its count and sum are what the other bins leave of
the totals. A class whose probabilities in a block all lie in it, the usual case for a trained network,
costs no scatter.
"""

import numpy as np

from evenseg.statistics.numba import stages
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.packing import RESIDUAL
from evenseg.statistics.numba.scalar import exp, log, power
from evenseg.statistics.slots import (
    FIXED_SLOTS,
    HITS,
    LABELS,
    NLL,
    NLL_ALL,
    OVERLAP,
    POWER_FLOOR,
    PREDICTED,
    PROB,
    PROB_SQ,
    WANT_ERRORS,
    WANT_HITS,
    WANT_NLL,
    WANT_NLL_ALL,
    WANT_OVERLAP,
    WANT_PIXEL,
    WANT_PROB,
    WANT_PROB_SQ,
)


@kernel
def _own_logits(z_CP, s, label, own_z):
    """Logit of the pixel's own class, 0 where it has none."""
    zero = z_CP.dtype.type(0)
    for i in range(label.size):
        k = label[i]
        own_z[i] = z_CP[np.uint32(k), s + i] if k >= 0 else zero


@kernel
def _add_own(own_z, top, label, others, own, total):
    """Own = exp(own_z - top); total = sum of the exponentials, 1 at ignored pixels."""
    one = own_z.dtype.type(1)
    for i in range(own_z.size):
        v = exp(own_z[i] - top[i])
        own[i] = v
        total[i] = others[i] + v if label[i] >= 0 else one


@kernel
def _clear_top(top, label):
    zero = top.dtype.type(0)
    for i in range(top.size):
        top[i] = top[i] if label[i] >= 0 else zero


@kernel
def _normalise(label, total, others, own, inv, miss):
    """Inv = 1/total (0 at ignored pixels), own = p, miss = 1 - p of the own class with its relative precision."""
    zero, one = own.dtype.type(0), own.dtype.type(1)
    for i in range(label.size):
        on = one if label[i] >= 0 else zero
        v = on / total[i]
        inv[i] = v
        own[i] = own[i] * v
        miss[i] = others[i] * v if label[i] >= 0 else zero


@kernel
def _log_loss(label, total, top, own_z, miss, nll):
    """-log p; where p is not small, log(1 - miss) by the formula that undoes the rounding of 1 - miss."""
    zero, half, one = miss.dtype.type(0), miss.dtype.type(0.5), miss.dtype.type(1)
    for i in range(label.size):
        m = miss[i]
        u = one - m
        d = one - u
        near = m < half
        w = log(u if near else total[i])
        v = -w * (m / (d if d > zero else one)) if d > zero else m
        v = v if near else w + top[i] - own_z[i]
        nll[i] = v if label[i] >= 0 else zero


@kernel
def _predictions(z_CP, s, best, most):
    """The class of the largest logit."""
    L = best.size
    row = z_CP[0, s : s + L]
    for i in range(L):
        most[i] = row[i]
        best[i] = 0
    for c in range(1, z_CP.shape[0]):
        row = z_CP[c, s : s + L]
        for i in range(L):
            best[i] = np.int32(c) if row[i] > most[i] else best[i]
            most[i] = max(most[i], row[i])


@kernel
def _count_predictions(label, best, counts_3C):
    for i in range(label.size):
        if label[i] >= 0:
            k = best[i]
            counts_3C[PREDICTED, k] += 1
            counts_3C[HITS, k] += label[i] == k


@kernel
def mark_present(y_P, ignore, present_C):
    """Mark the classes that have a label."""
    C = present_C.size
    for a in range(0, y_P.size, 32):
        some = y_P[a : a + 32]
        differ = some[0] ^ some[0]
        for i in range(some.size):
            differ |= some[i] ^ some[0]
        # neighbours mostly have the same label
        for i in range(some.size if differ != 0 else 1):
            v = np.int64(some[i])
            if v >= 0 and v < C and v != ignore:
                present_C[v] = True


@kernel
def _find_runs(label, start):
    """Where runs of equal labels begin; returns their number, start[number] being the end."""
    count = 0
    last = np.int32(-2)
    for i in range(label.size):
        start[count] = i
        count += label[i] != last
        last = label[i]
    start[count] = label.size
    return count


@kernel
def _sum_runs(start, runs, label, x, sums_C):
    """Add the sum of x over each run to the run's class."""
    for r in range(runs):
        a, b = start[r], start[r + 1]
        c = label[a]
        if c < 0:
            continue
        acc = x.dtype.type(0)
        for i in range(a, b):
            acc += x[i]
        sums_C[c] += acc


@kernel
def _count_runs(start, runs, label, counts_C):
    for r in range(runs):
        c = label[start[r]]
        if c >= 0:
            counts_C[c] += start[r + 1] - start[r]


@kernel
def _scatter_runs(start, runs, label, slot, amount, packed_C2K):
    for r in range(runs):
        a, b = start[r], start[r + 1]
        c = label[a]
        if c >= 0:
            table = packed_C2K[c, 1]
            for i in range(a, b):
                table[np.uint32(slot[i])] += np.int64(amount[i])


@kernel
def _multiply(x, y, out):
    for i in range(x.size):
        out[i] = x[i] * y[i]


@kernel
def focal_terms(miss, nll, gamma, out):
    """(1-p)^gamma (-log p)."""
    least = miss.dtype.type(1e-30)
    if gamma == 2:
        for i in range(miss.size):
            out[i] = miss[i] * miss[i] * nll[i]
    else:
        for i in range(miss.size):
            out[i] = power(max(miss[i], least), gamma) * nll[i]


@kernel
def power_terms(nll, exponent, out):
    """(-log p)^exponent."""
    floor = nll.dtype.type(POWER_FLOOR)
    for i in range(nll.size):
        out[i] = power(max(nll[i], floor), exponent)


@kernel
def _weighted_histogram(p, label, c, weight, K, whist_2C2K):
    """Float histogram of one class as background."""
    real = p.dtype.type
    for i in range(p.size):
        if label[i] >= 0 and label[i] != c:
            b = min(np.int32(p[i] * real(K)), K - 1)
            whist_2C2K[0, c, 0, b] += weight[i]
            whist_2C2K[1, c, 0, b] += weight[i] * p[i]


@kernel
def forward(
    z_NCP, y_NP, weight_NP, weighted, ignore, first, last, block, K, want, gammas, powers,
    sums_NSC, counts_N3C, packed_C2K, total_C2, whist_2C2K, counted_GC, pixel_NP, top_NP, inv_NP,
):  # fmt: skip
    """Statistics of the blocks first..last-1. Returns the number of pixels with a label outside 0..C-1.

    counted_GC says whose errors are counted, total_C2 takes the sum of all errors by side. PROB leaves out the pixel's own
    class, which OVERLAP has.
    """
    _, C, P = z_NCP.shape
    real = z_NCP.dtype.type
    blocks = (P + block - 1) // block
    e = np.empty((C, block), z_NCP.dtype)
    maps = np.empty((9, block), z_NCP.dtype)
    indices = np.empty((3, block), np.int32)
    amounts = np.empty(block, np.uint32)
    start = np.empty(block + 1, np.int64)
    scale = real(K * (1 << RESIDUAL))
    want_errors, want_hits = (want & WANT_ERRORS) != 0, (want & WANT_HITS) != 0
    want_prob, want_sq, want_all = (want & WANT_PROB) != 0, (want & WANT_PROB_SQ) != 0, (want & WANT_NLL_ALL) != 0
    want_own, want_pixel = (want & WANT_OVERLAP) != 0 or want_prob or want_sq, (want & WANT_PIXEL) != 0
    want_nll = (want & WANT_NLL) != 0 or want_pixel or want_all or gammas.size > 0 or powers.size > 0
    last_slot = sums_NSC.shape[1] - 1
    bad = 0
    for j in range(first, last):
        n, s = j // blocks, (j % blocks) * block
        L = min(block, P - s)
        # others: sum of exp over all classes but the pixel's own; miss: 1 - p of the own class, with its relative precision
        top, others, total, own_z, own = maps[0, :L], maps[1, :L], maps[2, :L], maps[3, :L], maps[4, :L]
        inv, nll, miss, scratch = maps[5, :L], maps[6, :L], maps[7, :L], maps[8, :L]
        label, best, slot, amount = indices[0, :L], indices[1, :L], indices[2, :L], amounts[:L]
        z_CP, sums_SC = z_NCP[n], sums_NSC[n]
        off, wrong = stages.read_labels(y_NP[n, s : s + L], ignore, C, label)
        bad += wrong
        top[:] = real(0)
        stages.exponentials(z_CP, s, L, label, top, e, others)
        _own_logits(z_CP, s, label, own_z)
        _add_own(own_z, top, label, others, own, total)
        if not stages.within(total, real(stages.LEAST), real(stages.MOST)):
            # logits too large or too small for a bare exponential: shift by the largest
            stages.largest_logits(z_CP, s, L, top)
            stages.exponentials(z_CP, s, L, label, top, e, others)
            _clear_top(top, label)
            _add_own(own_z, top, label, others, own, total)
        if off > 0:  # whatever stands at ignored pixels, NaN included, must not count
            stages.zero_ignored(e, L, label)
        _normalise(label, total, others, own, inv, miss)
        top_NP[n, s : s + L] = top
        inv_NP[n, s : s + L] = inv
        if want_nll:
            _log_loss(label, total, top, own_z, miss, nll)
        if want_pixel:
            pixel_NP[n, s : s + L] = nll
        if want_hits:
            _predictions(z_CP, s, best, scratch)
            _count_predictions(label, best, counts_N3C[n])
        runs = _find_runs(label, start)
        _count_runs(start, runs, label, counts_N3C[n, LABELS])
        if weighted:
            weight = weight_NP[n, s : s + L]
            for i in range(L):
                w = np.float64(weight[i])
                if label[i] >= 0:
                    sums_SC[last_slot, label[i]] += w
                    if want_hits:
                        sums_SC[last_slot - 2, best[i]] += w
                        sums_SC[last_slot - 1, best[i]] += w if label[i] == best[i] else 0.0
        if want_all:
            for c in range(C):
                row = z_CP[c, s : s + L]
                acc = real(0)
                for i in range(L):
                    v = own_z[i] - row[i] + nll[i]  # -log p_c = -log p_y + z_y - z_c
                    v = v * weight_NP[n, s + i] if weighted else v
                    acc += v if label[i] >= 0 else real(0)
                sums_SC[NLL_ALL, c] += acc

        # every class as background; the pixel's own class is 0 here and done below
        if weighted:
            for c in range(C):
                ec = e[c, :L]
                _multiply(ec, inv, ec)
                sums_SC[PROB, c] += stages.product_sum(ec, weight)
                if want_sq:
                    _multiply(ec, ec, scratch)
                    sums_SC[PROB_SQ, c] += stages.product_sum(scratch, weight)
                if want_errors:
                    _weighted_histogram(ec, label, c, weight, K, whist_2C2K)
        elif want_errors or want_prob or want_sq:
            for c in range(C):
                ec = e[c, :L]
                if want_sq:
                    acc, square = stages.product_sums(ec, inv)
                    sums_SC[PROB_SQ, c] += square
                if want_errors and counted_GC[n if counted_GC.shape[0] > 1 else 0, c]:
                    acc = stages.count_errors(ec, inv, scale, K, slot, amount, packed_C2K[c, 0], z_CP[c], s + block)
                    total_C2[c, 0] += acc
                elif want_prob and not want_sq:
                    acc = stages.product_sum(ec, inv)
                elif not want_sq:
                    continue
                sums_SC[PROB, c] += acc

        # the pixel's own class, by runs of equal labels
        if want_errors and weighted:
            for i in range(L):
                if label[i] >= 0:
                    b = min(np.int32(miss[i] * real(K)), K - 1)
                    whist_2C2K[0, label[i], 1, b] += weight[i]
                    whist_2C2K[1, label[i], 1, b] += weight[i] * miss[i]
        elif want_errors:
            others[:] = real(1)
            _, hot = stages.encode(miss, others, scale, K, slot, amount)
            if hot > 0:
                _scatter_runs(start, runs, label, slot, amount, packed_C2K)
            _sum_runs(start, runs, label, miss, total_C2[:, 1])
        if weighted:
            _multiply(nll, weight, nll)
        if want_own:
            if want_sq:
                _multiply(own, own, scratch)
                if weighted:
                    _multiply(scratch, weight, scratch)
                _sum_runs(start, runs, label, scratch, sums_SC[PROB_SQ])
            if weighted:
                _multiply(own, weight, own)
            _sum_runs(start, runs, label, own, sums_SC[OVERLAP])
        if (want & WANT_NLL) != 0:
            _sum_runs(start, runs, label, nll, sums_SC[NLL])
        for f in range(gammas.size):
            focal_terms(miss, nll, gammas[f], scratch)
            _sum_runs(start, runs, label, scratch, sums_SC[FIXED_SLOTS + f])
        for f in range(powers.size):
            if weighted:  # the weight stands outside the power
                _log_loss(label, total, top, own_z, miss, nll)
            power_terms(nll, powers[f], scratch)
            if weighted:
                _multiply(scratch, weight, scratch)
            _sum_runs(start, runs, label, scratch, sums_SC[FIXED_SLOTS + gammas.size + f])
    return bad
