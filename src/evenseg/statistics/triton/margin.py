"""Two-sided statistics on the GPU: sigmoid outputs and hinge errors, channel by channel.

All of them depend on a pixel only through its margin u = z on the foreground and -z on the background; see
statistics/numba/margin.py. Shapes: z (N, R, P) with strides; labels (N, R or 1, P); sums (programs, R, 2, S).
"""

import triton
import triton.language as tl

from evenseg.statistics import slots
from evenseg.statistics.bins import OCTAVES
from evenseg.statistics.triton.packing import RESIDUAL, SHIFT
from evenseg.statistics.triton.softmax import _focal, _power

_MISS, _MISS_SQ, _NLL, _FIXED = (
    tl.constexpr(slots.MISS), tl.constexpr(slots.MISS_SQ), tl.constexpr(slots.MARGIN_NLL), tl.constexpr(slots.MARGIN_FIXED_SLOTS),
)  # fmt: skip
_MARGIN = tl.constexpr(slots.MARGIN)
_PIXELS, _HITS, _ZEROS = tl.constexpr(slots.PIXELS), tl.constexpr(slots.MARGIN_HITS), tl.constexpr(slots.ZEROS)
_COUNT_SLOTS = tl.constexpr(slots.MARGIN_COUNT_SLOTS)
_WANT_MISS, _WANT_SQ = tl.constexpr(slots.WANT_MISS), tl.constexpr(slots.WANT_PROB_SQ)
_WANT_NLL, _WANT_ALL, _WANT_HITS = tl.constexpr(slots.WANT_NLL), tl.constexpr(slots.WANT_NLL_ALL), tl.constexpr(slots.WANT_HITS)
_WANT_ERRORS, _WANT_PIXEL, _WANT_ABSENT = tl.constexpr(slots.WANT_ERRORS), tl.constexpr(slots.WANT_PIXEL), tl.constexpr(slots.WANT_ABSENT)
_FLOOR = tl.constexpr(slots.POWER_FLOOR)
_RESIDUAL, _UNITS, _INSIDE = tl.constexpr(RESIDUAL), tl.constexpr(float(1 << RESIDUAL)), tl.constexpr((1 << RESIDUAL) - 1)
_ONE, _OCTAVES = tl.constexpr(1 << SHIFT), tl.constexpr(OCTAVES)
_LIMIT, _PER_MANTISSA = tl.constexpr(float(1 << OCTAVES)), tl.constexpr(0.5 ** (23 - RESIDUAL))


@triton.jit
def _read_sides(y, base, P, pixel, positive, labels_to, ignore):
    """1 where the label is `positive`, 0 elsewhere, -1 where it does not count; and how many labels are bad."""
    inside = pixel < P
    label = tl.load(y + base + pixel, mask=inside, other=0).to(tl.int64)
    outside = (label < 0) | (label >= labels_to)
    on = inside & (label != ignore) & (outside == 0)
    bad = tl.sum((inside & (label != ignore) & outside).to(tl.int32), 0)
    return tl.where(on, (label == positive).to(tl.int32), -1), on, bad


@triton.jit
def _sigmoid(u):
    """sigmoid(-u) and log(1 + e^-u), each with its relative precision."""
    tail = tl.exp(-tl.abs(u))
    miss = tl.where(u >= 0, tail, 1.0) / (1.0 + tail)
    v = 1.0 + tail
    d = v - 1.0
    log1p = tl.where(d > 0, tl.log(v) * (tail / tl.where(d > 0, d, 1.0)), tail)  # undoes the rounding of 1 + tail
    return miss, log1p + tl.maximum(-u, 0.0)


@triton.jit
def _place(u, miss, K, HINGE: tl.constexpr):
    """Error of a margin, and its bin and position in it, packed (statistics/bins.py)."""
    if HINGE:
        error = tl.maximum(1.0 - u, 0.0)
        per_octave = K // _OCTAVES
        # 1 + m: exponent and leading bits of the float
        limited = tl.minimum(1.0 + error, _LIMIT)
        bits = limited.to(tl.int32, bitcast=True)
        octave = (bits >> 23) - 127
        inside = (bits & 0x7FFFFF).to(tl.float32) * (per_octave * _PER_MANTISSA)
        place = ((octave * per_octave) << _RESIDUAL) + inside.to(tl.int32)
    else:
        error = miss
        place = (error * (K * _UNITS)).to(tl.int32)
    return error, place


