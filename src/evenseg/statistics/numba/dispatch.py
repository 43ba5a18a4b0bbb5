"""Which kernel serves which activation."""

from __future__ import annotations

from torch import Tensor

from evenseg.statistics.from_sums import margin_members, softmax_members, wanted
from evenseg.statistics.numba.engine import margin_sums, softmax_sums
from evenseg.statistics.types import Members, SegmentStatistics


def numba_statistics(
    logits_NCP: Tensor,
    target: Tensor,
    members: Members,
    activation: str,
    per_image: bool,
    num_bins: int,
    pixel_weight_NP: Tensor | None,
    ignore: int,
) -> SegmentStatistics:
    """As `eager_statistics`, but with the labels as they came: (N, P) or (N, C, P) uint8 or int64, `ignore` among them."""
    C = logits_NCP.shape[1]
    logits = logits_NCP.contiguous()
    weight = logits.new_empty(0) if pixel_weight_NP is None else pixel_weight_NP.to(logits.dtype).contiguous()
    options = (list(members.focal), list(members.power))
    if activation == "softmax" and C > 2:
        raw = softmax_sums(logits, target.contiguous(), weight, ignore, per_image, num_bins, wanted(members), *options)
        return softmax_members(raw, members, per_image, pixel_weight_NP is not None)
    pair = activation == "softmax"
    labels_in_pixel = target.dim() == 2
    one_vs_rest = labels_in_pixel and C > 1 and not pair
    positive = list(range(C)) if one_vs_rest else [1] * (1 if pair else C)
    raw = margin_sums(
        logits, (target[:, None] if labels_in_pixel else target).contiguous(), weight, positive, C if one_vs_rest else 2, pair,
        activation == "hinge", ignore, per_image, num_bins, wanted(members), *options,
    )  # fmt: skip
    return margin_members(raw, members, per_image, pixel_weight_NP is not None, pair)
