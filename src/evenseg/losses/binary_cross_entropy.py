"""Binary cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import PixelLoss, PixelOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.options import class_weights, number
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class BinaryCrossEntropyLoss(PixelLoss):
    """Sigmoid cross-entropy of one logit, or of every channel on its own.

    L = mean over the valid pixels of -pos_weight y log p - (1-y) log(1-p), with p = sigmoid(logit). With class weights
    (w_0, w_1) of background and foreground both terms are weighted and the sum is divided by the sum of the weights used.

    Args:
        pos_weight: factor of the foreground term, one number or one per channel; does not enter the divisor (as in
            torch.nn.BCEWithLogitsLoss).
        **common: see :class:`evenseg.losses.base.PixelLoss`. mode "binary" (default), "multilabel", or "multiclass" for
            one-vs-rest. `weight` has two entries for "binary", else one per channel.

    Range: [0, inf).
    """

    soft_labels = True
    default_mode = "binary"

    def __init__(self, *, pos_weight: float | Sequence[float] | None = None, **common: Unpack[PixelOptions]):
        super().__init__(**common)
        if isinstance(pos_weight, (int, float)):
            pos_weight = [number("pos_weight", pos_weight, 0)]
        self.pos_weight: Tensor | None
        self.register_buffer("pos_weight", class_weights("pos_weight", pos_weight), persistent=False)

    @property
    def activation(self) -> str:
        return "sigmoid"

    @property
    def members(self) -> Members:
        return Members(nll=True, pixel_nll=self.reduction == "none")

    def weight_length(self, num_classes: int) -> int:
        return 2 if self.mode == "binary" else num_classes

    def check_classes(self, stats: SegmentStatistics) -> None:
        super().check_classes(stats)
        C = stats.labels.shape[1]
        if self.pos_weight is not None and self.pos_weight.numel() not in (1, C):
            raise ValueError(f"pos_weight has {self.pos_weight.numel()} entries, the logits have {C} channels")

    def side_weights(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        """Weights of background and foreground by channel, without pos_weight."""
        if self.weight is None:
            one = torch.ones(stats.labels.shape[1], dtype=torch.float64, device=stats.labels.device)
            return one, one
        weight = self.weight.double()
        return (weight[:1], weight[1:]) if self.mode == "binary" else (weight, weight)

    def sums(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        w0_C, w1_C = self.side_weights(stats)
        positive_C = w1_C if self.pos_weight is None else w1_C * self.pos_weight.double()
        total_GC = positive_C * require(stats.nll, "nll") + w0_C * require(stats.nll_rest, "nll_rest")
        by_GC = w1_C * stats.labels + w0_C * (stats.valid - stats.labels)
        return total_GC.sum(1), by_GC.sum(1)

    def pixel_map(self, stats: SegmentStatistics) -> Tensor:
        w0_C, w1_C = self.side_weights(stats)
        positive_C = w1_C if self.pos_weight is None else w1_C * self.pos_weight.double()
        nll, label, weight = (require(getattr(stats, n), n) for n in ("pixel_nll", "pixel_labels", "pixel_weight"))
        if stats.soft and not torch.equal(positive_C, w0_C):
            raise ValueError("reduction='none' with soft labels supports neither weight nor pos_weight")
        side = torch.where(label == 1, positive_C[:, None], w0_C[:, None])
        return nll * weight * torch.where(label >= 0, side, 0.0)


binary_cross_entropy_loss = functional(BinaryCrossEntropyLoss)
