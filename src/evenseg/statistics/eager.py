"""The definition of every statistic in plain torch: any device, soft labels, differentiated by autograd.

It is written to be read and to be right; the other engines are checked against it. It makes a few temporaries of the
size of the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evenseg.statistics.bins import hinge_bins, probability_bins
from evenseg.statistics.ranking import RankedErrors, bin_slopes, open_bins, rank
from evenseg.statistics.slots import POWER_FLOOR
from evenseg.statistics.types import Members, SegmentStatistics


def eager_statistics(
    logits_NCP: Tensor,
    target: Tensor,
    members: Members,
    activation: str,
    per_image: bool,
    num_bins: int,
    pixel_weight_NP: Tensor | None,
) -> SegmentStatistics:
    """All members asked for, by definition.

    Args:
        logits_NCP: float32 or float64.
        target: (N, P) int64 labels with -1 for ignored pixels, (N, C, P) int64 in {-1, 0, 1} for multilabel targets, or
            (N, C, P) float probabilities, NaN at ignored pixels.
        members: which statistics to compute.
        activation: "softmax", "sigmoid" or "hinge" (sigmoid, with hinge errors in the histogram).
        per_image: one group per image instead of one for the batch.
        num_bins: bins of the error histogram.
        pixel_weight_NP: optional non-negative weights.
    """
    N, C, P = logits_NCP.shape
    softmax = activation == "softmax"
    dtype = logits_NCP.dtype
    soft = target.is_floating_point()
    labels_in_pixel = target.dim() == 2  # one label a pixel; otherwise one a pixel and channel

    if soft:
        valid_NCP = ~target.isnan()
        y_NCP = target.nan_to_num(0.0).to(dtype)
    elif labels_in_pixel:
        valid_NCP = (target >= 0)[:, None].expand(N, C, P)
        if C == 1:
            y_NCP = (target == 1)[:, None].to(dtype)
        else:
            y_NCP = (target[:, None] == torch.arange(C, device=target.device)[None, :, None]).to(dtype)
    else:
        valid_NCP = target >= 0
        y_NCP = (target == 1).to(dtype)
    weight_NCP = valid_NCP.to(dtype)
    if pixel_weight_NP is not None:
        weight_NCP = weight_NCP * pixel_weight_NP[:, None].to(dtype)

    # select, not multiply: whatever stands under an ignored pixel, NaN included, reaches neither value nor gradient
    z_NCP = torch.where(valid_NCP, logits_NCP, 0.0)
    if softmax:
        logp_NCP = F.log_softmax(z_NCP, 1)
        log1mp_NCP = None
    else:
        logp_NCP, log1mp_NCP = F.logsigmoid(z_NCP), F.logsigmoid(-z_NCP)
    p_NCP = logp_NCP.exp()

    def total(x_NCP: Tensor) -> Tensor:
        x_NC = torch.where(valid_NCP, x_NCP * weight_NCP, 0.0).sum(2, dtype=torch.float64)
        return x_NC if per_image else x_NC.sum(0, keepdim=True)

    def total_of(x_NCP: Tensor, y_NCP: Tensor) -> Tensor:
        """Sum of x y with 0 * inf = 0."""
        return total(torch.where(y_NCP > 0, x_NCP * y_NCP, 0.0))

    with torch.no_grad():
        # summed in float64, which counts exactly, and integer unless weights make it otherwise
        counted = (lambda t: t) if soft or pixel_weight_NP is not None else (lambda t: t.long())
        pixels_NC = valid_NCP.sum(2) if per_image else valid_NCP.sum((0, 2))[None]
        out: dict = {
            "pixels": pixels_NC,
            "valid": counted(total(torch.ones_like(p_NCP))),
            "labels": counted(total(y_NCP)),
            "labels_sq": counted(total(y_NCP * y_NCP)),
        }
        if members.hits:
            if softmax:
                pred_NCP = logits_NCP.argmax(1, keepdim=True) == torch.arange(C, device=z_NCP.device)[None, :, None]
            else:
                pred_NCP = z_NCP > 0
            out["predicted"] = counted(total(pred_NCP.to(dtype)))
            out["hits"] = counted(total(pred_NCP.to(dtype) * y_NCP))

    if members.prob:
        out["prob"] = total(p_NCP)
    if members.prob_sq:
        out["prob_sq"] = total(p_NCP * p_NCP)
    if members.overlap:
        out["overlap"] = total(torch.minimum(p_NCP, y_NCP) if soft else p_NCP * y_NCP)
    if members.product:
        out["product"] = total(p_NCP * y_NCP)
    if members.nll:
        out["nll"] = total_of(-logp_NCP, y_NCP)
        if log1mp_NCP is not None:
            out["nll_rest"] = total_of(-log1mp_NCP, 1 - y_NCP)
    if members.nll_all:
        out["nll_all"] = total(-logp_NCP)
    if members.focal:
        out["focal"] = {g: total_of(_focal(logp_NCP, g), y_NCP) for g in members.focal}
        if log1mp_NCP is not None:
            out["focal_rest"] = {g: total_of(_focal(log1mp_NCP, g), 1 - y_NCP) for g in members.focal}
    if members.power:
        out["power"] = {q: total_of((-logp_NCP).clamp(min=POWER_FLOOR) ** q, y_NCP) for q in members.power}
    if members.errors:
        ranks = members.ranks and pixel_weight_NP is None and not torch.compiler.is_compiling()
        to_rank = out["labels"] if ranks else None
        out.update(_histogram(z_NCP, p_NCP, y_NCP, valid_NCP, weight_NCP, activation, per_image, num_bins, to_rank, members.absent))
    if members.pixel_nll:
        if softmax:
            out["pixel_nll"] = torch.where(y_NCP > 0, -logp_NCP * y_NCP, 0.0).sum(1)
            out["pixel_labels"] = target if labels_in_pixel else y_NCP.argmax(1).where(valid_NCP[:, 0], -1)
            out["pixel_weight"] = weight_NCP[:, 0]
        else:
            assert log1mp_NCP is not None
            nll_NCP = torch.where(y_NCP > 0, -logp_NCP * y_NCP, 0.0) + torch.where(y_NCP < 1, -log1mp_NCP * (1 - y_NCP), 0.0)
            out["pixel_nll"] = torch.where(valid_NCP, nll_NCP, 0.0)
            out["pixel_labels"] = torch.where(valid_NCP, (y_NCP > 0.5).long(), -1)
            out["pixel_weight"] = weight_NCP
    return SegmentStatistics(**out, soft=soft)


def _focal(logp: Tensor, gamma: float) -> Tensor:
    """(1-p)^gamma (-log p), with a finite gradient at p = 1 also for gamma < 1."""
    if gamma == 0:
        return -logp
    m = -torch.expm1(logp)
    inside = m > 0
    return torch.where(inside, m.where(inside, 1.0) ** gamma * -logp, 0.0)


def _histogram(z_NCP, p_NCP, y_NCP, valid_NCP, weight_NCP, activation, per_image, num_bins, labels_to_rank, absent) -> dict:
    N, C, P = p_NCP.shape
    foreground = y_NCP > 0.5
    if activation == "hinge":
        error = torch.relu(1 - torch.where(foreground, z_NCP, -z_NCP))
        bins = hinge_bins(error.detach(), num_bins)
    else:
        error = torch.where(foreground, 1 - p_NCP, p_NCP)
        bins = probability_bins(error.detach(), num_bins)
    G = N if per_image else 1
    group = torch.arange(N, device=bins.device)[:, None, None] if per_image else 0
    row = (group * C + torch.arange(C, device=bins.device)[None, :, None]) * 2 + foreground
    if activation == "hinge":
        valid_NCP = valid_NCP & (error.detach() != 0)  # nothing ranks below a zero; NaN stays
    index = (row * num_bins + bins)[valid_NCP]
    flat = torch.zeros(G * C * 2 * num_bins, dtype=torch.float64, device=bins.device)
    weight = weight_NCP[valid_NCP].double()
    sums = flat.index_add(0, index, error[valid_NCP].double() * weight)
    counts = flat.index_add(0, index, weight.detach())
    sums, counts = sums.view(G, C, 2, num_bins), counts.view(G, C, 2, num_bins)
    out: dict = {"errors": sums, "error_counts": counts}
    if absent:
        peak_NC = torch.where(valid_NCP & ~foreground & (weight_NCP > 0), error, 0.0).amax(2)
        out["peak"] = (peak_NC if per_image else peak_NC.amax(0, keepdim=True)).double()
    if labels_to_rank is not None:
        opened = open_bins(counts, labels_to_rank, bin_slopes(num_bins, activation).to(counts.device))
        channel = torch.arange(C, device=bins.device)[None, :, None]
        place = torch.stack([x.expand(N, C, P) for x in (torch.as_tensor(group, device=bins.device), channel, foreground, bins)], 3)
        listed = valid_NCP & opened[place[..., 0], place[..., 1], place[..., 3]]
        order, above = rank(error[listed], place[listed], counts)
        out["ranked"] = RankedErrors(error[listed][order].double(), place[listed][order], above)
    return out