@triton.jit
def _both(acc, slot_S, slot, value, foreground, background):
    """Add the sums of a tile over the two sides to one slot of the (2, BS) accumulator."""
    side = tl.arange(0, 2)[:, None]
    bg, fg = tl.sum(tl.where(background, value, 0.0), 0), tl.sum(tl.where(foreground, value, 0.0), 0)
    return acc + tl.where(slot_S[None, :] == slot, tl.where(side == 1, fg, bg).to(acc.dtype), 0)


@triton.jit
def sums(
    z, y, w, unit, gammas, powers, positive, sums_out, counts_out, totals_out, excess_out, histogram, weights, peak, pixel_out, bad,
    N, R, YR, P, stride_n, stride_c, stride_p, labels_to, ignore, G, K, W, copies, first_tile, last_tile,
    WANT: tl.constexpr, GAMMAS: tl.constexpr, POWERS: tl.constexpr, WEIGHTED: tl.constexpr, HINGE: tl.constexpr,
    BS: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Sums, counts and histogram by side of the tiles first_tile..last_tile-1 of every row."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    n, r = tl.program_id(1).to(tl.int64), tl.program_id(2)
    row = (n * programs + program) * R + r
    group = tl.where(G > 1, n, 0)
    slot_S = tl.arange(0, BS)
    count_S = tl.arange(0, 4)
    side_2 = tl.arange(0, 2)[:, None]
    S = _FIXED + GAMMAS + POWERS + 2
    acc = tl.zeros((2, BS), tl.float64)
    count = tl.zeros((2, 4), tl.int32)
    total_bg, total_fg = tl.zeros((), tl.float64), tl.zeros((), tl.float64)
    excess_bg, excess_fg = tl.zeros((), tl.float64), tl.zeros((), tl.float64)
    high_bg, high_fg = tl.zeros((), tl.int64) - 1, tl.zeros((), tl.int64) - 1
    table = histogram + ((n * programs + program) % copies) * (G * R * 2 * W) + (group * R + r) * (2 * W)
    weight_table = weights + ((n * programs + program) % copies) * (G * R * 2 * W) + (group * R + r) * (2 * W)
    target = tl.load(positive + r)
    for tile in range(first_tile + program, last_tile, programs):
        pixel = tile * BP + tl.arange(0, BP).to(tl.int64)
        side, on, wrong = _read_sides(y, (n * YR + tl.where(YR > 1, r, 0)) * P, P, pixel, target, labels_to, ignore)
        tl.atomic_add(bad, wrong.to(tl.int64), mask=wrong > 0)
        x = tl.load(z + n * stride_n + r.to(tl.int64) * stride_c + pixel * stride_p, mask=on, other=0.0).to(tl.float32)
        u = tl.where(side == 1, x, -x)
        weight = on.to(tl.float32)
        foreground, background = side == 1, side == 0
        counted = tl.where(side_2 == 1, tl.sum(foreground.to(tl.int32), 0), tl.sum(background.to(tl.int32), 0))
        count += tl.where(count_S[None, :] == _PIXELS, counted, 0)
        right_fg, right_bg = foreground & (u > 0), background & (u >= 0)  # ties go to the background
        if WEIGHTED:
            weight = tl.where(on, tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32), 0.0)
            acc = _both(acc, slot_S, S - 2, weight, foreground, background)
            acc = _both(acc, slot_S, S - 1, weight, right_fg, right_bg)
        if _WANT_HITS & WANT:
            hits = tl.where(side_2 == 1, tl.sum(right_fg.to(tl.int32), 0), tl.sum(right_bg.to(tl.int32), 0))
            count += tl.where(count_S[None, :] == _HITS, hits, 0)
        miss, nll = _sigmoid(u)
        if _WANT_MISS & WANT:
            acc = _both(acc, slot_S, _MISS, miss * weight, foreground, background)
        if _WANT_SQ & WANT:
            acc = _both(acc, slot_S, _MISS_SQ, miss * miss * weight, foreground, background)
        if _WANT_NLL & WANT:
            acc = _both(acc, slot_S, _NLL, nll * weight, foreground, background)
        if _WANT_ALL & WANT:
            acc = _both(acc, slot_S, _MARGIN, u * weight, foreground, background)
        if _WANT_PIXEL & WANT:
            tl.store(pixel_out + (n * R + r) * P + pixel, tl.where(on, nll, 0.0), mask=pixel < P)
        for f in tl.static_range(GAMMAS):
            acc = _both(acc, slot_S, _FIXED + f, _focal(miss, nll, tl.load(gammas + f)) * weight, foreground, background)
        for f in tl.static_range(POWERS):
            term = _power(tl.maximum(nll, _FLOOR), tl.load(powers + f)) * weight
            acc = _both(acc, slot_S, _FIXED + GAMMAS + f, term, foreground, background)
        if _WANT_ERRORS & WANT:
            error, place = _place(u, miss, K, HINGE)
            none = on & (error == 0.0)
            if HINGE:  # nothing ranks below an error of 0
                zeros = tl.where(side_2 == 1, tl.sum((none & foreground).to(tl.int32), 0), tl.sum((none & background).to(tl.int32), 0))
                count += tl.where(count_S[None, :] == _ZEROS, zeros, 0)
                # the last bin has no upper edge: what lies beyond 2^octaves is added by itself
                beyond = tl.maximum(error - (_LIMIT - 1.0), 0.0) * weight
                excess_fg += tl.sum(tl.where(foreground, beyond, 0.0), 0).to(tl.float64)
                excess_bg += tl.sum(tl.where(background, beyond, 0.0), 0).to(tl.float64)
                if WEIGHTED:  # the weight of what is counted
                    acc = _both(acc, slot_S, S, tl.where(none, 0.0, weight), foreground, background)
            total_fg += tl.sum(tl.where(foreground, error * weight, 0.0), 0).to(tl.float64)
            total_bg += tl.sum(tl.where(background, error * weight, 0.0), 0).to(tl.float64)
            hot = on & (place >> _RESIDUAL > 0)
            bins = tl.minimum(place >> _RESIDUAL, K)
            offset = tl.where(foreground, W, 0) + bins
            inside = (place & _INSIDE).to(tl.int64)
            if WEIGHTED:
                amount = (weight * tl.load(unit) + 0.5).to(tl.int64)
                tl.atomic_add(weight_table + offset, amount, mask=hot & (weight > 0), sem="relaxed")
                tl.atomic_add(table + offset, amount * inside, mask=hot & (weight > 0), sem="relaxed")
            else:
                one = tl.full((BP,), _ONE, tl.int64)
                tl.atomic_add(table + offset, one | inside, mask=hot, sem="relaxed")
            if _WANT_ABSENT & WANT:
                bits = error.to(tl.int32, bitcast=True).to(tl.int64)
                key = (bits << 32) | (0xFFFFFFFF - ((tl.where(G > 1, 0, n) * P + pixel) & 0xFFFFFFFF))
                candidate = on & (error > 0) & (weight > 0)
                high_bg = tl.maximum(high_bg, tl.max(tl.where(candidate & background, key, -1), 0))
                high_fg = tl.maximum(high_fg, tl.max(tl.where(candidate & foreground, key, -1), 0))
    keep = (slot_S < BS)[None, :] & (side_2 < 2)
    at_sums = sums_out + row * (2 * BS) + side_2 * BS + slot_S[None, :]
    tl.store(at_sums, tl.load(at_sums, mask=keep, other=0.0) + acc, mask=keep)
    at_counts = counts_out + row * (2 * 4) + side_2 * 4 + count_S[None, :]
    tl.store(at_counts, tl.load(at_counts) + count.to(tl.int64))
    if _WANT_ERRORS & WANT:
        tl.store(totals_out + row * 2, tl.load(totals_out + row * 2) + total_bg)
        tl.store(totals_out + row * 2 + 1, tl.load(totals_out + row * 2 + 1) + total_fg)
        tl.store(excess_out + row * 2, tl.load(excess_out + row * 2) + excess_bg)
        tl.store(excess_out + row * 2 + 1, tl.load(excess_out + row * 2 + 1) + excess_fg)
        if _WANT_ABSENT & WANT:
            tl.atomic_max(peak + (group * R + r) * 2, high_bg, mask=high_bg >= 0)
            tl.atomic_max(peak + (group * R + r) * 2 + 1, high_fg, mask=high_fg >= 0)


