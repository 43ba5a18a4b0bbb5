"""Generalised Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionLoss
from evenseg.losses.functional_form import functional
from evenseg.losses.options import CommonOptions, number, one_of
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class GeneralizedDiceLoss(RegionLoss):
    """One Dice over all classes, each weighted by the inverse of its size.

    L = 1 - (2 sum_c v_c sum p y + s_n) / (sum_c v_c (sum p + sum y) + s_d), with v_c = 1/n_c² ("square"), 1/n_c ("simple") or
    1 ("uniform"), n_c = sum y the labelled pixels of class c in the group. A counted class without labels (classes="all" or a
    list) has no such weight and gets the largest one of the labelled classes.

    Args:
        weight_type: "square" (paper), "simple" or "uniform".
        smooth_num, smooth_den: s_n and s_d.
        eps: lower bound of the denominator.
        **common: see :class:`evenseg.losses.base.RegionLoss`; `weight` multiplies v_c. With `absent_as_zero` a group
            without any labelled class costs 0 (MONAI). reduction="none" gives one value per group, repeated over the
            classes.

    Range: [0, 1].

    Source: Sudre et al., Generalised Dice overlap as a deep learning loss function, DLMIA 2017, eq. 2.
    """

    averages_classes = False
    fixed = ("mean_order",)

    def __init__(
        self,
        *,
        weight_type: str = "square",
        smooth_num: float = 0.0,
        smooth_den: float = 0.0,
        eps: float = 1e-12,
        **common: Unpack[CommonOptions],
    ):
        super().__init__(**common)
        if not self.weight_normalization:
            raise ValueError("weight_normalization does not apply: weights cancel in the ratio of GeneralizedDiceLoss")
        self.weight_type = one_of("weight_type", weight_type, ("square", "simple", "uniform"))
        self.smooth_num, self.smooth_den = number("smooth_num", smooth_num, 0), number("smooth_den", smooth_den, 0)
        self.eps = number("eps", eps, 0, open_low=True)

    @property
    def members(self) -> Members:
        return Members(prob=True, overlap=True)

    def formula(self, stats: SegmentStatistics) -> Tensor:
        counted = self.counted(stats)
        n = stats.labels.double()
        present = counted & (n > 0)
        safe = torch.where(present, n, 1.0)
        # the common factor of all weights cancels; dividing by the smallest n keeps 1/n² away from underflow
        least = torch.where(present, n, torch.inf).amin(1, keepdim=True)
        least = torch.where(least.isfinite(), least, 1.0)
        exponent = {"square": 2, "simple": 1, "uniform": 0}[self.weight_type]
        scale = least**exponent
        v = torch.where(present, (least / safe) ** exponent, 1.0) * counted * self.class_weight(stats)
        overlap, prob = require(stats.overlap, "overlap"), require(stats.prob, "prob")
        numerator = 2 * (v * overlap).sum(1, keepdim=True) / scale + self.smooth_num
        denominator = (v * (prob + n)).sum(1, keepdim=True) / scale + self.smooth_den
        value = 1 - numerator / denominator.clamp(min=self.eps)
        if self.absent_as_zero:
            value = torch.where(present.any(1, keepdim=True), value, 0.0)
        return value.expand_as(n)

    def reduce(self, value_GC: Tensor, stats: SegmentStatistics, counted_GC: Tensor) -> Tensor:
        if self.reduction == "none":
            return torch.where(counted_GC, value_GC, 0.0)
        value_G, counted_G = value_GC[:, 0], counted_GC.any(1)
        if self.reduction == "sum":
            return self.sum_over_groups(torch.where(counted_G, value_G, 0.0))
        return self.mean_over_groups(value_G, counted_G)


generalized_dice_loss = functional(GeneralizedDiceLoss)
