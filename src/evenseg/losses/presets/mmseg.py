"""MMSegmentation 1.2.

Its Dice is one ratio per image over all classes together, V-Net form, sigmoid unless told otherwise, and does not take ignored
pixels out of the prediction. `loss_weight` is `coef` here.
"""

from __future__ import annotations

from collections.abc import Sequence

from evenseg.losses.options import one_of
from evenseg.losses.presets.spec import Preset, Section, adapted, mean_only, section

Weights = Sequence[float] | None


def cross_entropy(
    *,
    use_sigmoid: bool = False,
    reduction: str = "mean",
    class_weight: Weights = None,
    avg_non_ignore: bool = False,
    ignore_index: int | None = 255,
) -> Section:
    mean_only(reduction)
    if use_sigmoid:
        raise ValueError("use_sigmoid=True is not offered; use BinaryCrossEntropyLoss")
    # class weights bring their own divisor, the sum of the weights
    divisor = "weights" if avg_non_ignore or class_weight is not None else "pixels"
    return section("CrossEntropyLoss", weight=class_weight, divisor=divisor, ignore_index=ignore_index)


def dice(
    *,
    use_sigmoid: bool = True,
    activate: bool = True,
    reduction: str = "mean",
    naive_dice: bool = False,
    eps: float = 1e-3,
    ignore_index: int | None = 255,
) -> Section:
    mean_only(reduction)
    if not activate:
        raise ValueError("activate must be True: losses here take logits")
    form = {"smooth_num": eps, "smooth_den": eps} if naive_dice else {"squared": True, "smooth_den": 2 * eps}
    mode = "multilabel" if use_sigmoid else "multiclass"
    loss = section("DiceLoss", mode=mode, classes="all", average="micro", per_image=True, ignore_index=ignore_index, **form)
    return adapted(loss, ignored="background")


def tversky(
    *, smooth: float = 1.0, class_weight: Weights = None, alpha: float = 0.3, beta: float = 0.7, ignore_index: int | None = 255
) -> Section:
    return section(
        "TverskyLoss", alpha=alpha, beta=beta, per_image=True, classes="all", smooth_num=smooth, smooth_den=smooth,
        weight=class_weight, weight_normalization=None if class_weight is None else False, empty_image=0.0,
        ignore_index=ignore_index,
    )  # fmt: skip


def lovasz(
    *,
    loss_type: str = "multi_class",
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    reduction: str = "mean",
    class_weight: Weights = None,
    ignore_index: int | None = 255,
) -> Section:
    one_of("reduction", reduction, ("mean", "none"))  # "none" must be said there when per_image is False, and means nothing
    if one_of("loss_type", loss_type, ("multi_class", "binary")) == "binary":
        empty = 0.0 if per_image else None
        return section("LovaszHingeLoss", per_image=per_image, empty_image=empty, ignore_index=ignore_index)
    return section(
        "LovaszSoftmaxLoss", per_image=per_image, classes=classes, weight=class_weight,
        weight_normalization=None if class_weight is None else False, ignore_index=ignore_index,
    )  # fmt: skip


def ohem(
    *, thres: float = 0.7, min_kept: int = 100_000, class_weight: Weights = None, ignore_index: int | None = 255
) -> Section:
    return section("OhemCrossEntropyLoss", thresh=thres, min_kept=min_kept, weight=class_weight, ignore_index=ignore_index)


PRESETS = {
    "mmseg.cross_entropy": Preset(
        cross_entropy, "CrossEntropyLoss", "CrossEntropyLoss()",
        "the mean is over the valid pixels (their avg_non_ignore=True), so that ignored pixels do not dilute the loss",
    ),
    "mmseg.dice": Preset(
        dice, "DiceLoss", "DiceLoss()",
        "one Dice per class over the batch, linear, softmax; **ignored pixels are left out, theirs count as false "
        "positives of whatever is "
        "predicted there**",
    ),
    "mmseg.tversky": Preset(
        tversky, "TverskyLoss", "TverskyLoss()",
        "over the batch, no smoothing, absent classes left out",
    ),
    "mmseg.lovasz": Preset(
        lovasz, "LovaszLoss", "LovaszSoftmaxLoss() or LovaszHingeLoss()",
        "no sort; weights are normalised; one valid pixel or a wholly ignored image is no error",
    ),
    "mmseg.ohem": Preset(
        ohem, "OhemCrossEntropy", "OhemCrossEntropyLoss()",
        "pixels that tie with the last one are kept, so that no selection is empty"
    ),
}  # fmt: skip
