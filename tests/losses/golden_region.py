"""Region losses of other libraries said with ours; see golden_conventions.py."""

from __future__ import annotations

from golden_cases import As
from golden_forms import (
    FIVE,
    RAISES,
    images_before_classes,
    img0,
    img1,
    loss,
    minus_score,
    no_background,
    soft_with_mask,
)

# peer by peer: MONAI smooths both sides by 1e-5 and counts every class; an ignored image costs 0
MONAI = {"classes": "all", "smooth_num": 1e-5, "smooth_den": 1e-5}
# MONAI's Jaccard doubles numerator and denominator before smoothing
MONAI_J = {"classes": "all", "smooth_num": 5e-6, "smooth_den": 5e-6}
# SMP sums over the batch and zeroes absent classes, which stay in the mean
SMP = {"classes": "all", "absent_as_zero": True}
# kornia adds 1e-8 to the denominator; 0.9.0 drops absent classes, 0.9.0rc1 counted them
KORNIA = {"per_image": True, "smooth_den": 1e-8, "eps": 1e-12}
ONE = {"classes": "all", "smooth_num": 1.0, "smooth_den": 1.0}
NOT_MASKED = "ignored pixels are not taken out of the prediction, and ignore_index is read as a class"


# SMP's Dice is its Tversky at 1/2, so its smooth counts twice in the usual form (2 TP + s)/(|p| + |y| + s)
SMP_DICE_1 = {**SMP, "smooth_num": 2.0, "smooth_den": 2.0}


def dice(**keywords):
    return loss("DiceLoss", **keywords)


def jaccard(**keywords):
    return loss("JaccardLoss", **keywords)


def tversky(**keywords):
    return loss("TverskyLoss", alpha=0.3, beta=0.7, **keywords)


DICE = {
    "kornia_macro": As(dice(**KORNIA), img1),
    "kornia_mirror_macro": As(dice(classes="all", **KORNIA), img1),
    "kornia_micro": As(dice(classes="all", average="micro", **KORNIA), img1),
    "kornia_mirror_micro": As(dice(classes="all", average="micro", **KORNIA), img1),
    "mmseg_softmax_naiveFalse": NOT_MASKED,
    "mmseg_softmax_naiveTrue": NOT_MASKED,
    "mmseg_softmax_naiveFalse_noign": As(
        dice(classes="all", average="micro", per_image=True, squared=True, smooth_den=2e-3)
    ),
    "mmseg_softmax_naiveTrue_noign": As(
        dice(classes="all", average="micro", per_image=True, smooth_num=1e-3, smooth_den=1e-3)
    ),
    "monai_default": As(dice(per_image=True, **MONAI), img0),
    "monai_batch": As(dice(**MONAI)),
    "monai_noign": As(dice(per_image=True, **MONAI)),
    "monai_noign_batch": As(dice(**MONAI)),
    "monai_squared": As(dice(per_image=True, squared=True, **MONAI), img0),
    "monai_squared_batch": As(dice(squared=True, **MONAI)),
    "monai_smooth0": As(dice(per_image=True, classes="all"), img0),
    "monai_smooth1": As(dice(per_image=True, **ONE), img0),
    "monai_weight": As(dice(per_image=True, weight=FIVE, weight_normalization=False, **MONAI), img0),
    "monai_nobg": As(dice(per_image=True, **{**MONAI, "classes": no_background}), img0),
    "monai_jaccard": As(jaccard(per_image=True, **MONAI_J), img0),
    "monai_jaccard_batch": As(jaccard(**MONAI_J)),
    "monai_jaccard_squared": As(jaccard(per_image=True, squared=True, **MONAI_J), img0),
    "monai_binary_noign": As(dice(per_image=True, mode="binary", **MONAI)),
    "monai_binary_sigmoid": As(dice(per_image=True, mode="binary", **MONAI), img0),
    "monai_binary_sigmoid_batch": As(dice(mode="binary", **MONAI)),
    "monai_binary_sigmoid_squared": As(dice(per_image=True, mode="binary", squared=True, **MONAI), img0),
    "monai_binary_sigmoid_jaccard": As(jaccard(per_image=True, mode="binary", **MONAI_J), img0),
    "monai_multilabel_sigmoid_batch": As(dice(mode="multilabel", **MONAI)),
    "monai_multilabel_sigmoid_img": As(dice(mode="multilabel", per_image=True, **MONAI)),
    "monai_multilabel_sigmoid_jaccard_batch": As(jaccard(mode="multilabel", **MONAI_J)),
    "monai_dicece": As(
        {"type": "MixedLoss", "losses": [dice(per_image=True, **MONAI), loss("CrossEntropyLoss")], "coef": [1, 1]}
    ),
    "odyssey_softdice": As(dice(per_image=True, **ONE), minus_score),
    "paddleseg_noign": As(dice(per_image=True, **ONE)),
    "paddleseg_smooth1": As(dice(per_image=True, **ONE), img0),
    "paddleseg_smooth1_weight": As(dice(per_image=True, weight=FIVE, weight_normalization=False, **ONE), img0),
    "smp_binary": As(dice(mode="binary", **SMP)),
    "smp_binary_noign": As(dice(mode="binary", **SMP)),
    "smp_binary_smooth1": As(dice(mode="binary", **SMP_DICE_1)),
    "smp_multiclass": As(dice(**SMP)),
    "smp_multiclass_noign": As(dice(**SMP)),
    "smp_multiclass_classes": As(dice(**{**SMP, "classes": [1, 2, 3]})),
    "smp_multiclass_log": As(dice(log_loss=True, **SMP)),
    "smp_multiclass_smooth1": As(dice(**SMP_DICE_1)),
    "smp_multiclass_weights": As(dice(weight=FIVE, **SMP)),
    "smp_multilabel": As(dice(mode="multilabel", **SMP)),
}

