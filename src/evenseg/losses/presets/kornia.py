"""kornia 0.9.

Region losses are per image. version="0.9.0rc1" gives what dice and tversky of that version (also its main branch) return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evenseg.losses.options import one_of
from evenseg.losses.presets.spec import Preset, Section, mean_only, section

VERSIONS = ("0.9.0", "0.9.0rc1")


def _region(eps: float, version: str, ignore_index: int | None, average: str, weight: Any = None) -> Section:
    one_of("version", version, VERSIONS)
    if average == "micro" and weight is not None:
        raise ValueError("weight is offered with average='macro' only")
    # 0.9.0 leaves absent classes out of the mean, the release candidate counted them; one sum has them all
    drops = average == "macro" and version == "0.9.0"
    return {
        "average": average, "per_image": True, "classes": "present" if drops else "all", "smooth_den": eps, "eps": 1e-12,
        "empty_image": 1.0, "weight": weight, "ignore_index": ignore_index,
    }  # fmt: skip


def dice(
    *,
    average: str = "micro",
    eps: float = 1e-8,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    version: str = "0.9.0",
) -> Section:
    return section("DiceLoss", **_region(eps, version, ignore_index, one_of("average", average, ("micro", "macro")), weight))


def tversky(
    *, alpha: float, beta: float, eps: float = 1e-8, ignore_index: int | None = -100, version: str = "0.9.0"
) -> Section:
    if version == "0.9.0rc1":
        # there only alpha + beta matters: cost of false positives and false negatives cannot be told apart
        alpha = beta = (alpha + beta) / 2
        return section("TverskyLoss", alpha=alpha, beta=beta, **_region(eps / 2, version, ignore_index, "micro"))
    return section("TverskyLoss", alpha=alpha, beta=beta, **_region(eps, version, ignore_index, "macro"))


def focal(
    *, alpha: float | None = None, gamma: float = 2.0, reduction: str = "mean", ignore_index: int | None = -100
) -> Section:
    mean_only(reduction)
    complement = {} if alpha is None else {"alpha": alpha, "alpha_complement": True}
    return section("FocalLoss", gamma=gamma, divisor="entries", ignore_index=ignore_index, **complement)


def binary_focal(
    *, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean", ignore_index: int | None = -100, mode: str =
    "binary"
) -> Section:
    mean_only(reduction)
    mode = one_of("mode", mode, ("binary", "multilabel"))
    return section("FocalLoss", mode=mode, alpha=alpha, gamma=gamma, divisor="entries", ignore_index=ignore_index)


def lovasz_softmax(*, ignore_index: int | None = None) -> Section:
    return section("LovaszSoftmaxLoss", per_image=True, classes="all", ignore_index=ignore_index)


def lovasz_hinge(*, ignore_index: int | None = None) -> Section:
    return section("LovaszHingeLoss", per_image=True, ignore_index=ignore_index)


_IMAGE = "over the batch; a wholly ignored image does not cost 1"
PRESETS = {
    "kornia.dice": Preset(
        dice, "DiceLoss", "DiceLoss()",
        f"{_IMAGE}; one Dice per class (macro), where theirs sums the classes first and so follows the large ones"
    ),
    "kornia.tversky": Preset(
        tversky, "TverskyLoss", "TverskyLoss()",
        f"{_IMAGE}; **in 0.9.0rc1 and on their main branch alpha and beta cannot be told apart**",
    ),
    "kornia.focal": Preset(
        focal, "FocalLoss", "FocalLoss()",
        "the mean is over the valid pixels; theirs is divided by the number of classes too, and by ignored pixels"
    ),
    "kornia.binary_focal": Preset(
        binary_focal, "BinaryFocalLossWithLogits", 'FocalLoss(mode="binary")', "the mean is over the valid pixels"
    ),
    "kornia.lovasz_softmax": Preset(
        lovasz_softmax, "LovaszSoftmaxLoss (0.9.0)", "LovaszSoftmaxLoss()",
        "over the batch, present classes, no sort; takes ignored pixels. **0.9.0rc1 and their main branch sort "
        "class numbers instead of the class "
        "indicator into the weights: a wrong loss, not offered**",
    ),
    "kornia.lovasz_hinge": Preset(
        lovasz_hinge, "LovaszHingeLoss", "LovaszHingeLoss()",
        "over the batch, no sort; takes ignored pixels",
    ),
}  # fmt: skip