@triton.jit
def _by_side(pointer, foreground, stride):
    """A number for each side, spread over the pixels."""
    return tl.where(foreground, tl.load(pointer + stride), tl.load(pointer))


@triton.jit
def backward(
    z, y, w, gammas, powers, positive, grads, table, grad_pixel, out, N, R, YR, P, stride_n, stride_c, stride_p, labels_to, ignore,
    G, K, W, WANT: tl.constexpr, GAMMAS: tl.constexpr, POWERS: tl.constexpr, WEIGHTED: tl.constexpr, HINGE: tl.constexpr,
    BP: tl.constexpr,
):  # fmt: skip
    """Gradient with respect to the logits: d/du of every member, times du/dz = +-1, times the pixel's weight."""
    n, r = tl.program_id(1).to(tl.int64), tl.program_id(2)
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    group = tl.where(G > 1, n, 0)
    S = _FIXED + GAMMAS + POWERS + 2
    side, on, _ = _read_sides(y, (n * YR + tl.where(YR > 1, r, 0)) * P, P, pixel, tl.load(positive + r), labels_to, ignore)
    at = n * stride_n + r.to(tl.int64) * stride_c + pixel * stride_p
    x = tl.load(z + at, mask=on, other=0.0).to(tl.float32)
    foreground = side == 1
    u = tl.where(foreground, x, -x)
    miss, nll = _sigmoid(u)
    g = grads + (n * R + r) * (2 * S)
    # through m, dm/du = -m (1-m); through -log p, -m
    v = _by_side(g + _MISS, foreground, S) + 2.0 * _by_side(g + _MISS_SQ, foreground, S) * miss
    slope = _by_side(g + _MARGIN, foreground, S) - miss * (v * (1.0 - miss) + _by_side(g + _NLL, foreground, S))
    if _WANT_PIXEL & WANT:
        d = tl.load(grad_pixel + (n * R + r) * P + pixel, mask=on, other=0.0).to(tl.float32)
        if WEIGHTED:
            weight = tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32)
            d = tl.where(weight > 0, d / tl.where(weight > 0, weight, 1.0), 0.0)
        slope -= d * miss
    for f in tl.static_range(GAMMAS):
        gamma = tl.load(gammas + f)
        term = tl.where(gamma == 0, miss, _power(tl.maximum(miss, 1e-30), gamma) * (gamma * (1.0 - miss) * nll + miss))
        slope -= _by_side(g + _FIXED + f, foreground, S) * term
    for f in tl.static_range(POWERS):
        exponent = tl.load(powers + f)
        term = tl.where(nll > _FLOOR, exponent * _power(tl.maximum(nll, _FLOOR), exponent - 1.0) * miss, 0.0)
        slope -= _by_side(g + _FIXED + GAMMAS + f, foreground, S) * term
    if _WANT_ERRORS & WANT:
        error, place = _place(u, miss, K, HINGE)
        bins = tl.minimum(place >> _RESIDUAL, K - 1)
        slope_of_error = tl.load(table + (group * R + r) * (2 * W) + tl.where(foreground, W, 0) + bins, mask=on, other=0.0)
        if HINGE:
            slope -= tl.where(error > 0, slope_of_error, 0.0)
        else:
            slope -= slope_of_error * miss * (1.0 - miss)
    d = tl.where(foreground, slope, -slope)
    if WEIGHTED:
        d *= tl.load(w + n * P + pixel, mask=on, other=0.0).to(tl.float32)
    tl.store(out + at, tl.where(on, d, 0.0).to(out.dtype.element_ty), mask=pixel < P)


