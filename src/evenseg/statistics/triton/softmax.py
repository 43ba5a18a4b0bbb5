"""Softmax statistics on the GPU: one read of the logits forward, one read and one write backward.

A program takes every n-th tile of pixels of one image, with all classes of the tile in registers where they fit (SINGLE). For more
classes `normalisers` reads the logits once for log-sum-exp, and the programs of `sums` take a range of classes each.

Histogram counters pack count and sum into one 64-bit integer (packing.py), so that one atomic addition serves both and the
result depends on no order. The lowest bin is not counted, for nothing ranks below it: it is what the others leave of the totals.
Sums of floats are kept by program and added up in a fixed order afterwards.

Shapes: z (N, C, P) with strides; labels, weights and maps (N, P); sums (programs, S, C); histogram (copies, G, C, 2, W).
"""

import triton
import triton.language as tl

from evenseg.statistics import slots
from evenseg.statistics.triton.packing import RESIDUAL, SHIFT

_PROB, _PROB_SQ, _OVERLAP = tl.constexpr(slots.PROB), tl.constexpr(slots.PROB_SQ), tl.constexpr(slots.OVERLAP)
_NLL, _NLL_ALL, _FIXED = tl.constexpr(slots.NLL), tl.constexpr(slots.NLL_ALL), tl.constexpr(slots.FIXED_SLOTS)
_LABELS, _PREDICTED, _HITS = tl.constexpr(slots.LABELS), tl.constexpr(slots.PREDICTED), tl.constexpr(slots.HITS)
_WANT_PROB, _WANT_SQ, _WANT_OVERLAP = tl.constexpr(slots.WANT_PROB), tl.constexpr(slots.WANT_PROB_SQ), tl.constexpr(slots.WANT_OVERLAP)
_WANT_NLL, _WANT_ALL, _WANT_HITS = tl.constexpr(slots.WANT_NLL), tl.constexpr(slots.WANT_NLL_ALL), tl.constexpr(slots.WANT_HITS)
_WANT_ERRORS, _WANT_PIXEL, _WANT_ABSENT = tl.constexpr(slots.WANT_ERRORS), tl.constexpr(slots.WANT_PIXEL), tl.constexpr(slots.WANT_ABSENT)
_FLOOR = tl.constexpr(slots.POWER_FLOOR)
_RESIDUAL, _UNITS, _INSIDE = tl.constexpr(RESIDUAL), tl.constexpr(float(1 << RESIDUAL)), tl.constexpr((1 << RESIDUAL) - 1)
_ONE = tl.constexpr(1 << SHIFT)  # one error, in a packed counter
_COUNT_SLOTS = tl.constexpr(slots.COUNT_SLOTS)


@triton.jit
def _read_labels(y, n, P, pixel, C, ignore):
    """Labels of a tile; which pixels count; how many labels are bad."""
    inside = pixel < P
    label = tl.load(y + n * P + pixel, mask=inside, other=0).to(tl.int64)
    outside = (label < 0) | (label >= C)
    on = inside & (label != ignore) & (outside == 0)
    bad = tl.sum((inside & (label != ignore) & outside).to(tl.int32), 0)
    return tl.where(on, label, -1).to(tl.int32), on, bad


@triton.jit
def _log_loss(miss, log_ratio):
    """-log p, given 1 - p with its relative precision; where p is small, log_ratio = lse - z is better."""
    u = 1.0 - miss
    d = 1.0 - u
    near = -tl.log(tl.where(miss < 0.5, u, 1.0)) * (miss / tl.where(d > 0, d, 1.0))  # undoes the rounding of 1 - miss
    return tl.where(miss < 0.5, tl.where(d > 0, near, miss), log_ratio)


@triton.jit
def _power(x, exponent):
    """x^exponent for x > 0."""
    return tl.exp(exponent * tl.log(x))


@triton.jit
def _focal(miss, nll, gamma):
    """m^g (-log p), 0 at m = 0."""
    return tl.where(miss > 0, tl.where(gamma == 0, 1.0, _power(tl.where(miss > 0, miss, 1.0), gamma)) * nll, 0.0)


@triton.jit
def _add(acc, slot_S, slot, column):
    """Add a (BC,) column to one slot of the (BS, BC) accumulator."""
    return acc + tl.where(slot_S[:, None] == slot, column[None, :].to(acc.dtype), 0)