JACCARD = {
    "odyssey_iou": As(jaccard(per_image=True, **ONE), minus_score),
    "smp_binary": As(jaccard(mode="binary", **SMP)),
    "smp_binary_noign": As(jaccard(mode="binary", **SMP)),
    "smp_binary_smooth1": As(jaccard(mode="binary", smooth_num=1.0, smooth_den=1.0, **SMP)),
    "smp_multiclass": As(jaccard(**SMP)),
    "smp_multiclass_noign": As(jaccard(**SMP)),
    "smp_multiclass_classes": As(jaccard(**{**SMP, "classes": [1, 2, 3]})),
    "smp_multiclass_log": As(jaccard(log_loss=True, **SMP)),
    "smp_multiclass_smooth1": As(jaccard(smooth_num=1.0, smooth_den=1.0, **SMP)),
    "smp_multiclass_weights": As(jaccard(weight=FIVE, **SMP)),
    "smp_multilabel": As(jaccard(mode="multilabel", **SMP)),
}

TVERSKY = {
    "kornia_a0.3_b0.7": As(tversky(**KORNIA), img1),
    # uses alpha + beta only, which is micro Dice whenever the sum is 1
    "kornia_mirror_a0.3_b0.7": As(dice(classes="all", average="micro", **KORNIA), img1),
    "mmseg_a0.3_b0.7": As(tversky(per_image=True, **ONE), img0),
    "monai_a0.3_b0.7": As(tversky(per_image=True, **MONAI), img0),
    "monai_a0.3_b0.7_batch": As(tversky(**MONAI)),
    "monai_a0.3_b0.7_binary": As(tversky(per_image=True, mode="binary", **MONAI), img0),
    "monai_a0.3_b0.7_multilabel_batch": As(tversky(mode="multilabel", **MONAI)),
    "monai_a0.3_b0.7_nobg": As(tversky(per_image=True, **{**MONAI, "classes": no_background}), img0),
    "monai_a0.3_b0.7_noign": As(tversky(per_image=True, **MONAI)),
    "odyssey_a0.3_b0.7": As(tversky(per_image=True, **ONE), minus_score),
    "smp_binary_a0.3_b0.7": As(tversky(mode="binary", **SMP)),
    "smp_multiclass_a0.3_b0.7": As(tversky(**SMP)),
    "smp_multiclass_a0.3_b0.7_noign": As(tversky(**SMP)),
    "smp_multilabel_a0.3_b0.7": As(tversky(mode="multilabel", **SMP)),
}


def focal_tversky(gamma: float, **keywords):
    return loss("FocalTverskyLoss", alpha=0.3, beta=0.7, gamma=gamma, power_of_mean=True, **SMP, **keywords)


FOCAL_TVERSKY = {
    # the power of the mean over classes and images, where ours is the mean over images of powers
    "odyssey_g0.75": As(tversky(per_image=True, **ONE), lambda value, g: value**0.75),
    "smp_binary_a0.3_b0.7_g0.75": As(focal_tversky(0.75, mode="binary")),
    "smp_binary_a0.3_b0.7_g1.333": As(focal_tversky(4 / 3, mode="binary")),
    "smp_multiclass_a0.3_b0.7_g0.75": As(focal_tversky(0.75)),
    "smp_multiclass_a0.3_b0.7_g0.75_noign": As(focal_tversky(0.75)),
    "smp_multiclass_a0.3_b0.7_g1.333": As(focal_tversky(4 / 3)),
    "smp_multiclass_a0.3_b0.7_g1.333_noign": As(focal_tversky(4 / 3)),
    "smp_multilabel_a0.3_b0.7_g0.75": As(focal_tversky(0.75, mode="multilabel")),
    "smp_multilabel_a0.3_b0.7_g1.333": As(focal_tversky(4 / 3, mode="multilabel")),
}


