"""Losses that exist for a preset only: other libraries' variants that no option of a loss of ours gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.ohem import BootstrappedCrossEntropyLoss
from evenseg.losses.options import flag, number
from evenseg.statistics.sync import sum_tensor_over_ranks

_SMP_EPS = 1e-6


class PaddleTopKCrossEntropyLoss(BootstrappedCrossEntropyLoss):
    """Bootstrapped cross-entropy as PaddleSeg's CrossEntropyLoss selects: by weighted loss, a share of all pixels.

    L = sum over the k pixels of the largest w[y_i] (-log p_i[y_i]) of that / sum of their w[y_i], with k the share `top_k` of
    all pixels, ignored ones included, rounded down.

    Args:
        top_k: a float in (0, 1].
        **options: those of :class:`evenseg.losses.BootstrappedCrossEntropyLoss`.

    Range: [0, inf).
    """

    rank_weighted = True

    def wanted(self, valid: Tensor, number_valid: int) -> int:
        pixels = valid.numel()
        if self.sync and not self.per_image:
            pixels = int(sum_tensor_over_ranks(torch.tensor(pixels, device=valid.device)))
        return int(self.top_k * pixels)


class SmpFocalLoss(MapLoss):
    """Sigmoid focal loss of every channel with the two variants that SMP offers.

    L = mean over the valid pixels of a f(p) (-log p), p the probability of what is right, and for "multiclass" the mean of
    that over the channels. f(p) = (1-p)^gamma; with `reduced_threshold` t it is 1 for p < t and ((1-p)/t)^gamma elsewhere, which
    jumps at t unless t = 1/2. With `normalized`, the loss of a channel (of all, but for "multiclass") is divided by sum f(p)
    too, so that its size depends on the number of pixels.

    Args:
        gamma: exponent >= 0.
        alpha: None, or the factor a of the foreground; 1 - alpha that of the background.
        reduced_threshold: t in (0, 1], or None.
        normalized: see above.
        **common: see :class:`evenseg.losses.maps.MapLoss`; `weight` does not apply.

    Range: [0, inf).

    Source: segmentation_models_pytorch, losses/_functional.py; Sergievskiy and Ponamarev, Reduced focal loss, 2019.
    """

    fixed = ("weight",)

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | None = None,
        reduced_threshold: float | None = None,
        normalized: bool = False,
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.gamma = number("gamma", gamma, 0, 20)
        self.alpha = None if alpha is None else number("alpha", alpha, 0, 1)
        threshold = reduced_threshold
        self.reduced_threshold = None if threshold is None else number("reduced_threshold", threshold, 0, 1, open_low=True)
        self.normalized = flag("normalized", normalized)
        if self.weight is not None:
            raise ValueError("SmpFocalLoss takes no weight")

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        foreground = maps.truth == 1
        nll = F.softplus(torch.where(foreground, -maps.logits, maps.logits))
        miss = -torch.expm1(-nll)  # 1 - p
        # a power of 0 has no finite slope where gamma < 1
        scaled = miss if self.reduced_threshold is None else miss / self.reduced_threshold
        factor = torch.where(miss > 0, scaled.clamp(min=1e-30) ** self.gamma, 0.0 if self.gamma else 1.0)
        if self.reduced_threshold is not None:
            factor = torch.where(1 - miss < self.reduced_threshold, 1.0, factor)
        loss = factor * nll
        if self.alpha is not None:
            loss = loss * torch.where(foreground, self.alpha, 1 - self.alpha)
        weight = maps.weight.expand_as(loss)
        # channel by channel where they exclude each other, all together elsewhere
        over = [d for d in range(loss.dim()) if d != 1 or self.mode != "multiclass"]
        mean = self.mean((weight * loss).sum(over), weight.sum(over))
        if self.normalized:
            mean = mean / self.over_ranks((weight * factor).sum(over))[0].clamp(min=_SMP_EPS)
        return mean.mean()
