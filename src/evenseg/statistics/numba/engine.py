"""Torch operators around the CPU kernels: shapes, threads, accumulators, gradients.

`softmax_sums` and `margin_sums` return raw sums; `numba_statistics` in dispatch.py turns them into SegmentStatistics with
plain, differentiable torch operations on tensors without a pixel dimension.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evenseg.statistics import slots
from evenseg.statistics.numba import margin, margin_backward, softmax, softmax_backward, workers
from evenseg.statistics.numba.histogram import Histogram, RankedList
from evenseg.statistics.numba.packing import FLUSH
from evenseg.statistics.numba.pages import empty_for_writing
from evenseg.statistics.numba.peaks import margin_peaks, softmax_peaks
from evenseg.statistics.numba.ranking import add_margin_gradient, add_softmax_gradient, list_margin, list_softmax
from evenseg.statistics.ranking import CAPACITY

FIND = 1 << 17  # pixels searched for present classes at a time


class BadLabelsError(ValueError):
    """Some labels are outside the classes; the caller, who knows their original form, words the message."""


def _block(rows: int) -> int:
    """Pixels of a block: the probabilities of all classes should stay in the cache, the bins of one class be used well."""
    return 4096 if rows == 1 else 2048 if rows <= 64 else 1024 if rows <= 256 else 512


def _rounds(groups: int, rows_per_group: int, blocks: int, block: int) -> list[tuple[int, int, int]]:
    """(group, first, last) block ranges of at most FLUSH pixels: one worker may take them all."""
    most = max(1, FLUSH // block)
    rounds = []
    for g in range(groups):
        first, last = g * rows_per_group * blocks, (g + 1) * rows_per_group * blocks
        rounds += [(g, a, min(a + most, last)) for a in range(first, last, most)]
    return rounds


def _exponents(values: list[float], like: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=like.dtype)


def _contiguous(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]


@torch.library.custom_op("evenseg::softmax_sums", mutates_args=(), device_types="cpu")
def softmax_sums(
    logits: Tensor, target: Tensor, weight: Tensor, ignore: int, per_image: bool, num_bins: int, want: int,
    gammas: list[float], powers: list[float],
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Sums of a softmax over (N, C, P) logits, C >= 3; labels (N, P); weight (N, P) or empty.

    Returns sums (N, S, C), counts (N, 3, C), errors and error counts (G, C, 2, K), peak and its pixel (G, C), the map of
    -log p (N, P), and what the backward pass needs: the largest logit and 1/sum(exp) by pixel.
    """
    z, y, w = _contiguous(logits, target, weight)
    N, C, P = z.shape
    weighted, errors = w.size > 0, bool(want & slots.WANT_ERRORS)
    w = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(C)
    blocks = -(-P // block)
    parts = workers.count(z.size)
    groups = N if per_image and errors else 1
    S = slots.FIXED_SLOTS + len(gammas) + len(powers) + 3
    pieces = workers.pieces(parts)
    sums, counts = np.zeros((pieces, N, S, C)), np.zeros((pieces, N, 3, C), np.int64)
    histogram = Histogram(groups, C, num_bins, "softmax", errors, weighted, parts)
    pixel = torch.empty((N, P) if want & slots.WANT_PIXEL else (0, 0), dtype=logits.dtype)
    top, inv = torch.empty((N, P), dtype=logits.dtype), torch.empty((N, P), dtype=logits.dtype)
    maps = [pixel.numpy(), top.numpy(), inv.numpy()]
    exponents = _exponents(gammas, z), _exponents(powers, z)
    counted = np.ones((groups, C), np.bool_)
    if errors and not weighted and not want & slots.WANT_ABSENT:
        counted = _present(y, ignore, groups, C, parts)
    bad = 0
    with workers.PackedTables(parts if errors and not weighted else 1, C if errors else 1, num_bins) as packed:
        for group, first, last in _rounds(groups, N // groups, blocks, block):

            def task(worker: int, piece: int, a: int, b: int) -> int:
                return softmax.forward(
                    z, y, w, weighted, ignore, a, b, block, num_bins, want, *exponents, sums[piece], counts[piece],
                    packed[min(worker, len(packed) - 1)], histogram.totals[piece], histogram.floats[worker], counted, *maps,
                )  # fmt: skip

            bad += workers.share(task, first, last, parts, fixed=weighted)
            histogram.collect(group, packed, parts)
    if bad:
        raise BadLabelsError
    sums, counts = sums.sum(0), counts.sum(0)
    sums[:, slots.PROB] += sums[:, slots.OVERLAP]  # the kernel leaves out the pixel's own class
    foreground = counts[:, slots.LABELS]
    foreground = foreground if groups > 1 else foreground.sum(0, keepdims=True)
    if errors and not weighted:
        total = np.stack([foreground.sum(1, keepdims=True) - foreground, foreground], -1)
        histogram.counts[..., 0] = np.where(counted[..., None], total - histogram.counts[..., 1:].sum(-1), 0)
    ranked = RankedList(histogram, bool(want & slots.WANT_RANKS) and errors and not weighted, z.dtype)
    opened = ranked.opened(foreground) if ranked.error.size else None
    if opened is not None:
        for group in range(groups):
            lowest = np.where(opened[group].any(1), opened[group].argmax(1), num_bins)
            if (lowest < num_bins).any():

                def find(a: int, b: int, *found, group=group, lowest=lowest):
                    return list_softmax(z, y, ignore, group, opened[group], lowest, maps[1], maps[2], a, b, block, *found)

                rows = N // groups * blocks
                ranked.collect(find, group * rows, (group + 1) * rows, parts)
        ranked.rank()
    wanted = bool(want & slots.WANT_ABSENT) and errors
    if weighted:  # labels of weight 0 do not count
        foreground = sums[:, -1] if groups > 1 else sums[:, -1].sum(0, keepdims=True)
    peak, peak_at = softmax_peaks(z, w, weighted, maps[1], maps[2], foreground if wanted else foreground[:0], parts)
    return (
        torch.from_numpy(sums), torch.from_numpy(counts), torch.from_numpy(histogram.sums), torch.from_numpy(histogram.counts),
        peak, peak_at, pixel, top, inv, *ranked.tensors(),
    )  # fmt: skip


def _present(y: np.ndarray, ignore: int, groups: int, C: int, parts: int) -> np.ndarray:
    """(G, C) whether a class has labels in a group."""
    N, P = y.shape
    present = np.zeros((parts, N, C), np.bool_)

    def task(worker: int, piece: int, a: int, b: int) -> int:
        for j in range(a, b):
            n, s = divmod(j * FIND, pieces * FIND)
            softmax.mark_present(y[n, s : s + FIND], ignore, present[worker, n])
        return 0

    pieces = -(-P // FIND)
    workers.share(task, 0, N * pieces, parts)
    by_image = present.max(0)
    return by_image if groups > 1 else np.atleast_2d(by_image.max(0))


def _fake_ranked(logits: Tensor, weight: Tensor, want: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = want & slots.WANT_RANKS and want & slots.WANT_ERRORS and weight.shape[0] == 0
    M = CAPACITY if wanted else 0
    return (
        logits.new_empty((M,), dtype=torch.float64), logits.new_empty((M, 4), dtype=torch.int64),
        logits.new_empty((M, 2), dtype=torch.float64), logits.new_empty((M,), dtype=torch.int64),
    )  # fmt: skip


@softmax_sums.register_fake
def _(logits, target, weight, ignore, per_image, num_bins, want, gammas, powers):
    N, C, P = logits.shape
    errors = bool(want & slots.WANT_ERRORS)
    G = N if per_image and errors else 1
    double = {"dtype": torch.float64}
    S = slots.FIXED_SLOTS + len(gammas) + len(powers) + 3
    shape = (G if errors else 0, C, 2, num_bins)
    peaks = (G if errors and want & slots.WANT_ABSENT else 0, C)
    return (
        logits.new_empty((N, S, C), **double), logits.new_empty((N, 3, C), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty(peaks, **double), logits.new_empty(peaks, dtype=torch.int64),
        logits.new_empty((N, P) if want & slots.WANT_PIXEL else (0, 0)), logits.new_empty((N, P)), logits.new_empty((N, P)),
        *_fake_ranked(logits, weight, want),
    )  # fmt: skip


@torch.library.custom_op("evenseg::softmax_sums_backward", mutates_args=(), device_types="cpu")
def softmax_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    target: Tensor, weight: Tensor, counts: Tensor, peak_at: Tensor, place: Tensor, listed: Tensor, top: Tensor, inv: Tensor,
    ignore: int, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `softmax_sums` with respect to the logits."""
    z, y, w, top_NP, inv_NP = _contiguous(logits, target, weight, top, inv)
    N, C, P = z.shape
    g_sums = _contiguous(grad_sums.to(logits.dtype))[0]
    table = np.empty((*grad_errors.shape[:3], num_bins + 1), z.dtype)
    table[..., :-1] = grad_errors.numpy()
    table[..., -1] = table[..., -2]  # the largest possible error falls on the upper edge of the last bin
    g_pixel = _contiguous(grad_pixel)[0]
    weighted = w.size > 0
    kernel_weight = w if weighted else np.zeros((1, 1), z.dtype)
    counted = np.ones((len(table), C), np.bool_)
    if not weighted and not want & slots.WANT_ABSENT:  # as the forward pass found them
        present = counts[:, slots.LABELS].numpy() > 0
        counted = present if len(table) > 1 else present.max(0, keepdims=True)
    block = _block(C)
    blocks = -(-P // block)
    grad = empty_for_writing((N, C, P), logits.dtype)
    out = grad.numpy()
    exponents = _exponents(gammas, z), _exponents(powers, z)

    def task(worker: int, piece: int, a: int, b: int) -> int:
        softmax_backward.backward(
            z, y, kernel_weight, weighted, ignore, a, b, block, num_bins, want, *exponents,
            top_NP, inv_NP, g_sums, table, counted, g_pixel, out,
        )  # fmt: skip
        return 0

    workers.share(task, 0, N * blocks, workers.count(z.size))
    for g, c in grad_peak.nonzero().tolist():
        if peak_at[g, c] < 0:  # no error above 0
            continue
        n, i = divmod(int(peak_at[g, c]), P)
        p = np.exp(z[n, :, i] - top_NP[n, i]) * inv_NP[n, i]
        out[n, :, i] += float(grad_peak[g, c]) * p[c] * ((np.arange(C) == c) - p)
    add_softmax_gradient(z, top_NP, inv_NP, *_contiguous(grad_ranked, place, listed), out)
    return grad


@softmax_sums_backward.register_fake
def _(grad_sums, grad_errors, grad_peak, grad_pixel, grad_ranked, logits, *rest):
    return logits.new_empty(logits.shape)


def _softmax_setup(ctx, inputs, output) -> None:
    logits, target, weight, ctx.ignore, ctx.per_image, ctx.num_bins, ctx.want, ctx.gammas, ctx.powers = inputs
    ctx.save_for_backward(logits, target, weight, output[1], output[5], output[10], output[12], output[7], output[8])


def _softmax_backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_top, g_inv, g_ranked, *_):
    tensors = ctx.saved_tensors  # logits, target, weight, counts, peak_at, place, listed, top, inv
    grad = softmax_sums_backward(
        g_sums, g_errors, g_peak, g_pixel, g_ranked, *tensors,
        ctx.ignore, ctx.num_bins, ctx.want, ctx.gammas, ctx.powers,
    )  # fmt: skip
    return grad, None, None, None, None, None, None, None, None


softmax_sums.register_autograd(_softmax_backward, setup_context=_softmax_setup)


@torch.library.custom_op("evenseg::margin_sums", mutates_args=(), device_types="cpu")
def margin_sums(
    logits: Tensor, target: Tensor, weight: Tensor, positive: list[int], labels_to: int, pair: bool, hinge: bool, ignore: int,
    per_image: bool, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Sums by side of rows of margins over (N, C, P) logits; labels (N, R or 1, P); weight (N, P) or empty.

    Returns sums (N, R, 2, S), counts (N, R, 2, 3), errors and error counts (G, R, 2, K), peak and its pixel (G, R, 2),
    the map of -log p (N, R, P) and the codes (N, R, P) that the backward pass reads.
    """
    z, y, w = _contiguous(logits, target, weight)
    N, _, P = z.shape
    R = len(positive)
    weighted, errors = w.size > 0, bool(want & slots.WANT_ERRORS)
    w = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(1)
    blocks = -(-P // block)
    parts = workers.count(z.size)
    groups = N if per_image and errors else 1
    S = slots.MARGIN_FIXED_SLOTS + len(gammas) + len(powers) + 2
    pieces = workers.pieces(parts)
    sums, counts = np.zeros((pieces, N, R, 2, S)), np.zeros((pieces, N, R, 2, slots.MARGIN_COUNT_SLOTS), np.int64)
    kind = "hinge" if hinge else "softmax"
    histogram = Histogram(groups, R, num_bins, kind, errors, weighted or hinge, parts)
    K = num_bins if errors else 1
    codes = torch.empty((N, R, P), dtype=_code_type(K))
    code = codes.numpy() if codes.dtype == torch.int32 else codes.numpy().view(np.uint16)
    pixel = torch.empty((N, R, P) if want & slots.WANT_PIXEL else (0, 0, 0), dtype=logits.dtype)
    pixel_np, positive_np = pixel.numpy(), np.asarray(positive, np.int64)
    exponents = _exponents(gammas, z), _exponents(powers, z)
    bad = 0
    with workers.PackedTables(parts if errors and not weighted else 1, R if errors else 1, num_bins) as packed:
        for group, first, last in _rounds(groups, N * R // groups, blocks, block):

            def task(worker: int, piece: int, a: int, b: int) -> int:
                return margin.forward(
                    z, pair, y, w, weighted, positive_np, ignore, labels_to, hinge, a, b, block, num_bins, want, *exponents,
                    sums[piece], counts[piece], packed[min(worker, len(packed) - 1)], histogram.totals[piece], histogram.floats[worker],
                    pixel_np, code,
                )  # fmt: skip

            bad += workers.share(task, first, last, parts, fixed=weighted)
            histogram.collect(group, packed, parts)
    if bad:
        raise BadLabelsError
    sums, counts = sums.sum(0), counts.sum(0)
    grouped = counts if groups > 1 else counts.sum(0, keepdims=True)
    total = grouped[..., slots.PIXELS]
    if errors and not weighted:
        histogram.counts[..., 0] = total - grouped[..., slots.ZEROS] - histogram.counts[..., 1:].sum(-1)
    ranked = RankedList(histogram, bool(want & slots.WANT_RANKS) and errors and not weighted, z.dtype)
    opened = ranked.opened(total[..., 1]) if ranked.error.size else None
    if opened is not None:
        no = np.zeros((groups, R, 3), np.bool_)
        by_code = np.concatenate([opened, opened, no], 2)
        for group in range(groups):

            def find(a: int, b: int, *found, group=group):
                return list_margin(z, pair, hinge, code, by_code[group], group, K, a, b, block, *found)

            rows = N * R // groups * blocks
            ranked.collect(find, group * rows, (group + 1) * rows, parts)
        ranked.rank()
    wanted = bool(want & slots.WANT_ABSENT) and errors
    if weighted:
        total = sums[..., -2] if groups > 1 else sums[..., -2].sum(0, keepdims=True)
    peak, peak_at = margin_peaks(z, pair, hinge, w, weighted, code, K, total if wanted else total[:0])
    return (
        torch.from_numpy(sums), torch.from_numpy(counts), torch.from_numpy(histogram.sums), torch.from_numpy(histogram.counts),
        peak, peak_at, pixel, codes, *ranked.tensors(),
    )  # fmt: skip


def _code_type(K: int) -> torch.dtype:
    """Codes go up to 2K + 2; torch's int16 holds them as uint16."""
    return torch.int16 if 2 * K + 2 < 1 << 16 else torch.int32


@margin_sums.register_fake
def _(logits, target, weight, positive, labels_to, pair, hinge, ignore, per_image, num_bins, want, gammas, powers):
    N, _, P = logits.shape
    R = len(positive)
    errors = bool(want & slots.WANT_ERRORS)
    G = N if per_image and errors else 1
    double = {"dtype": torch.float64}
    S = slots.MARGIN_FIXED_SLOTS + len(gammas) + len(powers) + 2
    shape = (G if errors else 0, R, 2, num_bins)
    peaks = (G if errors and want & slots.WANT_ABSENT else 0, R, 2)
    return (
        logits.new_empty((N, R, 2, S), **double), logits.new_empty((N, R, 2, slots.MARGIN_COUNT_SLOTS), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty(peaks, **double), logits.new_empty(peaks, dtype=torch.int64),
        logits.new_empty((N, R, P) if want & slots.WANT_PIXEL else (0, 0, 0)),
        logits.new_empty((N, R, P), dtype=_code_type(num_bins if errors else 1)), *_fake_ranked(logits, weight, want),
    )  # fmt: skip


@torch.library.custom_op("evenseg::margin_sums_backward", mutates_args=(), device_types="cpu")
def margin_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    weight: Tensor, peak_at: Tensor, codes: Tensor, place: Tensor, listed: Tensor,
    pair: bool, hinge: bool, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `margin_sums` with respect to the logits."""
    z, w, code = _contiguous(logits, weight, codes)
    code = code.view(np.uint16) if codes.dtype == torch.int16 else code
    N, R, P = code.shape
    errors = bool(want & slots.WANT_ERRORS)
    K = num_bins if errors else 1
    g_sums, g_pixel = _contiguous(grad_sums.to(logits.dtype), grad_pixel)
    # by code: background errors rise with the logit, foreground errors fall; no entry for what was not counted
    table = np.zeros((len(grad_errors) if errors else 1, R, 2 * K + 3), z.dtype)
    if errors:
        table[..., :K], table[..., K : 2 * K] = grad_errors[:, :, 0].numpy(), -grad_errors[:, :, 1].numpy()
    weighted = w.size > 0
    kernel_weight = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(1)
    blocks = -(-P // block)
    grad = empty_for_writing(logits.shape, logits.dtype)
    out = grad.numpy()
    exponents = _exponents(gammas, z), _exponents(powers, z)

    def task(worker: int, piece: int, a: int, b: int) -> int:
        margin_backward.backward(
            z, pair, kernel_weight, weighted, hinge, a, b, block, K, want, *exponents, code, g_sums, table, g_pixel, out
        )
        return 0

    workers.share(task, 0, N * R * blocks, workers.count(z.size))
    for g, r, side in grad_peak.nonzero().tolist():
        if peak_at[g, r, side] < 0:  # no error above 0
            continue
        n, i = divmod(int(peak_at[g, r, side]), P)
        sign = 1.0 if side == 1 else -1.0
        u = sign * float(z[n, 1, i] - z[n, 0, i] if pair else z[n, r, i])
        m = float(1 / (1 + np.exp(np.clip(u, -80, 80))))
        slope = sign * float(grad_peak[g, r, side]) * (-(1.0 if u < 1 else 0.0) if hinge else -m * (1 - m))
        out[n, 1 if pair else r, i] += slope
        if pair:
            out[n, 0, i] -= slope
    add_margin_gradient(z, pair, hinge, *_contiguous(grad_ranked, place, listed), out)
    return grad


@margin_sums_backward.register_fake
def _(grad_sums, grad_errors, grad_peak, grad_pixel, grad_ranked, logits, *rest):
    return logits.new_empty(logits.shape)


def _margin_setup(ctx, inputs, output) -> None:
    logits, _, weight = inputs[:3]
    ctx.options = inputs[5], inputs[6], *inputs[9:]  # pair, hinge; num_bins, want, gammas, powers
    ctx.save_for_backward(logits, weight, output[5], output[7], output[9], output[11])


def _margin_backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_codes, g_ranked, *_):
    tensors = ctx.saved_tensors  # logits, weight, peak_at, codes, place, listed
    grad = margin_sums_backward(g_sums, g_errors, g_peak, g_pixel, g_ranked, *tensors, *ctx.options)
    return (grad, *[None] * 12)


margin_sums.register_autograd(_margin_backward, setup_context=_margin_setup)
