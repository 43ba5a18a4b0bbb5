"""segmentation-models-pytorch 0.6.

Region losses sum over the batch. A class without labels in the batch costs 0 but stays in the mean, so the loss shrinks with
every class that is absent.
"""

from __future__ import annotations

from collections.abc import Sequence

from evenseg.losses.options import one_of
from evenseg.losses.presets.spec import Preset, Section, adapted, from_logits_only, mean_only, section

MODES = ("multiclass", "binary", "multilabel")
Weights = Sequence[float] | None


def _region(mode: str, classes: Sequence[int] | None, ignore_index: int | None, class_weights: Weights) -> Section:
    one_of("mode", mode, MODES)
    if isinstance(classes, int):
        raise ValueError(f"classes must be a list of class numbers, got {classes} (SMP ignores a number without a word)")
    return {
        "mode": mode,
        "classes": "all" if classes is None else list(classes),
        "absent_as_zero": True,
        "ignore_index": ignore_index,
        "weight": class_weights,
    }


def dice(
    *,
    mode: str = "multiclass",
    classes: Sequence[int] | None = None,
    log_loss: bool = False,
    from_logits: bool = True,
    smooth: float = 0.0,
    ignore_index: int | None = None,
    eps: float = 1e-7,
    class_weights: Weights = None,
) -> Section:
    from_logits_only(from_logits)
    common = _region(mode, classes, ignore_index, class_weights)
    # its Dice is its Tversky at 1/2: smooth and eps stand beside TP, not beside 2 TP
    return section("DiceLoss", smooth_num=2 * smooth, smooth_den=2 * smooth, eps=2 * eps, log_loss=log_loss, **common)


def jaccard(
    *,
    mode: str = "multiclass",
    classes: Sequence[int] | None = None,
    log_loss: bool = False,
    from_logits: bool = True,
    smooth: float = 0.0,
    ignore_index: int | None = None,
    eps: float = 1e-7,
    class_weights: Weights = None,
) -> Section:
    from_logits_only(from_logits)
    common = _region(mode, classes, ignore_index, class_weights)
    return section("JaccardLoss", smooth_num=smooth, smooth_den=smooth, eps=eps, log_loss=log_loss, **common)


def tversky(
    *,
    mode: str = "multiclass",
    classes: Sequence[int] | None = None,
    log_loss: bool = False,
    from_logits: bool = True,
    smooth: float = 0.0,
    ignore_index: int | None = None,
    eps: float = 1e-7,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    class_weights: Weights = None,
) -> Section:
    from_logits_only(from_logits)
    common = _region(mode, classes, ignore_index, class_weights) | {"alpha": alpha, "beta": beta, "eps": eps}
    common |= {"smooth_num": smooth, "smooth_den": smooth}
    if gamma == 1:
        return section("TverskyLoss", log_loss=log_loss, **common)
    if log_loss:
        raise ValueError("log_loss together with gamma is not offered")
    return section("FocalTverskyLoss", gamma=gamma, power_of_mean=True, **common)


def focal(
    *,
    mode: str = "multiclass",
    alpha: float | None = None,
    gamma: float = 2.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
    normalized: bool = False,
    reduced_threshold: float | None = None,
) -> Section:
    one_of("mode", mode, MODES)
    mean_only(reduction)
    if normalized or reduced_threshold is not None:
        return section(
            "evenseg.losses.presets.variants.SmpFocalLoss", mode=mode, alpha=alpha, gamma=gamma, normalized=normalized,
            reduced_threshold=reduced_threshold, ignore_index=ignore_index,
        )  # fmt: skip
    return section("FocalLoss", mode=mode, activation="sigmoid", alpha=alpha, gamma=gamma, ignore_index=ignore_index)


def softmax_focal(*, gamma: float = 2.0, reduction: str = "mean", ignore_index: int | None = None) -> Section:
    mean_only(reduction)
    return section("FocalLoss", gamma=gamma, ignore_index=ignore_index)


