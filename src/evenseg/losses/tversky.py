"""Tversky, focal Tversky, Dice and Jaccard share one similarity; this file holds it and the first two."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionLoss, RegionOptions, refuse_unknown
from evenseg.losses.functional_form import functional
from evenseg.losses.options import flag, number, one_of
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


def tversky_index(
    overlap: Tensor, size_p: Tensor, size_y: Tensor, alpha: float, beta: float, smooth_num: float, smooth_den: float, eps: float
) -> Tensor:
    """(TP + smooth_num) / max(TP + alpha FP + beta FN + smooth_den, eps), with FP = |p| - TP and FN = |y| - TP."""
    denominator = overlap + alpha * (size_p - overlap) + beta * (size_y - overlap) + smooth_den
    return (overlap + smooth_num) / denominator.clamp(min=eps)


class TverskyLoss(RegionLoss):
    """One minus the Tversky index: false positives and false negatives cost differently.

    L_c = 1 - (TP + s_n) / (TP + alpha FP + beta FN + s_d), with TP = sum p y, FP = sum p (1-y), FN = sum (1-p) y over the
    valid pixels of the group; the loss is the mean over classes, then over groups. For soft labels TP = sum min(p, y),
    so that the loss is smallest, and 0, at p = y.

    Args:
        alpha: cost of false positives.
        beta: cost of false negatives.
        smooth_num, smooth_den: added to numerator and denominator (in pixels). 0 by default, as in the paper.
        eps: lower bound of the denominator.
        squared: sum p² and y² instead of p and y in the sizes (V-Net form).
        log_loss: -log of the index instead of 1 - index.
        average: "macro" (one index per class) or "micro" (classes summed first).
        overlap: "min" (default): for soft labels TP = sum min(p, y). "product": TP = sum p y, the form of many libraries, whose
            loss is not smallest at p = y for soft labels. The same for hard labels.
        **common: `absent_as_zero`, `weight_normalization` of :class:`evenseg.losses.base.RegionLoss` and the keywords of
            :class:`evenseg.losses.base.StatisticLoss`.

    Range: [0, 1] ([0, inf) with log_loss).

    Source: Salehi et al., Tversky loss function for image segmentation, MLMI 2017, eq. 3-4 (there 0.3/0.7).
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth_num: float = 0.0,
        smooth_den: float = 0.0,
        eps: float = 1e-7,
        squared: bool = False,
        log_loss: bool = False,
        average: str = "macro",
        overlap: str = "min",
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        **common: Unpack[RegionOptions],
    ):
        super().__init__(absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common)
        self.alpha, self.beta = number("alpha", alpha, 0), number("beta", beta, 0)
        self.smooth_num, self.smooth_den = number("smooth_num", smooth_num, 0), number("smooth_den", smooth_den, 0)
        self.eps = number("eps", eps, 0, open_low=True)
        self.squared, self.log_loss = flag("squared", squared), flag("log_loss", log_loss)
        self.average = one_of("average", average, ("macro", "micro"))
        self.overlap = one_of("overlap", overlap, ("min", "product"))
        if self.average == "micro" and (self.weight is not None or self.absent_as_zero):
            name = "weight" if self.weight is not None else "absent_as_zero"
            raise ValueError(f"average='micro' has one index for all classes: {name} does not apply")

    @property
    def members(self) -> Members:
        if self.squared:
            return Members(prob_sq=True, product=True)
        return Members(prob=True, product=True) if self.overlap == "product" else Members(prob=True, overlap=True)

    def sizes(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor, Tensor]:
        """(G, C) intersection, size of the prediction, size of the label."""
        if self.squared:
            return require(stats.product, "product"), require(stats.prob_sq, "prob_sq"), stats.labels_sq.double()
        name = "product" if self.overlap == "product" else "overlap"
        overlap = require(getattr(stats, name), name)
        return overlap, require(stats.prob, "prob"), stats.labels.double()

    def formula(self, stats: SegmentStatistics) -> Tensor:
        sizes = self.sizes(stats)
        if self.average == "micro":
            inside = self.counted(stats)
            sizes = tuple(torch.where(inside, s, 0.0).sum(1, keepdim=True).expand_as(s) for s in sizes)  # type: ignore[assignment]
        index = tversky_index(*sizes, self.alpha, self.beta, self.smooth_num, self.smooth_den, self.eps)
        return -index.clamp(min=self.eps).log() if self.log_loss else 1 - index

    def reduce(self, value_GC: Tensor, stats: SegmentStatistics, counted_GC: Tensor) -> Tensor:
        if self.average == "micro" and self.reduction == "sum":  # formula repeats the one index for every class
            return self.sum_over_groups(torch.where(counted_GC.any(1), value_GC[:, 0], 0.0))
        return super().reduce(value_GC, stats, counted_GC)


class FocalTverskyLoss(TverskyLoss):
    """Tversky loss raised to a power, which turns the attention to badly segmented classes.

    L_c = (1 - TI_c)^gamma with the Tversky index TI of :class:`TverskyLoss`.

    Args:
        gamma: exponent > 0. The paper writes 1/gamma with gamma = 4/3: 0.75 here.
        power_of_mean: raise the class mean to the power instead of every class (SMP, SegLossOdyssey).
        **options: those of :class:`TverskyLoss`. The power has an infinite slope at 0 for gamma < 1; below 1e-7 the loss
            is linear, so value and gradient stay finite.

    Range: [0, 1].

    Source: Abraham and Khan, A novel focal Tversky loss function, ISBI 2019, eq. 3.
    """

    fixed = ("log_loss", "overlap")

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        power_of_mean: bool = False,
        smooth_num: float = 0.0,
        smooth_den: float = 0.0,
        eps: float = 1e-7,
        squared: bool = False,
        average: str = "macro",
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        **common: Unpack[RegionOptions],
    ):
        refuse_unknown(type(self), common)
        super().__init__(
            alpha=alpha, beta=beta, smooth_num=smooth_num, smooth_den=smooth_den, eps=eps, squared=squared, average=average,
            absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common,
        )  # fmt: skip
        self.gamma = number("gamma", gamma, 0, 20, open_low=True)
        self.power_of_mean = flag("power_of_mean", power_of_mean)

    def _power(self, x: Tensor) -> Tensor:
        if self.gamma >= 1:
            return x.clamp(min=0) ** self.gamma
        floor = 1e-7
        straight = x * floor ** (self.gamma - 1)  # the chord from 0 to the floor
        return torch.where(x > floor, x.clamp(min=floor) ** self.gamma, straight)

    def formula(self, stats: SegmentStatistics) -> Tensor:
        value = super().formula(stats)
        return value if self.power_of_mean else self._power(value)

    def finish(self, mean_G: Tensor) -> Tensor:
        return self._power(mean_G) if self.power_of_mean else mean_G


tversky_loss = functional(TverskyLoss)
focal_tversky_loss = functional(FocalTverskyLoss)
