"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import PixelLoss, PixelOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.options import class_weights, flag, number, one_of
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.types import require


class FocalLoss(PixelLoss):
    """Cross-entropy with easy pixels damped by (1 - p)^gamma.

    Softmax form (mode "multiclass"): L = mean over the valid pixels of alpha[y] (1 - p[y])^gamma (-log p[y]).
    Sigmoid form (modes "binary" and "multilabel", or activation="sigmoid" for one-vs-rest): mean over the valid pixels (and
    channels) of alpha (1-p)^gamma (-log p) on the foreground and (1-alpha) p^gamma (-log(1-p)) on the background.

    Args:
        gamma: focusing exponent >= 0; 0 gives cross-entropy. Fractional exponents have finite gradients everywhere.
        alpha: None for no balancing; a number, or one per class. In the softmax form it multiplies the class's term; in the
            sigmoid form the background gets 1 - alpha.
        alpha_complement: in the softmax form, a single alpha is that of every class but 0, and class 0 gets 1 - alpha (kornia,
            MONAI).
        activation: "softmax" or "sigmoid"; by default what the mode says.
        **common: see :class:`evenseg.losses.base.PixelLoss`. With `weight` the mean is divided by the sum of the weights.

    Range: [0, inf).

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 5. The paper divides by the number of
    foreground boxes; on pixels the mean is the common choice.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        activation: str | None = None,
        alpha_complement: bool = False,
        **common: Unpack[PixelOptions],
    ):
        super().__init__(**common)
        self.gamma = number("gamma", gamma, 0, 20)
        self._activation = super().activation if activation is None else one_of("activation", activation, ("softmax", "sigmoid"))
        if self._activation == "softmax" and self.mode != "multiclass":
            raise ValueError(f"activation='softmax' needs mode='multiclass', got mode={self.mode!r}")
        values = [number("alpha", alpha, 0)] if isinstance(alpha, (int, float)) else alpha
        self.alpha: Tensor | None
        self.register_buffer("alpha", class_weights("alpha", values), persistent=False)
        if self._activation == "sigmoid" and self.alpha is not None and bool((self.alpha > 1).any()):
            raise ValueError(f"alpha must lie in [0, 1] for the sigmoid form, got {self.alpha.tolist()}")
        self.alpha_complement = flag("alpha_complement", alpha_complement)
        if self.alpha_complement and (self._activation == "sigmoid" or self.alpha is None or self.alpha.numel() > 1):
            raise ValueError("alpha_complement needs the softmax form and a single number alpha")
        if self.alpha_complement and float(self.alpha) > 1:  # type: ignore[arg-type]
            raise ValueError(f"alpha must lie in [0, 1] with alpha_complement, got {alpha}")

    @property
    def activation(self) -> str:
        return self._activation

    @property
    def members(self) -> Members:
        return Members(focal=(self.gamma,), pixel_nll=self.reduction == "none")

    def check_classes(self, stats: SegmentStatistics) -> None:
        super().check_classes(stats)
        C = stats.labels.shape[1]
        if self.alpha is not None and self.alpha.numel() not in (1, C):
            raise ValueError(f"alpha has {self.alpha.numel()} entries, the logits have {C} channels")

    def factors(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        """Factors alpha of foreground and background by class."""
        one = torch.ones(stats.labels.shape[1], dtype=torch.float64, device=stats.labels.device)
        if self.alpha is None:
            return one, one
        alpha = one * self.alpha.double()
        if self.alpha_complement:
            alpha = torch.cat([1 - alpha[:1], alpha[1:]])
        return alpha, 1 - alpha

    def sums(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        weight_C = self.class_weight(stats)
        alpha_C, rest_C = self.factors(stats)
        total_GC = alpha_C * stats.focal[self.gamma]
        if self._activation == "sigmoid":
            total_GC = total_GC + rest_C * stats.focal_rest[self.gamma]
            by_GC = weight_C * stats.valid
        elif self.weight is None:
            return total_GC.sum(1), stats.total.double()
        else:
            by_GC = weight_C * stats.labels
        return (weight_C * total_GC).sum(1), by_GC.sum(1)

    def pixel_map(self, stats: SegmentStatistics) -> Tensor:
        nll, label, weight = (require(getattr(stats, n), n) for n in ("pixel_nll", "pixel_labels", "pixel_weight"))
        miss = -torch.expm1(-nll)
        inside = miss > 0
        value = torch.where(inside, miss.where(inside, 1.0) ** self.gamma, 0.0 if self.gamma else 1.0) * nll
        alpha_C, rest_C = self.factors(stats)
        weight_C = self.class_weight(stats)
        if self._activation == "softmax":
            factor = (alpha_C * weight_C)[label.clamp(min=0)]
        else:
            factor = torch.where(label == 1, (alpha_C * weight_C)[:, None], (rest_C * weight_C)[:, None])
        return value * weight * torch.where(label >= 0, factor, 0.0)


focal_loss = functional(FocalLoss)
