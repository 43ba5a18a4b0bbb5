"""MONAI 1.6.

Region losses are per image unless batch=True, count every class, smooth both sides by 1e-5, and count a wholly ignored image
as 0. MONAI applies no activation unless told to; a preset takes logits, so it is a softmax unless sigmoid=True. With
sigmoid=True every channel is a class of its own; mode="binary" reads two-channel logits as one.
"""

from __future__ import annotations

from collections.abc import Sequence

from evenseg.losses.options import one_of
from evenseg.losses.presets.spec import Preset, Section, mean_only, section


def _mode(sigmoid: bool, softmax: bool, mode: str | None) -> str:
    if sigmoid and softmax:
        raise ValueError("sigmoid and softmax exclude each other")
    if not sigmoid:
        return one_of("mode", mode or "multiclass", ("multiclass",))
    return one_of("mode", mode or "multilabel", ("binary", "multilabel"))


def _region(
    *, include_background: bool, sigmoid: bool, softmax: bool, reduction: str, batch: bool, ignore_index: int | None, mode: str | None
) -> Section:
    mean_only(reduction)
    return {
        "mode": _mode(sigmoid, softmax, mode),
        "classes": "all" if include_background else "foreground",
        "per_image": not batch,
        "empty_image": None if batch else 0.0,
        "ignore_index": ignore_index,
    }


def dice(
    *,
    include_background: bool = True,
    to_onehot_y: bool = False,
    sigmoid: bool = False,
    softmax: bool = False,
    squared_pred: bool = False,
    jaccard: bool = False,
    reduction: str = "mean",
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    weight: Sequence[float] | None = None,
    soft_label: bool = False,
    ignore_index: int | None = None,
    mode: str | None = None,
) -> Section:
    common = _region(
        include_background=include_background, sigmoid=sigmoid, softmax=softmax, reduction=reduction, batch=batch,
        ignore_index=ignore_index, mode=mode,
    )  # fmt: skip
    if weight is not None:
        # theirs has no entry for a background that is left out
        common |= {"weight": list(weight) if include_background else [1.0, *weight], "weight_normalization": False}
    # its Jaccard doubles numerator and denominator before smoothing
    nr, dr = (smooth_nr / 2, smooth_dr / 2) if jaccard else (smooth_nr, smooth_dr)
    return section(
        "JaccardLoss" if jaccard else "DiceLoss", squared=squared_pred, smooth_num=nr, smooth_den=dr,
        overlap="min" if soft_label else "product", **common,
    )  # fmt: skip


def tversky(
    *,
    include_background: bool = True,
    to_onehot_y: bool = False,
    sigmoid: bool = False,
    softmax: bool = False,
    alpha: float = 0.5,
    beta: float = 0.5,
    reduction: str = "mean",
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    soft_label: bool = False,
    ignore_index: int | None = None,
    mode: str | None = None,
) -> Section:
    common = _region(
        include_background=include_background, sigmoid=sigmoid, softmax=softmax, reduction=reduction, batch=batch,
        ignore_index=ignore_index, mode=mode,
    )  # fmt: skip
    return section(
        "TverskyLoss", alpha=alpha, beta=beta, smooth_num=smooth_nr, smooth_den=smooth_dr,
        overlap="min" if soft_label else "product", **common,
    )  # fmt: skip


def generalized_dice(
    *,
    include_background: bool = True,
    to_onehot_y: bool = False,
    sigmoid: bool = False,
    softmax: bool = False,
    w_type: str = "square",
    reduction: str = "mean",
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    soft_label: bool = False,
    ignore_index: int | None = None,
    mode: str | None = None,
) -> Section:
    common = _region(
        include_background=include_background, sigmoid=sigmoid, softmax=softmax, reduction=reduction, batch=batch,
        ignore_index=ignore_index, mode=mode,
    )  # fmt: skip
    # an infinite weight becomes the largest finite one, 0 where there is none: an image without any class costs 0
    return section(
        "GeneralizedDiceLoss", weight_type=w_type, smooth_num=smooth_nr, smooth_den=smooth_dr, absent_as_zero=True, **common
    )


