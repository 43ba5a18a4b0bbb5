"""Torch operators around the kernels of sigmoid and hinge statistics, with the outputs of the CPU engine's operators."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics import slots
from evenseg.statistics.ranking import CAPACITY
from evenseg.statistics.triton import launch, margin
from evenseg.statistics.triton.engine import fake_list, weight_table
from evenseg.statistics.triton.packing import unpack


@torch.library.custom_op("evenseg::triton_margin_sums", mutates_args=())
def margin_sums(
    logits: Tensor, target: Tensor, weight: Tensor, positive: list[int], labels_to: int, hinge: bool, ignore: int,
    per_image: bool, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Sums by side of rows of margins over (N, R, P) logits of any strides; labels (N, R or 1, P); weight (N, P) or empty.

    Returns sums (N, R, 2, S), counts (N, R, 2, 3), errors and error counts (G, R, 2, K), peak and its pixel (G, R, 2),
    the map of -log p (N, R, P), the number of bad labels, the ranked list.
    """
    N, R, P = logits.shape
    device = logits.device
    errors, weighted = bool(want & slots.WANT_ERRORS), weight.numel() > 0
    G = N if per_image and errors else 1
    cut = launch.margin_plan(N, R, P, device)
    S = launch.slots_of(slots.MARGIN_FIXED_SLOTS, gammas, powers, 2)
    BS = launch.power_of_two(S + 1)
    sums = torch.zeros(N, cut.programs, R, 2, BS, dtype=torch.float64, device=device)
    counts = torch.zeros(N, cut.programs, R, 2, 4, dtype=torch.int64, device=device)
    totals = torch.zeros(N, cut.programs, R, 2, dtype=torch.float64, device=device)
    excess = torch.zeros_like(totals)
    absent = bool(want & slots.WANT_ABSENT) and errors
    key = torch.full((G if absent else 0, R, 2), -1, dtype=torch.int64, device=device)
    pixel = torch.empty((N, R, P) if want & slots.WANT_PIXEL else (0, 0, 0), device=device)
    bad = torch.zeros(1, dtype=torch.int64, device=device)
    unit = launch.weight_unit(weight) if weighted else torch.ones(1, device=device)
    exponents = launch.floats(gammas, device), launch.floats(powers, device)
    rows = launch.floats([float(p) for p in positive], device).to(torch.int32)
    kind = "hinge" if hinge else "softmax"
    histogram, weights = launch.histograms(G, R, num_bins, errors, weighted, device)
    want_kernel = want & ~slots.WANT_RANKS
    found: list[tuple[Tensor, Tensor]] = []
    before: Tensor | None = None
    totals_before: Tensor | None = None
    for first, last in launch.rounds(cut, N if G == 1 else 1) if errors else [(0, cut.tiles)]:
        margin.sums[(cut.programs, N, R)](
            logits, target, weight, unit, *exponents, rows, sums, counts, totals, excess, histogram, weights, key, pixel, bad,
            N, R, target.shape[1], P, *logits.stride(), labels_to, ignore, G, num_bins, histogram.shape[-1], len(histogram), first, last,
            WANT=want_kernel, GAMMAS=len(gammas), POWERS=len(powers), WEIGHTED=weighted, HINGE=hinge, BS=BS, BP=cut.pixels,
            num_warps=cut.warps,
        )  # fmt: skip
        if errors:
            by_side, total = _sides(sums, counts, totals - excess, weighted, hinge, S, G)
            since = by_side if before is None else by_side - before
            new = total if totals_before is None else total - totals_before
            found.append(unpack(histogram, weights if weighted else None, unit, new, since, kind))
            before, totals_before = by_side, total
            if last < cut.tiles:
                histogram.zero_()
                weights.zero_()
    sums_NR2S, counts_NR23 = sums[..., :S].sum(1), counts[..., : slots.MARGIN_COUNT_SLOTS].sum(1)
    if errors:
        histogram_sums, histogram_counts = (torch.stack(x).sum(0) if len(x) > 1 else x[0] for x in zip(*found))
        beyond = excess.sum(1) if G > 1 else excess.sum((0, 1))[None]
        histogram_sums[..., -1] += beyond
    else:
        histogram_sums = histogram_counts = torch.zeros(0, R, 2, num_bins, dtype=torch.float64, device=device)
    peak, peak_at = launch.decode_peaks(key, P, G > 1)
    opened = launch.OpenList(bool(want & slots.WANT_RANKS) and errors and not weighted, device)
    if opened.wanted:
        pixels = counts[..., slots.PIXELS].sum(1)
        foreground = (pixels if G > 1 else pixels.sum(0, keepdim=True))[..., 1]
        bins, any_open = opened.open(histogram_counts, foreground, kind)
        margin.list_open[(cut.tiles, N, R)](
            logits, target, rows, bins, any_open, opened.used, opened.error, opened.place, opened.pixel, CAPACITY,
            N, R, target.shape[1], P, *logits.stride(), labels_to, ignore, G, num_bins, HINGE=hinge, BP=cut.pixels, num_warps=cut.warps,
        )  # fmt: skip
        opened.rank(histogram_counts)
    sums_NR2S, histogram_sums = launch.outside_labels(bad, sums_NR2S, histogram_sums)
    return sums_NR2S, counts_NR23, histogram_sums, histogram_counts, peak, peak_at, pixel, bad, *opened.tensors()