def gdice(weight_type: str, **keywords):
    return loss("GeneralizedDiceLoss", weight_type=weight_type, **{**MONAI, **keywords})


GENERALIZED_DICE = {
    **{f"monai_{w}_batch": As(gdice(w)) for w in ("square", "simple", "uniform")},
    **{f"monai_{w}_img": As(gdice(w, per_image=True)) for w in ("square", "simple", "uniform")},
    "monai_square_img_nobg": As(gdice("square", per_image=True, classes=no_background)),
    # an infinite weight becomes the largest finite one, 0 where there is none: such an image costs 0
    "monai_square_binary_sigmoid": As(gdice("square", per_image=True, mode="binary", absent_as_zero=True)),
    "monai_square_binary_sigmoid_img": As(gdice("square", per_image=True, mode="binary", absent_as_zero=True)),
    "monai_square_binary_sigmoid_batch": As(gdice("square", mode="binary", absent_as_zero=True)),
    "odyssey_gdice": RAISES,
    "odyssey_gdice_v2": As(
        gdice("square", smooth_num=0.0, smooth_den=0.0),
        minus_score,
        differs={"absent_noign": "an absent class weighs 1e5 there, which swamps the others: its loss is 4e-10"},
    ),
}

# JDTLosses smooths TP and the Tversky denominator by 1e-3, and averages the present classes of hard labels, all of soft
JDT = {"smooth_num": 1e-3, "smooth_den": 1e-3}


def jdt(alpha: float = 1.0, beta: float = 1.0, **keywords):
    return loss("TverskyLoss", alpha=alpha, beta=beta, **{**JDT, **keywords})


PRODUCT = "sum p y is not smallest at p = y for soft labels; ours takes sum min(p, y)"


JDT_FAMILY = {
    "hard_jaccard_D": As(jdt()),
    "hard_jaccard_I": As(jdt(per_image=True)),
    "hard_jaccard_C": As(jdt(per_image=True, reduction="none"), images_before_classes),
    "hard_jaccard_DIC": "0.25 D + 0.25 I + 0.5 C, each of which is an entry of its own; a loss averages in one way",
    "hard_jaccard_D_all": As(jdt(classes="all")),
    "hard_jaccard_D_gamma2": As(loss("FocalTverskyLoss", alpha=1.0, beta=1.0, gamma=2.0, **JDT)),
    "hard_jaccard_D_log": As(jdt(log_loss=True)),
    "hard_jaccard_D_norm2": As(jdt(squared=True)),
    "hard_jaccard_D_smooth0": As(jaccard()),
    "hard_jaccard_D_weights": As(jdt(weight=FIVE, weight_normalization=False)),
    "hard_dice_D": As(jdt(0.5, 0.5)),
    "hard_tversky_D": As(jdt(0.3, 0.7)),
    "jdt_kldiv_T1": "a distillation loss, which is not offered",
    "jdt_kldiv_T2_keep": "a distillation loss, which is not offered",
    "monai_notsoftflag_dice_batch": PRODUCT,
    "monai_notsoftflag_dice_img": PRODUCT,
    "monai_notsoftflag_jaccard_batch": PRODUCT,
    "monai_notsoftflag_jaccard_img": PRODUCT,
    "monai_soft_dice_batch": As(dice(**MONAI)),
    "monai_soft_dice_img": As(dice(per_image=True, **MONAI)),
    "monai_soft_jaccard_batch": As(jaccard(**MONAI_J)),
    "monai_soft_jaccard_img": As(jaccard(per_image=True, **MONAI_J)),
    "monai_soft_tversky": As(tversky(per_image=True, **MONAI)),
    "monai_soft_gdice": As(gdice("square", per_image=True)),
    "soft_jaccard_D": As(jdt(classes="all")),
    "soft_jaccard_I": As(jdt(classes="all", per_image=True)),
    "soft_jaccard_C": As(jdt(classes="all", per_image=True)),
    "soft_jaccard_D_log": As(jdt(classes="all", log_loss=True)),
    "soft_jaccard_D_norm2": As(jdt(classes="all", squared=True)),
    "soft_jaccard_D_present": As(jdt()),
    "soft_dice_D": As(jdt(0.5, 0.5, classes="all")),
    "soft_tversky_D": As(jdt(0.3, 0.7, classes="all")),
    "softkeep_jaccard_D": As(jdt(classes="all"), inputs=soft_with_mask),
    "softkeep_jaccard_I": As(jdt(classes="all", per_image=True), inputs=soft_with_mask),
    "softkeep_dice_D": As(jdt(0.5, 0.5, classes="all"), inputs=soft_with_mask),
}
