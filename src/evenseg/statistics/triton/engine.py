"""Torch operators around the softmax kernels, with the outputs of the CPU engine's operators (statistics/from_sums.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics import slots
from evenseg.statistics.ranking import CAPACITY
from evenseg.statistics.triton import launch, softmax
from evenseg.statistics.triton.packing import unpack

Raw = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("evenseg::triton_softmax_sums", mutates_args=())
def softmax_sums(
    logits: Tensor, target: Tensor, weight: Tensor, ignore: int, per_image: bool, num_bins: int, want: int,
    gammas: list[float], powers: list[float],
) -> tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor
]:  # fmt: skip
    """Sums of a softmax over (N, C, P) logits of any strides; labels (N, P); weight (N, P) or empty.

    Returns sums (N, S, C), counts (N, 3, C), errors and error counts (G, C, 2, K), peak and its pixel (G, C), the map of
    -log p (N, P), log-sum-exp by pixel (N, P) where the backward pass needs it, the number of bad labels, the ranked list.
    """
    N, C, P = logits.shape
    device = logits.device
    errors, weighted = bool(want & slots.WANT_ERRORS), weight.numel() > 0
    G = N if per_image and errors else 1
    cut = launch.plan(N, C, P, device)
    S = launch.slots_of(slots.FIXED_SLOTS, gammas, powers, 3)
    sums = torch.zeros(N, cut.programs, S, C, dtype=torch.float64, device=device)
    counts = torch.zeros(N, cut.programs, slots.COUNT_SLOTS, C, dtype=torch.int64, device=device)
    totals = torch.zeros(N, cut.programs, C, 2, dtype=torch.float64, device=device)
    absent = bool(want & slots.WANT_ABSENT) and errors
    key = torch.full((G if absent else 0, C), -1, dtype=torch.int64, device=device)
    pixel = torch.empty((N, P) if want & slots.WANT_PIXEL else (0, 0), device=device)
    lse = torch.empty((0, 0) if cut.single else (N, P), device=device)
    miss, best = torch.empty_like(lse), torch.empty(lse.shape, dtype=torch.int32, device=device)
    bad = torch.zeros(1, dtype=torch.int64, device=device)
    unit = launch.weight_unit(weight) if weighted else torch.ones(1, device=device)
    exponents = launch.floats(gammas, device), launch.floats(powers, device)
    strides = logits.stride()
    want_kernel = want & ~slots.WANT_RANKS
    if not cut.single:
        softmax.normalisers[(cut.tiles, N)](
            logits, target, lse, miss, best, bad, N, C, P, *strides, ignore, WANT=want_kernel, BC=cut.classes, BP=cut.pixels,
            num_warps=cut.warps,
        )  # fmt: skip
    histogram, weights = launch.histograms(G, C, num_bins, errors, weighted, device)
    found: list[tuple[Tensor, Tensor]] = []
    BS = launch.power_of_two(S)
    ranges = launch.rounds(cut, N if G == 1 else 1) if errors else [(0, cut.tiles)]
    before = totals_before = None
    for first, last in ranges:
        softmax.sums[(cut.programs, N, cut.chunks)](
            logits, target, weight, unit, *exponents, lse, miss, best, sums, counts, totals, histogram, weights, key, pixel, bad,
            N, C, P, *strides, ignore, G, num_bins, histogram.shape[-1], len(histogram), first, last,
            WANT=want_kernel, GAMMAS=len(gammas), POWERS=len(powers), WEIGHTED=weighted, SINGLE=cut.single,
            BS=BS, BC=cut.classes, BP=cut.pixels, num_warps=cut.warps,
        )  # fmt: skip
        if errors:
            by_side, total = _sides(sums, counts, totals, weighted, G)
            since = by_side if before is None else by_side - before
            new = total if totals_before is None else total - totals_before
            found.append(unpack(histogram, weights if weighted else None, unit, new, since, "softmax"))
            before, totals_before = by_side, total
            if last < cut.tiles:
                histogram.zero_()
                weights.zero_()
    sums_NSC, counts_N3C = sums.sum(1), counts.sum(1)
    if errors:
        histogram_sums = torch.stack([s for s, _ in found]).sum(0) if len(found) > 1 else found[0][0]
        histogram_counts = torch.stack([c for _, c in found]).sum(0) if len(found) > 1 else found[0][1]
    else:
        histogram_sums = histogram_counts = torch.zeros(0, C, 2, num_bins, dtype=torch.float64, device=device)
    peak, peak_at = launch.decode_peaks(key, P, G > 1)
    opened = launch.OpenList(bool(want & slots.WANT_RANKS) and errors and not weighted, device)
    if opened.wanted:
        assert before is not None
        bins, any_open = opened.open(histogram_counts, before[..., 1], "softmax")
        softmax.list_open[(cut.tiles, N, cut.chunks)](
            logits, target, lse, bins, any_open, opened.used, opened.error, opened.place, opened.pixel, CAPACITY, N, C, P, *strides,
            ignore, G, num_bins, SINGLE=cut.single, BC=cut.classes, BP=cut.pixels, num_warps=cut.warps,
        )  # fmt: skip
        opened.rank(histogram_counts)
    sums_NSC, histogram_sums = launch.outside_labels(bad, sums_NSC, histogram_sums)
    return sums_NSC, counts_N3C, histogram_sums, histogram_counts, peak, peak_at, pixel, lse, bad, *opened.tensors()


def _sides(sums: Tensor, counts: Tensor, totals: Tensor, weighted: bool, G: int) -> tuple[Tensor, Tensor]:
    """(G, C, 2) number or weight of the errors so far, by side, and their sum."""
    labels_NC = sums[:, :, -1].sum(1) if weighted else counts[:, :, slots.LABELS].sum(1).double()
    labels_GC = labels_NC if G > 1 else labels_NC.sum(0, keepdim=True)
    total = totals.sum(1) if G > 1 else totals.sum((0, 1))[None]
    return torch.stack([labels_GC.sum(1, keepdim=True) - labels_GC, labels_GC], -1), total


@softmax_sums.register_fake
def _(logits, target, weight, ignore, per_image, num_bins, want, gammas, powers):
    N, C, P = logits.shape
    errors = bool(want & slots.WANT_ERRORS)
    G = N if per_image and errors else 1
    double, single = {"dtype": torch.float64}, {"dtype": torch.float32}
    S = launch.slots_of(slots.FIXED_SLOTS, gammas, powers, 3)
    shape = (G if errors else 0, C, 2, num_bins)
    peaks = (G if errors and want & slots.WANT_ABSENT else 0, C)
    return (
        logits.new_empty((N, S, C), **double), logits.new_empty((N, 3, C), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty(peaks, **double), logits.new_empty(peaks, dtype=torch.int64),
        logits.new_empty((N, P) if want & slots.WANT_PIXEL else (0, 0), **single),
        logits.new_empty((0, 0) if C <= launch.REGISTER_CLASSES else (N, P), **single), logits.new_empty(1, dtype=torch.int64),
        *fake_list(logits, weight, want),
    )  # fmt: skip


def fake_list(logits: Tensor, weight: Tensor, want: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ranked list of a fake kernel."""
    wanted = want & slots.WANT_RANKS and want & slots.WANT_ERRORS and weight.shape[0] == 0
    M = CAPACITY if wanted else 0
    return (
        logits.new_empty((M,), dtype=torch.float64), logits.new_empty((M, 4), dtype=torch.int64),
        logits.new_empty((M, 2), dtype=torch.float64), logits.new_empty((M,), dtype=torch.int64),
    )  # fmt: skip


