"""Jaccard (soft IoU) loss."""

from __future__ import annotations

from typing_extensions import Unpack

from evenseg.losses.base import RegionOptions, refuse_unknown
from evenseg.losses.functional_form import functional
from evenseg.losses.tversky import TverskyLoss


class JaccardLoss(TverskyLoss):
    """One minus the soft intersection over union: the Tversky loss with alpha = beta = 1.

    L_c = 1 - (sum p y + s_n) / (sum p + sum y - sum p y + s_d), over the valid pixels of the group; mean over classes, then
    groups. For soft labels sum p y is sum min(p, y), so that the loss is smallest, and 0, at p = y.

    Args:
        smooth_num, smooth_den: s_n and s_d, in pixels.
        eps: lower bound of the denominator.
        squared: sum p² and y² in the sizes.
        log_loss: -log of the index instead of 1 - index.
        average: "macro" or "micro".
        overlap: "min" (default) or "product", for soft labels: see :class:`evenseg.losses.tversky.TverskyLoss`.
        **common: see :class:`evenseg.losses.tversky.TverskyLoss`.

    Range: [0, 1].

    Source: Rahman and Wang, Optimizing intersection-over-union in deep neural networks, ISVC 2016; soft labels: Wang et al.,
    Jaccard metric losses, NeurIPS 2023.
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
        super().__init__(
            alpha=1.0, beta=1.0, smooth_num=smooth_num, smooth_den=smooth_den, eps=eps, squared=squared, log_loss=log_loss,
            average=average, overlap=overlap, absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common,
        )  # fmt: skip


jaccard_loss = functional(JaccardLoss)
