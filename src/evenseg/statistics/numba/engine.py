"""Torch operators around the CPU kernels: shapes, threads, accumulators, gradients.

`softmax_sums` and `margin_sums` return raw sums; `numba_statistics` in members.py turns them into SegmentStatistics with
plain, differentiable torch operations on tensors without a pixel dimension.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evenseg.statistics.bins import OCTAVES
from evenseg.statistics.numba import margin, softmax, softmax_backward, workers
from evenseg.statistics.numba.histogram import Histogram, RankedList
from evenseg.statistics.numba.packing import FLUSH
from evenseg.statistics.numba.ranking import add_margin_gradient, add_softmax_gradient, list_margin, list_softmax
from evenseg.statistics.ranking import CAPACITY


class BadLabelsError(ValueError):
    """Some labels are outside the classes; the caller, who knows their original form, words the message."""


def _block(rows: int) -> int:
    """Pixels of a block: the probabilities of all classes should stay in the cache, the bins of one class be used well."""
    return 1024 if rows <= 64 else 512 if rows <= 256 else 256


def _rounds(groups: int, rows_per_group: int, blocks: int, block: int, parts: int) -> list[tuple[int, int, int]]:
    """(group, first, last) block ranges, none of which packs more than FLUSH pixels per worker."""
    most = max(1, FLUSH // block) * parts
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
    weighted, errors = w.size > 0, bool(want & softmax.WANT_ERRORS)
    w = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(C)
    blocks = -(-P // block)
    parts = workers.count(z.size)
    groups = N if per_image and errors else 1
    S = softmax.FIXED_SLOTS + len(gammas) + len(powers) + 3
    sums, counts = np.zeros((parts, N, S, C)), np.zeros((parts, N, 3, C), np.int64)
    histogram = Histogram(groups, C, (C,), num_bins, "softmax", errors, weighted, parts, z.dtype)
    seen = np.zeros((parts, C), np.bool_)
    pixel = torch.empty((N, P) if want & softmax.WANT_PIXEL else (0, 0), dtype=logits.dtype)
    top, inv = torch.empty((N, P), dtype=logits.dtype), torch.empty((N, P), dtype=logits.dtype)
    maps = [pixel.numpy(), top.numpy(), inv.numpy()]
    exponents = _exponents(gammas, z), _exponents(powers, z)
    bad = 0
    with workers.PackedTables(parts if errors and not weighted else 1, C if errors else 1, num_bins) as packed:
        for group, first, last in _rounds(groups, N // groups, blocks, block, parts):

            def task(k: int, a: int, b: int) -> int:
                return softmax.forward(
                    z, y, w, weighted, ignore, a, b, block, num_bins, want, *exponents, sums[k], counts[k],
                    packed[min(k, len(packed) - 1)], histogram.totals[k], seen[k], histogram.floats[k], histogram.part_peak[k],
                    histogram.part_at[k], *maps,
                )  # fmt: skip

            bad += workers.share(task, first, last, parts)
            histogram.collect(group, packed, parts)
            seen[:] = groups == 1 and seen.any(0)
    if bad:
        raise BadLabelsError
    sums, counts = sums.sum(0), counts.sum(0)
    if errors and not weighted:
        labels = counts[:, softmax.LABELS]
        foreground = labels if groups > 1 else labels.sum(0, keepdims=True)
        total = np.stack([foreground.sum(1, keepdims=True) - foreground, foreground], -1)
        histogram.counts[..., 0] = total - histogram.counts[..., 1:].sum(-1)
    ranked = RankedList(histogram, bool(want & softmax.WANT_RANKS) and errors and not weighted, z.dtype)
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
    return (
        torch.from_numpy(sums), torch.from_numpy(counts), torch.from_numpy(histogram.sums), torch.from_numpy(histogram.counts),
        torch.from_numpy(histogram.peak), torch.from_numpy(histogram.peak_at), pixel, top, inv, *ranked.tensors(),
    )  # fmt: skip


def _fake_ranked(logits: Tensor, weight: Tensor, want: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = want & softmax.WANT_RANKS and want & softmax.WANT_ERRORS and weight.shape[0] == 0
    M = CAPACITY if wanted else 0
    return (
        logits.new_empty((M,), dtype=torch.float64), logits.new_empty((M, 4), dtype=torch.int64),
        logits.new_empty((M, 2), dtype=torch.float64), logits.new_empty((M,), dtype=torch.int64),
    )  # fmt: skip


@softmax_sums.register_fake
def _(logits, target, weight, ignore, per_image, num_bins, want, gammas, powers):
    N, C, P = logits.shape
    errors = bool(want & softmax.WANT_ERRORS)
    G = N if per_image and errors else 1
    double = {"dtype": torch.float64}
    S = softmax.FIXED_SLOTS + len(gammas) + len(powers) + 3
    shape = (G if errors else 0, C, 2, num_bins)
    return (
        logits.new_empty((N, S, C), **double), logits.new_empty((N, 3, C), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty((G, C), **double), logits.new_empty((G, C), dtype=torch.int64),
        logits.new_empty((N, P) if want & softmax.WANT_PIXEL else (0, 0)), logits.new_empty((N, P)), logits.new_empty((N, P)),
        *_fake_ranked(logits, weight, want),
    )  # fmt: skip


@torch.library.custom_op("evenseg::softmax_sums_backward", mutates_args=(), device_types="cpu")
def softmax_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    target: Tensor, weight: Tensor, peak_at: Tensor, place: Tensor, listed: Tensor, top: Tensor, inv: Tensor,
    ignore: int, num_bins: int, want: int,
    gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `softmax_sums` with respect to the logits."""
    z, y, w, top_NP, inv_NP = _contiguous(logits, target, weight, top, inv)
    N, C, P = z.shape
    g_sums, table = _contiguous(grad_sums.to(logits.dtype), grad_errors.to(logits.dtype))
    g_pixel = _contiguous(grad_pixel)[0]
    weighted = w.size > 0
    kernel_weight = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(C)
    blocks = -(-P // block)
    grad = torch.empty((N, C, P), dtype=logits.dtype)
    out = grad.numpy()
    exponents = _exponents(gammas, z), _exponents(powers, z)

    def task(k: int, a: int, b: int) -> int:
        softmax_backward.backward(
            z, y, kernel_weight, weighted, ignore, a, b, block, num_bins, want, *exponents, top_NP, inv_NP, g_sums, table, g_pixel, out,
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
    ctx.save_for_backward(logits, target, weight, output[5], output[10], output[12], output[7], output[8])


def _softmax_backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_top, g_inv, g_ranked, *_):
    logits, target, weight, peak_at, place, listed, top, inv = ctx.saved_tensors
    grad = softmax_sums_backward(
        g_sums, g_errors, g_peak, g_pixel, g_ranked, logits, target, weight, peak_at, place, listed, top, inv,
        ctx.ignore, ctx.num_bins, ctx.want, ctx.gammas, ctx.powers,
    )  # fmt: skip
    return grad, None, None, None, None, None, None, None, None


softmax_sums.register_autograd(_softmax_backward, setup_context=_softmax_setup)


@torch.library.custom_op("evenseg::margin_sums", mutates_args=(), device_types="cpu")
def margin_sums(
    logits: Tensor, target: Tensor, weight: Tensor, positive: list[int], labels_to: int, pair: bool, hinge: bool, ignore: int,
    per_image: bool, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Sums by side of rows of margins over (N, C, P) logits; labels (N, R or 1, P); weight (N, P) or empty.

    Returns sums (N, R, 2, S), counts (N, R, 2, 3), errors and error counts (G, R, 2, K), peak and its pixel (G, R, 2) and
    the map of -log p (N, R, P).
    """
    z, y, w = _contiguous(logits, target, weight)
    N, _, P = z.shape
    R = len(positive)
    weighted, errors = w.size > 0, bool(want & softmax.WANT_ERRORS)
    w = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(1)
    blocks = -(-P // block)
    parts = workers.count(z.size)
    groups = N if per_image and errors else 1
    S = margin.FIXED_SLOTS + len(gammas) + len(powers) + 2
    sums, counts = np.zeros((parts, N, R, 2, S)), np.zeros((parts, N, R, 2, margin.COUNT_SLOTS), np.int64)
    kind = "hinge" if hinge else "softmax"
    histogram = Histogram(groups, R, (R, 2), num_bins, kind, errors, weighted or hinge, parts, z.dtype)
    pixel = torch.empty((N, R, P) if want & softmax.WANT_PIXEL else (0, 0, 0), dtype=logits.dtype)
    pixel_np, positive_np = pixel.numpy(), np.asarray(positive, np.int64)
    exponents = _exponents(gammas, z), _exponents(powers, z)
    bad = 0
    with workers.PackedTables(parts if errors and not weighted else 1, R if errors else 1, num_bins) as packed:
        for group, first, last in _rounds(groups, N * R // groups, blocks, block, parts):

            def task(k: int, a: int, b: int) -> int:
                return margin.forward(
                    z, pair, y, w, weighted, positive_np, ignore, labels_to, hinge, a, b, block, num_bins, want, *exponents,
                    sums[k], counts[k], packed[min(k, len(packed) - 1)], histogram.totals[k], histogram.floats[k],
                    histogram.part_peak[k], histogram.part_at[k], pixel_np,
                )  # fmt: skip

            bad += workers.share(task, first, last, parts)
            histogram.collect(group, packed, parts)
    if bad:
        raise BadLabelsError
    sums, counts = sums.sum(0), counts.sum(0)
    if errors and not weighted:
        grouped = counts if groups > 1 else counts.sum(0, keepdims=True)
        total = grouped[..., margin.PIXELS]
        histogram.counts[..., 0] = total - grouped[..., margin.ZEROS] - histogram.counts[..., 1:].sum(-1)
    ranked = RankedList(histogram, bool(want & softmax.WANT_RANKS) and errors and not weighted, z.dtype)
    opened = ranked.opened(total[..., 1]) if ranked.error.size else None
    if opened is not None:
        limit, per_octave = (1 << OCTAVES) - 1, num_bins // OCTAVES
        for group in range(groups):

            lowest = np.where(opened[group].any(1), opened[group].argmax(1), num_bins)

            def find(a: int, b: int, *found, group=group, lowest=lowest):
                return list_margin(
                    z, pair, y, positive_np, ignore, labels_to, hinge, group, opened[group], lowest, a, b, block, limit, per_octave, *found
                )

            rows = N * R // groups * blocks
            ranked.collect(find, group * rows, (group + 1) * rows, parts)
        ranked.rank()
    return (
        torch.from_numpy(sums), torch.from_numpy(counts), torch.from_numpy(histogram.sums), torch.from_numpy(histogram.counts),
        torch.from_numpy(histogram.peak), torch.from_numpy(histogram.peak_at), pixel, *ranked.tensors(),
    )  # fmt: skip


@margin_sums.register_fake
def _(logits, target, weight, positive, labels_to, pair, hinge, ignore, per_image, num_bins, want, gammas, powers):
    N, _, P = logits.shape
    R = len(positive)
    errors = bool(want & softmax.WANT_ERRORS)
    G = N if per_image and errors else 1
    double = {"dtype": torch.float64}
    S = margin.FIXED_SLOTS + len(gammas) + len(powers) + 2
    shape = (G if errors else 0, R, 2, num_bins)
    return (
        logits.new_empty((N, R, 2, S), **double), logits.new_empty((N, R, 2, margin.COUNT_SLOTS), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty((G, R, 2), **double), logits.new_empty((G, R, 2), dtype=torch.int64),
        logits.new_empty((N, R, P) if want & softmax.WANT_PIXEL else (0, 0, 0)), *_fake_ranked(logits, weight, want),
    )  # fmt: skip


@torch.library.custom_op("evenseg::margin_sums_backward", mutates_args=(), device_types="cpu")
def margin_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    target: Tensor, weight: Tensor, peak_at: Tensor, place: Tensor, listed: Tensor,
    positive: list[int], labels_to: int, pair: bool, hinge: bool, ignore: int, num_bins: int,
    want: int, gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `margin_sums` with respect to the logits."""
    z, y, w = _contiguous(logits, target, weight)
    N, _, P = z.shape
    R = len(positive)
    g_sums, table = _contiguous(grad_sums.to(logits.dtype), grad_errors.to(logits.dtype))
    g_pixel = _contiguous(grad_pixel)[0]
    weighted = w.size > 0
    w = w if weighted else np.zeros((1, 1), z.dtype)
    block = _block(1)
    blocks = -(-P // block)
    grad = torch.empty(logits.shape, dtype=logits.dtype)
    out = grad.numpy()
    positive_np = np.asarray(positive, np.int64)
    exponents = _exponents(gammas, z), _exponents(powers, z)

    def task(k: int, a: int, b: int) -> int:
        margin.backward(
            z, pair, y, w, weighted, positive_np, ignore, labels_to, hinge, a, b, block, num_bins, want, *exponents,
            g_sums, table, g_pixel, out,
        )  # fmt: skip
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
    logits, target, weight = inputs[:3]
    ctx.options = inputs[3:8]  # positive, labels_to, pair, hinge, ignore
    ctx.bins = inputs[9:]  # num_bins, want, gammas, powers
    ctx.save_for_backward(logits, target, weight, output[5], output[8], output[10])


def _margin_backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_ranked, *_):
    tensors = ctx.saved_tensors  # logits, target, weight, peak_at, place, listed
    grad = margin_sums_backward(g_sums, g_errors, g_peak, g_pixel, g_ranked, *tensors, *ctx.options, *ctx.bins)
    return (grad, *[None] * 12)


margin_sums.register_autograd(_margin_backward, setup_context=_margin_setup)