def weight_table(grad_errors: Tensor) -> Tensor:
    """(G, rows, 2, K + 1) float32 weights by bin; the largest possible error falls on the upper edge of the last bin."""
    return torch.cat([grad_errors, grad_errors[..., -1:]], -1).float().contiguous()


@torch.library.custom_op("evenseg::triton_softmax_sums_backward", mutates_args=())
def softmax_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    target: Tensor, weight: Tensor, peak_at: Tensor, place: Tensor, listed: Tensor, lse: Tensor,
    ignore: int, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `softmax_sums` with respect to the logits, with the logits' strides."""
    N, C, P = logits.shape
    device = logits.device
    cut = launch.plan(N, C, P, device)
    out = torch.empty_strided(logits.shape, _dense(logits), dtype=logits.dtype, device=device)
    source = logits
    if logits.stride() != out.stride():
        source = torch.empty_strided(logits.shape, out.stride(), dtype=logits.dtype, device=device).copy_(logits)
    table = weight_table(grad_errors)
    softmax.backward[(cut.tiles, N)](
        source, target, weight, launch.floats(gammas, device), launch.floats(powers, device), lse, grad_sums.float().contiguous(),
        table, grad_pixel.contiguous(), out, N, C, P, *out.stride(), ignore, max(1, len(table)), num_bins, table.shape[-1],
        WANT=want, GAMMAS=len(gammas), POWERS=len(powers), WEIGHTED=weight.numel() > 0, SINGLE=cut.single,
        BC=cut.classes, BP=cut.pixels, num_warps=cut.warps,
    )  # fmt: skip
    if peak_at.numel():
        G = peak_at.shape[0]
        cls = torch.arange(C, device=device).expand(G, C).reshape(-1)
        _add_errors(out, logits, torch.where(peak_at >= 0, grad_peak, 0.0).reshape(-1), peak_at.reshape(-1).clamp(min=0), cls)
    if listed.numel():
        used = place[:, 0] >= 0
        grad = torch.where(used, torch.where(place[:, 2] == 1, -grad_ranked, grad_ranked), 0.0)
        _add_errors(out, logits, grad, torch.where(used, listed, 0), place[:, 1].clamp(min=0))
    return out


