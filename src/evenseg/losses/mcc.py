"""Matthews correlation coefficient loss."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionLoss, RegionOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.options import number
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class MCCLoss(RegionLoss):
    """One minus the soft Matthews correlation coefficient, which also counts true negatives.

    L_c = 1 - (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)), with TP = sum p y, FP = sum p (1-y), FN = sum (1-p) y,
    TN = sum (1-p)(1-y), each plus eps, over the valid pixels of the group; mean over classes (one-vs-rest), then groups.
    For soft labels TP = sum min(p, y) and the others follow, so that the loss is smallest, and 0, at p = y.

    Args:
        eps: added to each of the four counts; keeps value and slope finite when one of them is 0.
        **common: see :class:`evenseg.losses.base.RegionLoss`.

    Range: [0, 2]; 1 for a prediction unrelated to the labels.

    Source: Abhishek and Hamarneh, Matthews correlation coefficient loss for deep convolutional networks, ISBI 2021, eq. 3.
    """

    def __init__(
        self,
        *,
        eps: float = 1e-5,
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        **common: Unpack[RegionOptions],
    ):
        super().__init__(absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common)
        self.eps = number("eps", eps, 0, open_low=True)

    @property
    def members(self) -> Members:
        return Members(prob=True, overlap=True)

    def formula(self, stats: SegmentStatistics) -> Tensor:
        tp, prob, n = require(stats.overlap, "overlap"), require(stats.prob, "prob"), stats.labels.double()
        fp, fn = (prob - tp).clamp(min=0) + self.eps, (n - tp).clamp(min=0) + self.eps
        tn = (stats.valid - prob - n + tp).clamp(min=0) + self.eps
        tp = tp + self.eps
        return 1 - (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()


mcc_loss = functional(MCCLoss)
