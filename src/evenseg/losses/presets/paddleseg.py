"""PaddleSeg (commit d7975e7c, October 2024).

Losses are fixed to per image (Dice) or batch (the others). Its MixedLoss and its `types`/`coef` are ours:
{type: MixedLoss, losses: [{type: paddleseg.cross_entropy}, {type: paddleseg.lovasz_softmax}], coef: [0.8, 0.2]}.
Paddle's CPU softmax clips differences of logits at 64; here they are not clipped.
"""

from __future__ import annotations

from collections.abc import Sequence

from evenseg.losses.presets.spec import Preset, Section, adapted, section

Weights = Sequence[float] | None


def cross_entropy(
    *, weight: Weights = None, ignore_index: int | None = 255, top_k_percent_pixels: float = 1.0, avg_non_ignore: bool = True
) -> Section:
    if top_k_percent_pixels != 1:
        if not avg_non_ignore:
            raise ValueError("avg_non_ignore=False together with top_k_percent_pixels is not offered")
        return section(
            "evenseg.losses.presets.variants.PaddleTopKCrossEntropyLoss", top_k=float(top_k_percent_pixels), weight=weight,
            weight_normalization=True, ignore_index=ignore_index,
        )  # fmt: skip
    if not avg_non_ignore and weight is not None:
        raise ValueError("avg_non_ignore=False together with weight is not offered")
    divisor = "weights" if avg_non_ignore else "pixels"
    return section("CrossEntropyLoss", weight=weight, divisor=divisor, ignore_index=ignore_index)


def ohem(*, thresh: float = 0.7, min_kept: int = 10_000, ignore_index: int | None = 255, weight: Weights = None) -> Section:
    return section(
        "OhemCrossEntropyLoss", thresh=thresh, min_kept=min_kept, selection="paddleseg", weight=weight, ignore_index=ignore_index
    )


def dice(*, weight: Weights = None, ignore_index: int | None = 255, smooth: float = 1.0) -> Section:
    return section(
        "DiceLoss", per_image=True, classes="all", smooth_num=smooth, smooth_den=smooth, weight=weight,
        weight_normalization=None if weight is None else False, empty_image=0.0, ignore_index=ignore_index,
    )  # fmt: skip


def multiclass_focal(*, alpha: float = 1.0, gamma: float = 2.0, ignore_index: int | None = 255) -> Section:
    return section("FocalLoss", alpha=None if alpha == 1 else alpha, gamma=gamma, ignore_index=ignore_index)


def lovasz_softmax(*, ignore_index: int | None = 255, classes: str | Sequence[int] = "present") -> Section:
    return section("LovaszSoftmaxLoss", classes=classes, ignore_index=ignore_index)


def lovasz_hinge(*, ignore_index: int | None = 255) -> Section:
    return adapted(section("LovaszHingeLoss", ignore_index=ignore_index), two_channels="log_probability")


PRESETS = {
    "paddleseg.cross_entropy": Preset(
        cross_entropy, "CrossEntropyLoss", "CrossEntropyLoss() or BootstrappedCrossEntropyLoss()",
        "the same; top_k is a share of the valid pixels, theirs of all",
    ),
    "paddleseg.ohem": Preset(
        ohem, "OhemCrossEntropyLoss", "OhemCrossEntropyLoss()",
        "keeps min_kept pixels, theirs one less (none for min_kept=1); an empty selection cannot occur; min_kept "
        "may be a share of the pixels",
    ),
    "paddleseg.dice": Preset(
        dice, "DiceLoss", "DiceLoss()",
        "over the batch, absent classes left out, no smoothing; never writes into the labels (theirs turns ignored "
        "pixels into class 0 for "
        "every loss that comes after it)",
    ),
    "paddleseg.multiclass_focal": Preset(multiclass_focal, "MultiClassFocalLoss", "FocalLoss()", "the same"),
    "paddleseg.lovasz_softmax": Preset(
        lovasz_softmax, "LovaszSoftmaxLoss", "LovaszSoftmaxLoss()",
        "no sort; a batch without a valid pixel costs 0, theirs is an empty tensor"
    ),
    "paddleseg.lovasz_hinge": Preset(
        lovasz_hinge, "LovaszHingeLoss", "LovaszHingeLoss()",
        "two-channel logits mean z1 - z0; **theirs is a defect**: without a pair of parentheses the hinge is taken "
        "of about log p1 <= 0, so that "
        "no foreground pixel reaches the margin (one-channel logits are right there, and equal)",
    ),
}  # fmt: skip