def _dense(logits: Tensor) -> tuple[int, ...]:
    """Strides of the gradient: the logits' own, if they cover memory without holes, else those of a contiguous tensor."""
    _, C, P = logits.shape
    if logits.stride() in ((C * P, 1, C), (C * P, P, 1)):
        return logits.stride()
    return (C * P, P, 1)


def _add_errors(out: Tensor, logits: Tensor, grad_M: Tensor, pixel_M: Tensor, class_M: Tensor) -> None:
    """Add the gradient of single probabilities p_c: p_c (δ_kc - p_k)."""
    P = logits.shape[2]
    n, i = pixel_M // P, pixel_M % P
    p = logits[n, :, i].float().softmax(1)
    own = torch.gather(p, 1, class_M[:, None])
    change = -p * own
    change.scatter_add_(1, class_M[:, None], own)
    change = torch.where(grad_M[:, None] == 0, 0.0, change * grad_M[:, None].float())  # a pixel that does not count may hold NaN
    out.index_put_((n[:, None], torch.arange(logits.shape[1], device=out.device)[None], i[:, None]), change.to(out.dtype), accumulate=True)


@softmax_sums_backward.register_fake
def _(grad_sums, grad_errors, grad_peak, grad_pixel, grad_ranked, logits, *rest):
    return torch.empty_strided(logits.shape, _dense(logits), dtype=logits.dtype, device=logits.device)


def _setup(ctx, inputs, output) -> None:
    logits, target, weight, ctx.ignore, _, ctx.num_bins, ctx.want, ctx.gammas, ctx.powers = inputs
    ctx.save_for_backward(logits, target, weight, output[5], output[10], output[12], output[7])


def _backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_lse, g_bad, g_ranked, *_):
    grad = softmax_sums_backward(
        g_sums, g_errors, g_peak, g_pixel, g_ranked, *ctx.saved_tensors, ctx.ignore, ctx.num_bins, ctx.want, ctx.gammas, ctx.powers
    )
    return grad, None, None, None, None, None, None, None, None


softmax_sums.register_autograd(_backward, setup_context=_setup)