def focal(
    *,
    include_background: bool = True,
    to_onehot_y: bool = False,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
    reduction: str = "mean",
    use_softmax: bool = False,
    ignore_index: int | None = None,
    mode: str | None = None,
) -> Section:
    if reduction == "sum":
        raise ValueError("reduction='sum' of MONAI averages over space before it sums: not offered; take 'mean'")
    mean_only(reduction)
    if not include_background:
        raise ValueError(
            "include_background=False takes the background channel out before the softmax, so that background pixels cost "
            "nothing: not offered"
        )
    # the mean is over pixels times channels, and with ignore_index over the valid pixels: C times as much
    divisor = "entries" if ignore_index is None else "valid"
    common = {"gamma": gamma, "divisor": divisor, "ignore_index": ignore_index}
    if not use_softmax:
        if weight is not None:
            raise ValueError("weight is offered with use_softmax=True only")
        mode = one_of("mode", mode or "multilabel", ("binary", "multilabel"))
        return section("FocalLoss", mode=mode, alpha=alpha, **common)
    if weight is not None:
        background = 1.0 if alpha is None else 1 - alpha if isinstance(alpha, (int, float)) else alpha[0]
        others = [1.0 if alpha is None else alpha if isinstance(alpha, (int, float)) else alpha[c] for c in range(1, len(weight))]
        alpha = [a * w for a, w in zip([background, *others], weight)]
    return section("FocalLoss", alpha=alpha, alpha_complement=isinstance(alpha, (int, float)), **common)


def dice_ce(
    *,
    include_background: bool = True,
    to_onehot_y: bool = False,
    sigmoid: bool = False,
    softmax: bool = False,
    squared_pred: bool = False,
    jaccard: bool = False,
    reduction: str = "mean",
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    weight: Sequence[float] | None = None,
    lambda_dice: float = 1.0,
    lambda_ce: float = 1.0,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Section:
    if sigmoid:
        raise ValueError("sigmoid=True is not offered; mix monai.dice and BinaryCrossEntropyLoss with MixedLoss")
    region = dice(
        include_background=include_background, softmax=softmax, squared_pred=squared_pred, jaccard=jaccard, reduction=reduction,
        smooth_nr=smooth_nr, smooth_dr=smooth_dr, batch=batch, weight=weight, ignore_index=ignore_index,
    )  # fmt: skip
    entropy = section("CrossEntropyLoss", weight=weight, label_smoothing=label_smoothing, ignore_index=ignore_index)
    return {"type": "MixedLoss", "losses": [region, entropy], "coef": [lambda_dice, lambda_ce]}


_IMAGE = (
    "over the batch, so that an image without a class does not cost 1 for it; no smoothing, which makes small "
    "objects vanish; "
    "absent classes are left out"
)
PRESETS = {
    "monai.dice": Preset(dice, "DiceLoss", "DiceLoss()", _IMAGE),
    "monai.tversky": Preset(tversky, "TverskyLoss", "TverskyLoss()", _IMAGE),
    "monai.generalized_dice": Preset(
        generalized_dice, "GeneralizedDiceLoss", "GeneralizedDiceLoss()", f"{_IMAGE}; smallest at p = y for soft labels too"
    ),
    "monai.focal": Preset(
        focal, "FocalLoss", "FocalLoss()",
        "the mean is over the valid pixels; theirs is smaller by the number of classes unless ignore_index is set, "
        "and defaults to "
        "a sigmoid per class",
    ),
    "monai.dice_ce": Preset(
        dice_ce, "DiceCELoss", "MixedLoss([DiceLoss(), CrossEntropyLoss()], coef=[1, 1])",
        f"Dice {_IMAGE}; one pass for both"
    ),
}  # fmt: skip