def _sides(
    sums: Tensor, counts: Tensor, totals: Tensor, weighted: bool, hinge: bool, S: int, G: int
) -> tuple[Tensor, Tensor]:
    """(G, R, 2) number or weight of the errors that a histogram counts, by side, and the sum of the errors."""
    if weighted:
        number = sums[..., S if hinge else S - 2].sum(1)
    else:
        number = (counts[..., slots.PIXELS] - counts[..., slots.ZEROS]).sum(1).double()
    total = totals.sum(1)
    return (number, total) if G > 1 else (number.sum(0, keepdim=True), total.sum(0, keepdim=True))


@margin_sums.register_fake
def _(logits, target, weight, positive, labels_to, hinge, ignore, per_image, num_bins, want, gammas, powers):
    N, R, P = logits.shape
    errors = bool(want & slots.WANT_ERRORS)
    G = N if per_image and errors else 1
    double = {"dtype": torch.float64}
    S = launch.slots_of(slots.MARGIN_FIXED_SLOTS, gammas, powers, 2)
    shape = (G if errors else 0, R, 2, num_bins)
    peaks = (G if errors and want & slots.WANT_ABSENT else 0, R, 2)
    return (
        logits.new_empty((N, R, 2, S), **double), logits.new_empty((N, R, 2, slots.MARGIN_COUNT_SLOTS), dtype=torch.int64),
        logits.new_empty(shape, **double), logits.new_empty(shape, **double),
        logits.new_empty(peaks, **double), logits.new_empty(peaks, dtype=torch.int64),
        logits.new_empty((N, R, P) if want & slots.WANT_PIXEL else (0, 0, 0), dtype=torch.float32),
        logits.new_empty(1, dtype=torch.int64), *fake_list(logits, weight, want),
    )  # fmt: skip


@torch.library.custom_op("evenseg::triton_margin_sums_backward", mutates_args=())
def margin_sums_backward(
    grad_sums: Tensor, grad_errors: Tensor, grad_peak: Tensor, grad_pixel: Tensor, grad_ranked: Tensor, logits: Tensor,
    target: Tensor, weight: Tensor, peak_at: Tensor, place: Tensor, listed: Tensor, positive: list[int], labels_to: int,
    hinge: bool, ignore: int, num_bins: int, want: int, gammas: list[float], powers: list[float],
) -> Tensor:  # fmt: skip
    """Gradient of `margin_sums` with respect to the logits."""
    N, R, P = logits.shape
    device = logits.device
    cut = launch.margin_plan(N, R, P, device)
    source = logits.contiguous()
    out = torch.empty_like(source)
    table = weight_table(grad_errors)
    rows = launch.floats([float(p) for p in positive], device).to(torch.int32)
    margin.backward[(cut.tiles, N, R)](
        source, target, weight, launch.floats(gammas, device), launch.floats(powers, device), rows, grad_sums.float().contiguous(),
        table, grad_pixel.contiguous(), out, N, R, target.shape[1], P, *source.stride(), labels_to, ignore,
        max(1, len(table)), num_bins, table.shape[-1], WANT=want, GAMMAS=len(gammas), POWERS=len(powers), WEIGHTED=weight.numel() > 0,
        HINGE=hinge, BP=cut.pixels, num_warps=cut.warps,
    )  # fmt: skip
    if peak_at.numel():
        r = torch.arange(R, device=device)[None, :, None].expand(peak_at.shape).reshape(-1)
        side = torch.arange(2, device=device).expand(peak_at.shape).reshape(-1)
        grad = torch.where(peak_at >= 0, grad_peak, 0.0).reshape(-1)
        _add_errors(out, source, grad, peak_at.reshape(-1).clamp(min=0), r, side, hinge)
    if listed.numel():
        used = place[:, 0] >= 0
        _add_errors(
            out, source, torch.where(used, grad_ranked, 0.0), torch.where(used, listed, 0), place[:, 1].clamp(min=0), place[:, 2], hinge
        )
    return out


def _add_errors(out: Tensor, logits: Tensor, grad_M: Tensor, pixel_M: Tensor, row_M: Tensor, side_M: Tensor, hinge: bool) -> None:
    """Add the gradient of single errors: -m (1-m), or -1 for hinge errors, times the sign of the side."""
    n, i = pixel_M // logits.shape[2], pixel_M % logits.shape[2]
    sign = torch.where(side_M == 1, 1.0, -1.0)
    u = sign * logits[n, row_M, i].float()
    slope = -(u < 1).float() if hinge else -torch.sigmoid(-u) * torch.sigmoid(u)
    change = torch.where(grad_M == 0, 0.0, slope * sign * grad_M.float())
    out.index_put_((n, row_M, i), change.to(out.dtype), accumulate=True)


@margin_sums_backward.register_fake
def _(grad_sums, grad_errors, grad_peak, grad_pixel, grad_ranked, logits, *rest):
    return logits.new_empty(logits.shape)


def _setup(ctx, inputs, output) -> None:
    logits, target, weight = inputs[:3]
    positive, labels_to, hinge, ignore, _, *rest = inputs[3:]
    ctx.options = positive, labels_to, hinge, ignore, *rest
    ctx.save_for_backward(logits, target, weight, output[5], output[9], output[11])


def _backward(ctx, g_sums, g_counts, g_errors, g_error_counts, g_peak, g_peak_at, g_pixel, g_bad, g_ranked, *_):
    grad = margin_sums_backward(g_sums, g_errors, g_peak, g_pixel, g_ranked, *ctx.saved_tensors, *ctx.options)
    return (grad, *[None] * 11)


margin_sums.register_autograd(_backward, setup_context=_setup)