@triton.jit
def list_open(
    z, y, positive, opened, any_open, used, error_out, place_out, pixel_out, capacity, N, R, YR, P, stride_n, stride_c, stride_p,
    labels_to, ignore, G, K, HINGE: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """List the errors in the opened bins (statistics/ranking.py), in no particular order; does nothing if none is open."""
    if tl.load(any_open) == 0:
        return
    n, r = tl.program_id(1).to(tl.int64), tl.program_id(2)
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    group = tl.where(G > 1, n, 0)
    side, on, _ = _read_sides(y, (n * YR + tl.where(YR > 1, r, 0)) * P, P, pixel, tl.load(positive + r), labels_to, ignore)
    x = tl.load(z + n * stride_n + r.to(tl.int64) * stride_c + pixel * stride_p, mask=on, other=0.0).to(tl.float32)
    u = tl.where(side == 1, x, -x)
    miss, _ = _sigmoid(u)
    error, place = _place(u, miss, K, HINGE)
    bins = tl.minimum(place >> _RESIDUAL, K - 1)
    if HINGE:
        on = on & (error > 0)
    chosen = on & (tl.load(opened + (group * R + r) * K + bins, mask=on, other=0) != 0)
    index = tl.atomic_add(used + tl.zeros((BP,), tl.int32), tl.full((BP,), 1, tl.int32), mask=chosen)
    keep = chosen & (index < capacity)
    tl.store(error_out + index, error, mask=keep)
    tl.store(place_out + index * 4, tl.zeros((BP,), tl.int64) + group, mask=keep)
    tl.store(place_out + index * 4 + 1, tl.zeros((BP,), tl.int64) + r, mask=keep)
    tl.store(place_out + index * 4 + 2, side.to(tl.int64), mask=keep)
    tl.store(place_out + index * 4 + 3, bins.to(tl.int64), mask=keep)
    tl.store(pixel_out + index, n * P + pixel, mask=keep)
