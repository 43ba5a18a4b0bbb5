"""Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import RegionOptions, refuse_unknown
from evenseg.losses.functional_form import functional
from evenseg.losses.tversky import TverskyLoss


class DiceLoss(TverskyLoss):
    """One minus the soft Dice coefficient: the Tversky loss with alpha = beta = 1/2.

    L_c = 1 - (2 sum p y + s_n) / (sum p + sum y + s_d), over the valid pixels of the group; mean over classes, then groups.
    With `squared` the sizes are sum p² and sum y², the form of V-Net. For soft labels 2 sum p y is 2 sum min(p, y) (the L1
    form), so that the loss is smallest, and 0, at p = y.

    Args:
        smooth_num, smooth_den: s_n and s_d, in pixels. 0 by default: smoothing makes small objects vanish.
        eps: lower bound of the denominator.
        squared: V-Net denominator. Linear by default, the form nearly every library means by Dice.
        log_loss: -log of the coefficient instead of 1 - coefficient.
        average: "macro" or "micro".
        overlap: "min" (default) or "product", for soft labels: see :class:`evenseg.losses.tversky.TverskyLoss`.
        **common: see :class:`evenseg.losses.tversky.TverskyLoss`.

    Range: [0, 1].

    Source: Milletari et al., V-Net, 3DV 2016 (squared); Drozdzal et al., DLMIA 2016 (linear).

    Example:
        >>> import torch
        >>> from evenseg.functional import dice_loss
        >>> logits = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]]).view(1, 2, 1, 2)
        >>> dice_loss(logits, torch.tensor([[[0, 1]]])).item()
        0.5
    """

    fixed = ("alpha", "beta")

    def __init__(
        self,
        *,
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
        refuse_unknown(type(self), common)
        # TP / (TP + FP/2 + FN/2) is Dice over 2: so are its smoothing terms
        super().__init__(
            alpha=0.5, beta=0.5, smooth_num=smooth_num / 2, smooth_den=smooth_den / 2, eps=eps / 2, squared=squared,
            log_loss=log_loss, average=average, overlap=overlap, absent_as_zero=absent_as_zero,
            weight_normalization=weight_normalization, **common,
        )  # fmt: skip


class LogCoshDiceLoss(DiceLoss):
    """log(cosh(Dice loss)): quadratic near a perfect Dice, linear far from it.

    L = log cosh(D) with D the class mean of :class:`DiceLoss` in the group.

    Args:
        **options: those of :class:`DiceLoss`.

    Range: [0, log cosh 1 = 0.4338].

    Source: Jadon, A survey of loss functions for semantic segmentation, CIBCB 2020, eq. 12.
    """

    def finish(self, mean_G: Tensor) -> Tensor:
        return torch.log(torch.cosh(mean_G))


dice_loss = functional(DiceLoss)
log_cosh_dice_loss = functional(LogCoshDiceLoss)
