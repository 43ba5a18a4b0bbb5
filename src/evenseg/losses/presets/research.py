"""Code published with papers and by single authors, and torch itself.

Berman: bermanmaxim/LovaszSoftmax. HRNet: HRNet-Semantic-Segmentation. OCNet: openseg-group/OCNet.pytorch. JDT: zifuwanggg/JDTLosses.
Odyssey: JunMa11/SegLossOdyssey, which returns minus the score: 1 less than the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evenseg.losses.options import one_of
from evenseg.losses.presets.spec import Preset, Section, adapted, mean_only, must_be, section

Weights = Sequence[float] | None


def torch_cross_entropy(
    *, weight: Weights = None, ignore_index: int | None = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Section:
    mean_only(reduction)
    return section("CrossEntropyLoss", weight=weight, label_smoothing=label_smoothing, ignore_index=ignore_index)


def torch_bce(
    *,
    reduction: str = "mean",
    pos_weight: float | Sequence[float] | None = None,
    ignore_index: int | None = None,
    mode: str = "binary",
) -> Section:
    mean_only(reduction)
    mode = one_of("mode", mode, ("binary", "multilabel"))
    return section("BinaryCrossEntropyLoss", mode=mode, pos_weight=pos_weight, ignore_index=ignore_index)


def torchvision_sigmoid_focal(
    *, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean", ignore_index: int | None = None, mode: str =
    "binary"
) -> Section:
    mean_only(reduction)
    mode = one_of("mode", mode, ("binary", "multilabel"))
    return section("FocalLoss", mode=mode, alpha=None if alpha < 0 else alpha, gamma=gamma, ignore_index=ignore_index)


def berman_lovasz_softmax(
    *,
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    ignore: int | None = None,
    mode: str = "multiclass",
) -> Section:
    if one_of("mode", mode, ("multiclass", "binary")) == "binary":
        # a sigmoid map goes with classes=[1] there; anything else raises
        must_be("classes", list(classes), [1], "a sigmoid map has one class, the foreground")
        classes = "all"
    return section("LovaszSoftmaxLoss", mode=mode, classes=classes, per_image=per_image, ignore_index=ignore)


def berman_lovasz_hinge(*, per_image: bool = True, ignore: int | None = None) -> Section:
    return section("LovaszHingeLoss", per_image=per_image, empty_image=0.0 if per_image else None, ignore_index=ignore)


def berman_bce(*, ignore: int | None = None) -> Section:
    return section("BinaryCrossEntropyLoss", ignore_index=ignore)


def hrnet_cross_entropy(*, ignore_label: int | None = -1, weight: Weights = None) -> Section:
    return section("CrossEntropyLoss", weight=weight, ignore_index=ignore_label)


def hrnet_ohem(
    *, ignore_label: int | None = -1, thres: float = 0.7, min_kept: int = 100_000, weight: Weights = None
) -> Section:
    return section("OhemCrossEntropyLoss", thresh=thres, min_kept=min_kept, weight=weight, ignore_index=ignore_label)


def ocnet_ohem(
    *, ignore_label: int | None = 255, thresh: float = 0.7, min_kept: int = 100_000, weight: Weights = None
) -> Section:
    # hands the kept pixels to a weighted cross-entropy, which divides by the sum of their weights
    return section(
        "OhemCrossEntropyLoss", thresh=thresh, min_kept=min_kept, selection="ocnet", weight_normalization=True, weight=weight,
        ignore_index=ignore_label,
    )  # fmt: skip


def jdt(
    *,
    mIoUD: float = 1.0,
    mIoUI: float = 0.0,
    mIoUC: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    smooth: float = 1e-3,
    log_loss: bool = False,
    norm: int = 1,
    class_weights: Weights = None,
    active_classes_mode_hard: str = "PRESENT",
    active_classes_mode_soft: str = "ALL",
    ignore_index: int | None = None,
    soft_labels: bool = False,
) -> Section:
    classes = active_classes_mode_soft if soft_labels else active_classes_mode_hard
    common: dict[str, Any] = {
        "alpha": alpha, "beta": beta, "smooth_num": smooth, "smooth_den": smooth, "squared": one_of("norm", norm, (1, 2)) == 2,
        "classes": one_of("active_classes_mode", classes, ("PRESENT", "ALL")).lower(), "weight": class_weights,
        "weight_normalization": None if class_weights is None else False, "ignore_index": ignore_index,
    }  # fmt: skip
    if gamma != 1 and log_loss:
        raise ValueError("log_loss together with gamma is not offered")
    kind, own = ("TverskyLoss", {"log_loss": log_loss}) if gamma == 1 else ("FocalTverskyLoss", {"gamma": gamma})
    over: list[dict[str, Any]] = [{}, {"per_image": True}, {"per_image": True, "mean_order": "images_first"}]
    parts = [(coef, section(kind, **own, **common, **means)) for coef, means in zip((mIoUD, mIoUI, mIoUC), over) if coef]
    if not parts:
        raise ValueError("one of mIoUD, mIoUI and mIoUC must not be 0")
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return {"type": "MixedLoss", "losses": [loss for _, loss in parts], "coef": [coef for coef, _ in parts]}


def jdt_focal(*, gamma: float = 2.0, ignore_index: int | None = None) -> Section:
    return section("FocalLoss", gamma=gamma, ignore_index=ignore_index)


def _odyssey(
    type: str, smooth: float, batch_dice: bool, do_bg: bool, ignore_index: int | None, power: float = 1.0, **keywords: float
) -> Section:
    loss = section(
        type, per_image=not batch_dice, classes="all" if do_bg else "foreground", smooth_num=smooth, smooth_den=smooth,
        ignore_index=ignore_index, **keywords,
    )  # fmt: skip
    return adapted(loss, offset=-1.0) if power == 1 else adapted(loss, power=power)


def odyssey_dice(*, batch_dice: bool = False, do_bg: bool = True, smooth: float = 1.0, ignore_index: int | None = None) -> Section:
    return _odyssey("DiceLoss", smooth, batch_dice, do_bg, ignore_index)


def odyssey_iou(*, batch_dice: bool = False, do_bg: bool = True, smooth: float = 1.0, ignore_index: int | None = None) -> Section:
    return _odyssey("JaccardLoss", smooth, batch_dice, do_bg, ignore_index)


def odyssey_tversky(*, batch_dice: bool = False, do_bg: bool = True, smooth: float = 1.0, ignore_index: int | None = None) -> Section:
    return _odyssey("TverskyLoss", smooth, batch_dice, do_bg, ignore_index, alpha=0.3, beta=0.7)


def odyssey_focal_tversky(
    *, gamma: float = 0.75, batch_dice: bool = False, do_bg: bool = True, smooth: float = 1.0,
    ignore_index: int | None = None,
) -> Section:
    return _odyssey("TverskyLoss", smooth, batch_dice, do_bg, ignore_index, power=gamma, alpha=0.3, beta=0.7)


def odyssey_lovasz_softmax(*, reduction: str = "mean", ignore_index: int | None = None) -> Section:
    mean_only(reduction)
    return section("LovaszSoftmaxLoss", classes="all", ignore_index=ignore_index)


_MINUS = "1 - score, where theirs returns minus the score; over the batch, no smoothing, absent classes left out"
PRESETS = {
    "torch.cross_entropy": Preset(
        torch_cross_entropy, "nn.CrossEntropyLoss", "CrossEntropyLoss()",
        "the same; a batch without a valid pixel costs 0, not NaN",
    ),
    "torch.bce_with_logits": Preset(
        torch_bce, "nn.BCEWithLogitsLoss", "BinaryCrossEntropyLoss()",
        "the same; takes ignored pixels",
    ),
    "torchvision.sigmoid_focal": Preset(
        torchvision_sigmoid_focal, "ops.sigmoid_focal_loss", 'FocalLoss(mode="binary", alpha=0.25)',
        "the same; takes ignored pixels, and the gradient stays finite at saturated pixels for gamma < 1",
    ),
    "berman.lovasz_softmax": Preset(
        berman_lovasz_softmax, "lovasz_softmax", "LovaszSoftmaxLoss()",
        "no sort; a batch or image without a valid pixel, or with one, is no error"
    ),
    "berman.lovasz_hinge": Preset(
        berman_lovasz_hinge, "lovasz_hinge", "LovaszHingeLoss()",
        "over the batch (theirs per image by default), no sort; a wholly ignored image is left out instead of counting as 0",
    ),
    "berman.bce": Preset(berman_bce, "binary_xloss", "BinaryCrossEntropyLoss()", "the same"),
    "hrnet.cross_entropy": Preset(
        hrnet_cross_entropy, "CrossEntropy", "CrossEntropyLoss()",
        "the same; a batch without a valid pixel costs 0, not NaN",
    ),
    "hrnet.ohem": Preset(
        hrnet_ohem, "OhemCrossEntropy", "OhemCrossEntropyLoss()",
        "the same but for ties: pixels that tie with the last one are kept, where theirs drops them and can average "
        "nothing (NaN). Auxiliary "
        "heads: their cross-entropy is averaged over all pixels, `{type: CrossEntropyLoss, divisor: pixels}`",
    ),
    "ocnet.ohem": Preset(
        ocnet_ohem, "OhemCrossEntropy2d", 'OhemCrossEntropyLoss(selection="ocnet")',
        "the same; divide by the number of kept pixels, unless you want weights to cancel"
    ),
    "jdt.jdt": Preset(
        jdt, "JDTLoss", "JaccardLoss()",
        "the same without the smoothing of 1e-3; say soft_labels=True for soft labels, which average all classes there"
    ),
    "jdt.focal": Preset(jdt_focal, "FocalLoss", "FocalLoss()", "the same; the gradient stays finite for gamma < 1"),
    "odyssey.dice": Preset(odyssey_dice, "SoftDiceLoss", "DiceLoss()", _MINUS),
    "odyssey.iou": Preset(odyssey_iou, "IoULoss", "JaccardLoss()", _MINUS),
    "odyssey.tversky": Preset(odyssey_tversky, "TverskyLoss", "TverskyLoss()", _MINUS),
    "odyssey.focal_tversky": Preset(
        odyssey_focal_tversky, "FocalTversky_loss", "FocalTverskyLoss()",
        "every class is raised to the power, not the mean; the slope stays finite at 0; over the batch, no smoothing",
    ),
    "odyssey.lovasz_softmax": Preset(
        odyssey_lovasz_softmax, "LovaszSoftmax", "LovaszSoftmaxLoss()",
        "takes logits, present classes only, no sort; takes ignored pixels"
    ),
}  # fmt: skip
