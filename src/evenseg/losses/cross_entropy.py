"""Cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import PixelLoss, PixelOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.options import number
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class CrossEntropyLoss(PixelLoss):
    """Softmax cross-entropy, divided as torch.nn.CrossEntropyLoss divides it.

    L = sum_i w[y_i] (-log p_i[y_i]) / sum_i w[y_i] over the valid pixels i, with p = softmax(logits) and class weights w.
    With label smoothing e the numerator becomes (1-e) of that plus e/C sum_i sum_c w[c] (-log p_i[c]). For soft labels
    q the numerator is sum_i sum_c w[c] q_i[c] (-log p_i[c]) and the denominator the number of pixels.

    Args:
        label_smoothing: e in [0, 1).
        **common: see :class:`evenseg.losses.base.PixelLoss`; mode "multiclass" only.

    Range: [0, inf).

    Example:
        >>> import torch
        >>> from evenseg.losses import CrossEntropyLoss
        >>> round(CrossEntropyLoss()(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)).item(), 4)
        1.3863
    """

    soft_labels = True

    def __init__(self, *, label_smoothing: float = 0.0, **common: Unpack[PixelOptions]):
        super().__init__(**common)
        if self.mode != "multiclass":
            raise ValueError(f"CrossEntropyLoss is for mode='multiclass'; for {self.mode!r} use BinaryCrossEntropyLoss")
        self.label_smoothing = number("label_smoothing", label_smoothing, 0, 1)

    @property
    def members(self) -> Members:
        return Members(nll=True, nll_all=self.label_smoothing > 0, pixel_nll=self.reduction == "none")

    def sums(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        weight_C = self.class_weight(stats)
        total_G = (weight_C * require(stats.nll, "nll")).sum(1)
        if self.label_smoothing:
            every_G = (weight_C * require(stats.nll_all, "nll_all")).sum(1)
            total_G = (1 - self.label_smoothing) * total_G + self.label_smoothing / stats.labels.shape[1] * every_G
        return total_G, stats.total.double() if stats.soft else (weight_C * stats.labels).sum(1)

    def pixel_map(self, stats: SegmentStatistics) -> Tensor:
        if self.label_smoothing:
            raise ValueError("reduction='none' does not support label_smoothing")
        nll, label, weight = (require(getattr(stats, n), n) for n in ("pixel_nll", "pixel_labels", "pixel_weight"))
        return nll * weight * torch.where(label >= 0, self.class_weight(stats)[label.clamp(min=0)], 0.0)


cross_entropy_loss = functional(CrossEntropyLoss)