def lovasz(
    *, mode: str = "multiclass", per_image: bool = False, ignore_index: int | None = None, from_logits: bool = True
) -> Section:
    one_of("mode", mode, MODES)
    from_logits_only(from_logits)
    if mode == "multiclass":
        return section("LovaszSoftmaxLoss", per_image=per_image, ignore_index=ignore_index)
    hinge = section(
        "LovaszHingeLoss", per_image=per_image, ignore_index=ignore_index, empty_image=0.0 if per_image else None
    )
    return hinge if mode == "binary" else adapted(hinge, channels="together")


def soft_ce(
    *, reduction: str = "mean", smooth_factor: float | None = None, ignore_index: int | None = -100, dim: int = 1
) -> Section:
    mean_only(reduction)
    if dim != 1:
        raise ValueError(f"dim must be 1, the dimension of the classes, got {dim!r}")
    return section("CrossEntropyLoss", label_smoothing=smooth_factor or 0.0, divisor="pixels", ignore_index=ignore_index)


def soft_bce(
    *,
    weight: float | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    smooth_factor: float | None = None,
    pos_weight: float | Sequence[float] | None = None,
    mode: str = "binary",
) -> Section:
    mean_only(reduction)
    if mode != "binary" and weight is not None:
        raise ValueError("weight is offered with mode='binary' only")
    loss = section(
        "BinaryCrossEntropyLoss",
        mode=one_of("mode", mode, ("binary", "multilabel")),
        weight=None if weight is None else [weight, weight],
        pos_weight=pos_weight,
        divisor="entries",
        ignore_index=ignore_index,
    )
    return adapted(loss, binary_smoothing=smooth_factor) if smooth_factor else loss


def mcc(*, eps: float = 1e-5, ignore_index: int | None = None) -> Section:
    return section("MCCLoss", mode="binary", classes="all", eps=eps, ignore_index=ignore_index)


_ABSENT = (
    "an absent class is left out of the mean instead of counting as 0, so the value does not depend on how many classes a batch "
    "holds"
)
PRESETS = {
    "smp.dice": Preset(dice, "DiceLoss", "DiceLoss()", _ABSENT),
    "smp.jaccard": Preset(jaccard, "JaccardLoss", "JaccardLoss()", _ABSENT),
    "smp.tversky": Preset(
        tversky, "TverskyLoss", "TverskyLoss() or FocalTverskyLoss()",
        f"{_ABSENT}; with gamma every class is raised to the power, not the mean; the slope stays finite at 0",
    ),
    "smp.focal": Preset(
        focal, "FocalLoss", "FocalLoss()",
        "softmax focal loss for classes that exclude each other; theirs is a sigmoid per class, averaged over the classes",
    ),
    "smp.softmax_focal": Preset(
        softmax_focal, "losses._functional.softmax_focal_loss_with_logits", "FocalLoss()",
        "the same",
    ),
    "smp.lovasz": Preset(
        lovasz, "LovaszLoss", "LovaszSoftmaxLoss() or LovaszHingeLoss()",
        'no sort (`method="histogram"`); a wholly ignored image is left out of the mean over images; multilabel is the mean of '
        "the channels' hinges, where theirs is one hinge over all channels",
    ),
    "smp.soft_ce": Preset(
        soft_ce, "SoftCrossEntropyLoss", "CrossEntropyLoss(label_smoothing=0.1)",
        "the mean is over the valid pixels; theirs divides by all, so that ignored pixels dilute the loss",
    ),
    "smp.soft_bce": Preset(
        soft_bce, "SoftBCEWithLogitsLoss", "BinaryCrossEntropyLoss()",
        "the mean is over the valid pixels; theirs divides by all, so that ignored pixels dilute the loss",
    ),
    "smp.mcc": Preset(
        mcc, "MCCLoss", 'MCCLoss(mode="binary")',
        "takes logits (theirs probabilities) and ignored pixels",
    ),
}  # fmt: skip
