"""Which kernel serves which activation, and what becomes of labels outside the classes."""

from __future__ import annotations

from torch import Tensor

from evenseg.statistics.from_sums import margin_members, softmax_members, wanted
from evenseg.statistics.triton.engine import softmax_sums
from evenseg.statistics.triton.margin_engine import margin_sums
from evenseg.statistics.types import Members, SegmentStatistics


def triton_statistics(
    logits_NCP: Tensor,
    target: Tensor,
    members: Members,
    activation: str,
    per_image: bool,
    num_bins: int,
    pixel_weight_NP: Tensor | None,
    ignore: int,
) -> tuple[SegmentStatistics, Tensor]:
    """As `eager_statistics`, but with the labels as they came, and logits of half precision as they are.

    Returns the statistics and the (1,) number of labels outside the classes: where there are some, the sums are NaN.
    """
    C = logits_NCP.shape[1]
    weighted = pixel_weight_NP is not None
    weight = logits_NCP.new_empty(0) if pixel_weight_NP is None else pixel_weight_NP.contiguous()
    exponents = (list(members.focal), list(members.power))
    if activation == "softmax":
        raw = softmax_sums(logits_NCP, target.contiguous(), weight, ignore, per_image, num_bins, wanted(members), *exponents)
        return softmax_members(raw, members, per_image, weighted), raw[8]
    labels_in_pixel = target.dim() == 2
    one_vs_rest = labels_in_pixel and C > 1
    positive = list(range(C)) if one_vs_rest else [1] * C
    raw = margin_sums(
        logits_NCP, (target[:, None] if labels_in_pixel else target).contiguous(), weight, positive, C if one_vs_rest else 2,
        activation == "hinge", ignore, per_image, num_bins, wanted(members), *exponents,
    )  # fmt: skip
    return margin_members(raw, members, per_image, weighted, pair=False), raw[7]
