"""Lovász hinge."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.lovasz_softmax import _LovaszLoss
from evenseg.statistics import DEFAULT_BINS


class LovaszHingeLoss(_LovaszLoss):
    """The Lovász extension of the Jaccard loss on hinge errors, for a binary task.

    L = J(m) with m_i = max(0, 1 - s_i z_i), z the logit, s = 1 on the foreground and -1 on the background, and J the Lovász
    extension of the Jaccard loss of the foreground. Two-channel logits mean z = z1 - z0.

    Args:
        method: "histogram" (default) or "sort" (exact).
        num_bins: half of it is the number of bins of m in [0, 1), [1, 3), [3, 7) ... [127, 255]: hinge errors are unbounded.
        **common: see :class:`evenseg.losses.base.RegionLoss`. mode "binary" (default) or "multilabel" (mean over channels).
            classes="all" by default: an image without foreground costs its largest error, as in the authors' code;
            "present" leaves such images out. per_image is False by default; the authors' default is True.

    Range: [0, inf).

    Source: Yu and Blaschko, The Lovász hinge, ICML 2015 and TPAMI 2018; Berman et al., CVPR 2018, section 2.3.
    """

    default_mode = "binary"
    default_classes = "all"

    def __init__(
        self,
        *,
        method: str = "histogram",
        num_bins: int = DEFAULT_BINS,
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        **common: Unpack[RegionOptions],
    ):
        super().__init__(
            method=method, num_bins=num_bins, absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common
        )
        if self.mode == "multiclass":
            raise ValueError("LovaszHingeLoss is for mode='binary' or 'multilabel'; for several classes use LovaszSoftmaxLoss")

    @property
    def activation(self) -> str:
        return "hinge"

    def errors(self, logits_NCP: Tensor, foreground_NCP: Tensor) -> Tensor:
        return torch.relu(1 - torch.where(foreground_NCP, logits_NCP, -logits_NCP))


lovasz_hinge_loss = functional(LovaszHingeLoss)
