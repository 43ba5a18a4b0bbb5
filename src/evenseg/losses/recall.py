"""Recall loss."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import PixelLoss, PixelOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.options import one_of
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class RecallLoss(PixelLoss):
    """Cross-entropy whose class weights are the shares of pixels missed in this very batch.

    L = 1/n sum_i w[y_i] (-log p_i[y_i]), w_c = max(FN_c, 1)/max(N_c, 1), with N_c the labelled pixels of class c in the
    group, FN_c those of them whose argmax is another class, and n the valid pixels. The weights carry no gradient. A class
    that is wholly found keeps the small weight 1/N_c.

    Args:
        normalize: "pixels" divides by n (the authors' class, used in their training); "weights" by the sum of w[y_i] (the
            authors' function), which undoes the global shrinking of the loss as recall rises.
        **common: see :class:`evenseg.losses.base.PixelLoss`; `weight` multiplies w.

    Range: [0, inf).

    Source: Tian et al., Striking the right balance: recall loss for semantic segmentation, ICRA 2022. The authors' code maps
    the counts of label 255 onto a class; here ignored pixels count nowhere.
    """

    def __init__(self, *, normalize: str = "pixels", **common: Unpack[PixelOptions]):
        super().__init__(**common)
        if self.mode != "multiclass":
            raise ValueError(f"RecallLoss is for mode='multiclass', got {self.mode!r}; give it two channels for a binary task")
        self.normalize = one_of("normalize", normalize, ("pixels", "weights"))

    @property
    def members(self) -> Members:
        return Members(nll=True, hits=True, pixel_nll=self.reduction == "none")

    def missed_share(self, stats: SegmentStatistics) -> Tensor:
        """(G, C) weights of the classes, constant for autograd."""
        n = stats.labels.double()
        missed = n - require(stats.hits, "hits").double()
        return (missed.clamp(min=1) / n.clamp(min=1)).detach() * self.class_weight(stats)

    def sums(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        w = self.missed_share(stats)
        by_G = stats.total.double() if self.normalize == "pixels" else (w * stats.labels).sum(1)
        return (w * require(stats.nll, "nll")).sum(1), by_G

    def pixel_map(self, stats: SegmentStatistics) -> Tensor:
        nll, label, weight = (require(getattr(stats, n), n) for n in ("pixel_nll", "pixel_labels", "pixel_weight"))
        w = self.missed_share(stats).expand(nll.shape[0], -1)
        return nll * weight * torch.where(label >= 0, w.gather(1, label.clamp(min=0)), 0.0)


recall_loss = functional(RecallLoss)