@triton.jit
def normalisers(
    z, y, lse, miss, best, bad, N, C, P, stride_n, stride_c, stride_p, ignore, WANT: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp, 1 - p of the own class and the predicted class of every pixel, for more classes than registers hold."""
    n = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    label, on, wrong = _read_labels(y, n, P, pixel, C, ignore)
    tl.atomic_add(bad, wrong.to(tl.int64), mask=wrong > 0)
    top = tl.full((BP,), -float("inf"), tl.float32)
    total = tl.zeros((BP,), tl.float32)
    own = tl.zeros((BP,), tl.float32)
    highest = tl.full((BP,), -float("inf"), tl.float32)
    argument = tl.zeros((BP,), tl.int32)
    for first in range(0, C, BC):
        c = first + tl.arange(0, BC)
        at = z + n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
        x = tl.load(at, mask=(c < C)[:, None] & on[None, :], other=-float("inf")).to(tl.float32)
        if _WANT_HITS & WANT:
            high = tl.max(x, 0)
            where = tl.argmax(x, 0, tie_break_left=True) + first
            argument = tl.where(high > highest, where, argument)
            highest = tl.maximum(high, highest)
        mine = c[:, None] == label[None, :]
        own += tl.sum(tl.where(mine, x, 0.0), 0)
        new = tl.maximum(top, tl.max(x, 0))
        shift = tl.where(new == -float("inf"), 0.0, new)  # nothing finite yet
        total = total * tl.exp(tl.where(top == -float("inf"), -float("inf"), top - shift))
        total += tl.sum(tl.where(mine, 0.0, tl.exp(x - shift[None, :])), 0)
        top = new
    shift = tl.where(top == -float("inf"), 0.0, top)
    e = tl.exp(own - shift)
    everything = tl.where(on, total + e, 1.0)
    inside = pixel < P
    tl.store(lse + n * P + pixel, tl.where(on, shift + tl.log(everything), 0.0), mask=inside)
    tl.store(miss + n * P + pixel, tl.where(on, total / everything, 0.0), mask=inside)
    if _WANT_HITS & WANT:
        tl.store(best + n * P + pixel, argument, mask=inside)


@triton.jit
def sums(
    z, y, w, unit, gammas, powers, lse, miss_map, best, sums_out, counts_out, totals_out, histogram, weights, peak, pixel_out, bad,
    N, C, P, stride_n, stride_c, stride_p, ignore, G, K, W, copies, first_tile, last_tile,
    WANT: tl.constexpr, GAMMAS: tl.constexpr, POWERS: tl.constexpr, WEIGHTED: tl.constexpr, SINGLE: tl.constexpr,
    BS: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Sums, counts and histogram of the tiles first_tile..last_tile-1 of every image."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    n = tl.program_id(1).to(tl.int64)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    row = (n * programs + program).to(tl.int64)
    group = tl.where(G > 1, n, 0)
    slot_S = tl.arange(0, BS)
    count_S = tl.arange(0, 4)
    S = _FIXED + GAMMAS + POWERS + 3
    acc = tl.zeros((BS, BC), tl.float64)
    count = tl.zeros((4, BC), tl.int32)
    total_bg, total_fg = tl.zeros((BC,), tl.float64), tl.zeros((BC,), tl.float64)
    highest = tl.zeros((BC,), tl.int64) - 1
    scale = K * _UNITS
    table = histogram + (row % copies) * (G * C * 2 * W) + (group * C + c.to(tl.int64)) * (2 * W)
    weight_table = weights + (row % copies) * (G * C * 2 * W) + (group * C + c.to(tl.int64)) * (2 * W)
    for tile in range(first_tile + program, last_tile, programs):
        pixel = tile * BP + tl.arange(0, BP).to(tl.int64)
        label, on, wrong = _read_labels(y, n, P, pixel, C, ignore)
        at = z + n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
        here = (c < C)[:, None] & on[None, :]
        x = tl.load(at, mask=here, other=-float("inf")).to(tl.float32)
        own = c[:, None] == label[None, :]
        if SINGLE:
            z_own = tl.sum(tl.where(own, x, 0.0), 0)
            tl.atomic_add(bad, wrong.to(tl.int64), mask=wrong > 0)
            top = tl.max(x, 0)
            top = tl.where(top == -float("inf"), 0.0, top)
            e = tl.exp(x - top[None, :])
            others = tl.sum(tl.where(own, 0.0, e), 0)
            everything = tl.where(on, others + tl.sum(tl.where(own, e, 0.0), 0), 1.0)
            p = e / everything[None, :]
            miss = tl.where(on, others / everything, 0.0)
            log_all = top + tl.log(everything)
            predicted = tl.argmax(x, 0, tie_break_left=True)
        else:
            own_at = n * stride_n + tl.maximum(label, 0).to(tl.int64) * stride_c + pixel * stride_p
            z_own = tl.load(z + own_at, mask=on, other=0.0).to(tl.float32)
            log_all = tl.load(lse + n * P + pixel, mask=on, other=0.0)
            miss = tl.load(miss_map + n * P + pixel, mask=on, other=0.0)
            p = tl.exp(x - log_all[None, :])
            predicted = label
            if _WANT_HITS & WANT:
                predicted = tl.load(best + n * P + pixel, mask=on, other=-1)
        p = tl.where(here, p, 0.0)
        weight = on.to(tl.float32)
        if WEIGHTED:
            weight = tl.where(on, tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32), 0.0)
        count = count + tl.where(count_S[:, None] == _LABELS, tl.sum((own & on[None, :]).to(tl.int32), 1)[None, :], 0)
        if WEIGHTED:
            acc = _add(acc, slot_S, S - 1, tl.sum(tl.where(own, weight[None, :], 0.0), 1))
        if _WANT_HITS & WANT:
            shown = (c[:, None] == predicted[None, :]) & on[None, :]
            count = count + tl.where(count_S[:, None] == _PREDICTED, tl.sum(shown.to(tl.int32), 1)[None, :], 0)
            count = count + tl.where(count_S[:, None] == _HITS, tl.sum((shown & own).to(tl.int32), 1)[None, :], 0)
            if WEIGHTED:
                acc = _add(acc, slot_S, S - 3, tl.sum(tl.where(shown, weight[None, :], 0.0), 1))
                acc = _add(acc, slot_S, S - 2, tl.sum(tl.where(shown & own, weight[None, :], 0.0), 1))
        if _WANT_PROB & WANT:
            acc = _add(acc, slot_S, _PROB, tl.sum(p * weight[None, :], 1))
        if _WANT_SQ & WANT:
            acc = _add(acc, slot_S, _PROB_SQ, tl.sum(p * p * weight[None, :], 1))
        if _WANT_OVERLAP & WANT:
            acc = _add(acc, slot_S, _OVERLAP, tl.sum(tl.where(own, p * weight[None, :], 0.0), 1))
        if ((_WANT_NLL | _WANT_ALL | _WANT_PIXEL) & WANT) | (GAMMAS > 0) | (POWERS > 0):
            nll = tl.where(on, _log_loss(miss, log_all - z_own), 0.0)
            if _WANT_NLL & WANT:
                acc = _add(acc, slot_S, _NLL, tl.sum(tl.where(own, (nll * weight)[None, :], 0.0), 1))
            if _WANT_ALL & WANT:
                every = nll[None, :] + z_own[None, :] - x  # -log p_c = -log p_y + z_y - z_c
                acc = _add(acc, slot_S, _NLL_ALL, tl.sum(tl.where(here, every * weight[None, :], 0.0), 1))
            if _WANT_PIXEL & WANT:
                tl.store(pixel_out + n * P + pixel, nll, mask=(pixel < P) & (tl.program_id(2) == 0))
            for f in tl.static_range(GAMMAS):
                term = _focal(miss, nll, tl.load(gammas + f)) * weight
                acc = _add(acc, slot_S, _FIXED + f, tl.sum(tl.where(own, term[None, :], 0.0), 1))
            for f in tl.static_range(POWERS):
                term = tl.where(on, _power(tl.maximum(nll, _FLOOR), tl.load(powers + f)), 0.0) * weight
                acc = _add(acc, slot_S, _FIXED + GAMMAS + f, tl.sum(tl.where(own, term[None, :], 0.0), 1))
        if _WANT_ERRORS & WANT:
            # the own class's error is 1 - p, known with more digits than 1 - p can have
            error = tl.where(own, miss[None, :], p)
            place = (error * scale).to(tl.int32)
            hot = here & (place >> _RESIDUAL > 0)
            if WEIGHTED:
                hot = hot & (weight > 0)[None, :]
            bins = tl.minimum(place >> _RESIDUAL, K)
            offset = tl.where(own, W, 0) + bins
            inside = (place & _INSIDE).to(tl.int64)
            weighted_error = tl.where(here, error * weight[None, :], 0.0)
            total_fg += tl.sum(tl.where(own, weighted_error, 0.0), 1).to(tl.float64)
            total_bg += tl.sum(tl.where(own, 0.0, weighted_error), 1).to(tl.float64)
            if WEIGHTED:
                # fixed point: whole numbers do not depend on the order of addition either
                amount = (weight * tl.load(unit) + 0.5).to(tl.int64)
                tl.atomic_add(weight_table[:, None] + offset, tl.broadcast_to(amount[None, :], (BC, BP)), mask=hot, sem="relaxed")
                tl.atomic_add(table[:, None] + offset, amount[None, :] * inside, mask=hot, sem="relaxed")
            else:
                one = tl.full((BC, BP), _ONE, tl.int64)
                tl.atomic_add(table[:, None] + offset, one | inside, mask=hot, sem="relaxed")
            if _WANT_ABSENT & WANT:
                # the bits of floats that are not negative sort as the floats do; ties go to the first pixel
                bits = error.to(tl.int32, bitcast=True).to(tl.int64)
                key = (bits << 32) | (0xFFFFFFFF - ((tl.where(G > 1, 0, n) * P + pixel)[None, :] & 0xFFFFFFFF))
                candidate = here & (own == 0) & (error > 0) & (weight > 0)[None, :]
                highest = tl.maximum(highest, tl.max(tl.where(candidate, key, -1), 1))
    # what this program found
    column = c < C
    at_sums = sums_out + row * (S * C) + slot_S[:, None] * C + c[None, :]
    used = (slot_S < S)[:, None] & column[None, :]
    tl.store(at_sums, tl.load(at_sums, mask=used, other=0.0) + acc, mask=used)
    at_counts = counts_out + row * (_COUNT_SLOTS * C) + count_S[:, None] * C + c[None, :]
    keep = (count_S < _COUNT_SLOTS)[:, None] & column[None, :]
    tl.store(at_counts, tl.load(at_counts, mask=keep, other=0) + count.to(tl.int64), mask=keep)
    if _WANT_ERRORS & WANT:
        at_totals = totals_out + row * (C * 2) + c * 2
        tl.store(at_totals, tl.load(at_totals, mask=column, other=0.0) + total_bg, mask=column)
        tl.store(at_totals + 1, tl.load(at_totals + 1, mask=column, other=0.0) + total_fg, mask=column)
        if _WANT_ABSENT & WANT:
            tl.atomic_max(peak + group * C + c, highest, mask=column & (highest >= 0))


@triton.jit
def _weights(p, own, miss, on, c, n, C, grads, table, group, K, W, S, WANT: tl.constexpr, column):
    """d/dp of what is a sum of functions of the probabilities, and the own class's part of the gradient through log p."""
    flat = tl.load(grads + n * (S * C) + _PROB * C + c, mask=column, other=0.0)
    square = tl.load(grads + n * (S * C) + _PROB_SQ * C + c, mask=column, other=0.0)
    gain = tl.load(grads + n * (S * C) + _OVERLAP * C + c, mask=column, other=0.0)
    v = flat[:, None] + 2.0 * square[:, None] * p + tl.where(own, gain[:, None], 0.0)
    if _WANT_ERRORS & WANT:
        error = tl.where(own, miss[None, :], p)
        bins = tl.minimum((error * (K * 1.0)).to(tl.int32), K - 1)
        at = table + (group * C + c.to(tl.int64))[:, None] * (2 * W) + tl.where(own, W, 0) + bins
        slope = tl.load(at, mask=column[:, None] & on[None, :], other=0.0)
        v += tl.where(own, -slope, slope)
    return v


@triton.jit
def _own_slope(label, on, n, p_own, nll, grads, gammas, powers, grad_pixel, w, pixel, C, P, S, WANT: tl.constexpr, GAMMAS: tl.constexpr,
               POWERS: tl.constexpr, WEIGHTED: tl.constexpr):  # fmt: skip
    """d/dlog p of the own class's terms."""
    mine = grads + n * (S * C) + tl.maximum(label, 0)
    slope = -tl.load(mine + _NLL * C, mask=on, other=0.0)
    if _WANT_PIXEL & WANT:
        # the map is not weighted: its weights are the caller's
        v = tl.load(grad_pixel + n * P + pixel, mask=on, other=0.0).to(tl.float32)
        if WEIGHTED:
            weight = tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32)
            v = tl.where(weight > 0, v / tl.where(weight > 0, weight, 1.0), 0.0)
        slope -= v
    for f in tl.static_range(GAMMAS):
        # of m^g (-log p): -m^g (1 + g p (-log p)/m), where (-log p)/m -> 1 at p = 1
        gamma = tl.load(gammas + f)
        miss = tl.maximum(tl.where(nll < 1e-3, nll * (1.0 - 0.5 * nll), 1.0 - p_own), 1e-30)
        ratio = tl.where(nll > 1e-30, nll / miss, 1.0)
        term = tl.where(gamma == 0, 1.0, _power(miss, gamma) * (1.0 + gamma * p_own * ratio))
        slope -= tl.load(mine + (_FIXED + f) * C, mask=on, other=0.0) * term
    for f in tl.static_range(POWERS):
        exponent = tl.load(powers + f)
        term = tl.where(nll > _FLOOR, exponent * _power(tl.maximum(nll, _FLOOR), exponent - 1.0), 0.0)
        slope -= tl.load(mine + (_FIXED + GAMMAS + f) * C, mask=on, other=0.0) * term
    return tl.where(on, slope, 0.0)


