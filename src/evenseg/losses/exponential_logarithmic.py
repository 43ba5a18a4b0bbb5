"""Exponential logarithmic loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionLoss
from evenseg.losses.functional_form import functional
from evenseg.losses.options import CommonOptions, class_weights, number
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require

FLOOR = 1e-7  # x^gamma has an infinite slope at 0 for gamma < 1: smaller -log values count as this, without gradient


class ExponentialLogarithmicLoss(RegionLoss):
    """Powers of -log Dice and of weighted cross-entropy, for labels of very different size.

    L = w_dice mean_c (-log D_c)^gamma_dice + w_cross mean_i v[y_i] (-log p_i[y_i])^gamma_cross, with
    D_c = (2 sum p y + 1)/(sum p + sum y + 1) and v_c = (sum_k f_k / f_c)^(1/2), f the label frequencies.

    Args:
        w_dice, w_cross: weights of the two terms.
        gamma_dice, gamma_cross: their exponents > 0.
        frequencies: label frequencies f of the training set, one per class, on any scale. None takes those of the group,
            which the paper does not (its batch is one whole volume).
        smooth: the 1 in D_c, in pixels.
        **common: see :class:`evenseg.losses.base.RegionLoss`. classes="all" by default: with `smooth` an absent class costs
            what leaks into it. `weight` multiplies the class's part of both terms.

    Range: [0, inf).

    Source: Wong et al., 3D segmentation with exponential logarithmic loss for highly unbalanced object sizes, MICCAI 2018,
    eq. 1-4. SegLossOdyssey's version takes the log of the mean Dice and leaves the exponent of the cross term out; PyMIC's
    squeezes p and Dice: neither is followed.
    """

    soft_labels = False
    default_classes = "all"
    averages_classes = False
    fixed = ("mean_order",)

    def __init__(
        self,
        *,
        w_dice: float = 0.8,
        w_cross: float = 0.2,
        gamma_dice: float = 0.3,
        gamma_cross: float = 0.3,
        frequencies: Sequence[float] | None = None,
        smooth: float = 1.0,
        **common: Unpack[CommonOptions],
    ):
        super().__init__(**common)
        if self.mode != "multiclass":
            raise ValueError(f"ExponentialLogarithmicLoss is for mode='multiclass', got {self.mode!r}")
        if self.reduction == "none":
            raise ValueError("ExponentialLogarithmicLoss has no reduction='none': its terms are averaged differently")
        self.w_dice, self.w_cross = number("w_dice", w_dice, 0), number("w_cross", w_cross, 0)
        self.gamma_dice = number("gamma_dice", gamma_dice, 0, 20, open_low=True)
        self.gamma_cross = number("gamma_cross", gamma_cross, 0, 20, open_low=True)
        self.smooth = number("smooth", smooth, 0)
        self.frequencies: Tensor | None
        self.register_buffer("frequencies", class_weights("frequencies", frequencies), persistent=False)

    @property
    def members(self) -> Members:
        return Members(prob=True, overlap=True, power=(self.gamma_cross,))

    def check_classes(self, stats: SegmentStatistics) -> None:
        super().check_classes(stats)
        if self.frequencies is not None and self.frequencies.numel() != stats.labels.shape[1]:
            raise ValueError(f"frequencies has {self.frequencies.numel()} entries, the logits have {stats.labels.shape[1]} channels")

    def from_statistics(self, stats: SegmentStatistics) -> Tensor:
        counted = self.counted(stats)
        n, weight_C = stats.labels.double(), self.class_weight(stats)
        dice = (2 * require(stats.overlap, "overlap") + self.smooth) / (require(stats.prob, "prob") + n + self.smooth).clamp(min=FLOOR)
        dice_term = (-dice.clamp(min=FLOOR).log()).clamp(min=FLOOR) ** self.gamma_dice
        by_G = ((weight_C if self.weight_normalization else 1.0) * counted).double().sum(1)
        costs = counted & (n > 0) if self.absent_as_zero else counted
        dice_G = torch.where(costs, weight_C * dice_term, 0.0).sum(1) / torch.where(by_G > 0, by_G, 1.0)
        f = n if self.frequencies is None else self.frequencies.double().expand_as(n)
        v = torch.where(f > 0, (f.sum(1, keepdim=True) / f.clamp(min=1e-300)).sqrt(), 0.0)
        total_G = stats.total.double()
        cross_G = (weight_C * v * stats.power[self.gamma_cross]).sum(1) / torch.where(total_G > 0, total_G, 1.0)
        value_G, alive_G = self.w_dice * dice_G + self.w_cross * cross_G, total_G > 0
        if self.reduction == "sum":
            return self.sum_over_groups(torch.where(alive_G, value_G, 0.0))
        return self.mean_over_groups(value_G, alive_G)


exponential_logarithmic_loss = functional(ExponentialLogarithmicLoss)