@triton.jit
def backward(
    z, y, w, gammas, powers, lse, grads, table, grad_pixel, out, N, C, P, stride_n, stride_c, stride_p, ignore, G, K, W,
    WANT: tl.constexpr, GAMMAS: tl.constexpr, POWERS: tl.constexpr, WEIGHTED: tl.constexpr, SINGLE: tl.constexpr,
    BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Gradient with respect to the logits: p_k (w_k - sum_c p_c w_c - s + h) + [k = y] s - h_k, times the pixel's weight.

    w_c is d/dp_c, s is d/dlog p_y, h_c the gradient of the sum of -log p_c over all pixels, h its sum over c.
    """
    n = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    group = tl.where(G > 1, n, 0)
    S = _FIXED + GAMMAS + POWERS + 3
    label, on, _ = _read_labels(y, n, P, pixel, C, ignore)
    inside = pixel < P
    dot, every = tl.zeros((BP,), tl.float32), 0.0
    if SINGLE:
        c = tl.arange(0, BC)
        column = c < C
        here = column[:, None] & on[None, :]
        at = n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
        x = tl.load(z + at, mask=here, other=-float("inf")).to(tl.float32)
        own = c[:, None] == label[None, :]
        top = tl.max(x, 0)
        top = tl.where(top == -float("inf"), 0.0, top)
        e = tl.exp(x - top[None, :])
        others = tl.sum(tl.where(own, 0.0, e), 0)
        everything = tl.where(on, others + tl.sum(tl.where(own, e, 0.0), 0), 1.0)
        p = tl.where(here, e / everything[None, :], 0.0)
        miss = others / everything
        nll = _log_loss(miss, top + tl.log(everything) - tl.sum(tl.where(own, x, 0.0), 0))
        v = _weights(p, own, miss, on, c, n, C, grads, table, group, K, W, S, WANT, column)
        p_own = tl.sum(tl.where(own, p, 0.0), 0)
        slope = _own_slope(label, on, n, p_own, nll, grads, gammas, powers, grad_pixel, w, pixel, C, P, S, WANT, GAMMAS, POWERS, WEIGHTED)
        dot = tl.sum(p * v, 0) + slope
        g = p * (v - dot[None, :]) + tl.where(own, slope[None, :], 0.0)
        if _WANT_ALL & WANT:
            h = tl.load(grads + n * (S * C) + _NLL_ALL * C + c, mask=column, other=0.0)
            g += p * tl.sum(h, 0) - h[:, None]
        if WEIGHTED:
            g *= tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32)[None, :]
        tl.store(out + at, tl.where(on[None, :], g, 0.0).to(out.dtype.element_ty), mask=column[:, None] & inside[None, :])
    else:
        log_all = tl.load(lse + n * P + pixel, mask=on, other=0.0)
        own_at = n * stride_n + tl.maximum(label, 0).to(tl.int64) * stride_c + pixel * stride_p
        z_own = tl.load(z + own_at, mask=on, other=0.0).to(tl.float32)
        nll = tl.where(on, tl.maximum(log_all - z_own, 0.0), 0.0)
        p_own = tl.exp(-nll)
        miss = tl.where(nll < 1e-3, nll * (1.0 - 0.5 * nll), 1.0 - p_own)
        for first in range(0, C, BC):
            c = first + tl.arange(0, BC)
            column = c < C
            here = column[:, None] & on[None, :]
            at = n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
            p = tl.where(here, tl.exp(tl.load(z + at, mask=here, other=-float("inf")).to(tl.float32) - log_all[None, :]), 0.0)
            own = c[:, None] == label[None, :]
            dot += tl.sum(p * _weights(p, own, miss, on, c, n, C, grads, table, group, K, W, S, WANT, column), 0)
            if _WANT_ALL & WANT:
                every += tl.sum(tl.load(grads + n * (S * C) + _NLL_ALL * C + c, mask=column, other=0.0), 0)
        slope = _own_slope(label, on, n, p_own, nll, grads, gammas, powers, grad_pixel, w, pixel, C, P, S, WANT, GAMMAS, POWERS, WEIGHTED)
        dot += slope - every
        for first in range(0, C, BC):
            c = first + tl.arange(0, BC)
            column = c < C
            here = column[:, None] & on[None, :]
            at = n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
            p = tl.where(here, tl.exp(tl.load(z + at, mask=here, other=-float("inf")).to(tl.float32) - log_all[None, :]), 0.0)
            own = c[:, None] == label[None, :]
            v = _weights(p, own, miss, on, c, n, C, grads, table, group, K, W, S, WANT, column)
            g = p * (v - dot[None, :]) + tl.where(own, slope[None, :], 0.0)
            if _WANT_ALL & WANT:
                g -= tl.load(grads + n * (S * C) + _NLL_ALL * C + c, mask=column, other=0.0)[:, None]
            if WEIGHTED:
                g *= tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32)[None, :]
            tl.store(out + at, tl.where(on[None, :], g, 0.0).to(out.dtype.element_ty), mask=column[:, None] & inside[None, :])


@triton.jit
def list_open(
    z, y, lse, opened, any_open, used, error_out, place_out, pixel_out, capacity, N, C, P, stride_n, stride_c, stride_p, ignore, G, K,
    SINGLE: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """List the errors in the opened bins (statistics/ranking.py), in no particular order; does nothing if none is open."""
    if tl.load(any_open) == 0:
        return
    n = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    group = tl.where(G > 1, n, 0)
    label, on, _ = _read_labels(y, n, P, pixel, C, ignore)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    here = (c < C)[:, None] & on[None, :]
    at = n * stride_n + c.to(tl.int64)[:, None] * stride_c + pixel[None, :] * stride_p
    x = tl.load(z + at, mask=here, other=-float("inf")).to(tl.float32)
    own = c[:, None] == label[None, :]
    if SINGLE:
        top = tl.max(x, 0)
        top = tl.where(top == -float("inf"), 0.0, top)
        e = tl.exp(x - top[None, :])
        others = tl.sum(tl.where(own, 0.0, e), 0)
        everything = tl.where(on, others + tl.sum(tl.where(own, e, 0.0), 0), 1.0)
        error = tl.where(own, (others / everything)[None, :], e / everything[None, :])
    else:
        log_all = tl.load(lse + n * P + pixel, mask=on, other=0.0)
        p = tl.exp(x - log_all[None, :])
        error = tl.where(own, 1.0 - p, p)
    bins = tl.minimum((error * (K * 1.0)).to(tl.int32), K - 1)
    row = group * C + c.to(tl.int64)
    chosen = tl.load(opened + row[:, None] * K + bins, mask=here, other=0) != 0
    chosen = chosen & here
    index = tl.atomic_add(used + tl.zeros((BC, BP), tl.int32), tl.full((BC, BP), 1, tl.int32), mask=chosen)
    keep = chosen & (index < capacity)
    tl.store(error_out + index, error, mask=keep)
    tl.store(place_out + index * 4, tl.broadcast_to(group, (BC, BP)).to(tl.int64), mask=keep)
    tl.store(place_out + index * 4 + 1, tl.broadcast_to(c.to(tl.int64)[:, None], (BC, BP)), mask=keep)
    tl.store(place_out + index * 4 + 2, own.to(tl.int64), mask=keep)
    tl.store(place_out + index * 4 + 3, bins.to(tl.int64), mask=keep)
    tl.store(pixel_out + index, tl.broadcast_to((n * P + pixel)[None, :], (BC, BP)), mask=keep)
