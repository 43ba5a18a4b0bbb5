"""Whose convention is which of ours: for every golden entry our loss and keywords, or why it is not ours."""

from __future__ import annotations

import torch
from golden_cases import As, Golden
from torch import Tensor

# -- from our value to a peer's ---------------------------------------------------------------------------------------


def minus_score(value: Tensor, g: Golden) -> Tensor:
    """SegLossOdyssey returns minus the score, which is the loss minus one."""
    return value - 1


def over_all_pixels(value: Tensor, g: Golden) -> Tensor:
    """A mean that counts ignored pixels too: our sum over the number of all pixels."""
    return value / g.labels.numel()


def over_all_pixels_and_channels(value: Tensor, g: Golden) -> Tensor:
    return value / g.logits.numel()


def over_channels(value: Tensor, g: Golden) -> Tensor:
    return value / g.channels


def summed_over_channels(value: Tensor, g: Golden) -> Tensor:
    return value * g.channels


def times_images(value: Tensor, g: Golden) -> Tensor:
    return value * g.images_with_labels


def doubled_over_all_pixels(value: Tensor, g: Golden) -> Tensor:
    return 2 * over_all_pixels(value, g)


def ignored_image_costs(cost: float):
    """A wholly ignored image enters the mean over images with this value; ours leaves it out."""

    def after(value: Tensor, g: Golden) -> Tensor:
        counted = g.images_with_labels
        return (value * counted + cost * (g.images - counted)) / g.images

    return after


def images_before_classes(value_NC: Tensor, g: Golden) -> Tensor:
    """The mean over the images that have the class, then over the classes (mIoU-C of JDTLosses)."""
    soft = g.labels.is_floating_point()
    has_NC = torch.stack(
        [(g.labels[:, c] > 0 if soft else g.labels == c).flatten(1).any(1) for c in range(g.channels)], 1
    )
    images_C = has_NC.sum(0)
    mean_C = value_NC.sum(0) / images_C.clamp(min=1)
    return mean_C.sum() / (images_C > 0).sum().clamp(min=1)


# -- inputs ------------------------------------------------------------------------------------------------------------


def soft_with_mask(g: Golden, leaves):
    """Soft labels of pixels that are not kept become the ignore index in every channel."""
    keep = torch.from_numpy(g.inputs["keep_mask"])
    return leaves["logits"], torch.where(keep[:, None], g.labels, 255.0)


def smoothed_binary(g: Golden, leaves):
    """0.1 and 0.9 for 0 and 1, as probabilities."""
    y = g.labels[:, None]
    return leaves["logits"], torch.where(y == 255, 255.0, 0.1 + 0.8 * y.to(leaves["logits"].dtype))


def channels_as_images(g: Golden, leaves):
    """All channels of a multilabel problem in one set of pixels."""
    return leaves["logits"].flatten(0, 1)[:, None], g.labels.flatten(0, 1)


def two_heads(g: Golden, leaves):
    return [leaves["logits"], leaves["aux_logits"]], g.labels


def head_first(g: Golden, leaves):
    """HRNet lists the auxiliary head first."""
    return [leaves["aux_logits"], leaves["logits"]], g.labels


# -- keywords ----------------------------------------------------------------------------------------------------------


def lin(g: Golden) -> list[float]:
    """linspace(0.5, 2, C)"""
    return torch.linspace(0.5, 2, g.channels).tolist()


def no_background(g: Golden) -> list[int]:
    return list(range(1, g.channels))


FIVE = [0.5, 1.0, 2.0, 3.0, 1.5]


def loss(type: str, **keywords):
    return {"type": type, **keywords}


def batch_or_image(type: str, **keywords):
    return loss(type, **keywords), loss(type, per_image=True, **keywords)


RAISES = "the peer raises"

# -- cross-entropy -----------------------------------------------------------------------------------------------------

CE = loss("CrossEntropyLoss")
CE_SUM = loss("CrossEntropyLoss", reduction="sum")
BCE = loss("BinaryCrossEntropyLoss")
BCE_SUM = loss("BinaryCrossEntropyLoss", reduction="sum")


def quarter_of_all_pixels(g: Golden) -> int:
    return int(0.25 * g.labels.numel())


CROSS_ENTROPY = {
    "torch_plain": As(CE),
    "torch_weight": As(loss("CrossEntropyLoss", weight=lin)),
    "torch_ls0.1": As(loss("CrossEntropyLoss", label_smoothing=0.1)),
    "torch_ls0.1_noign": As(loss("CrossEntropyLoss", label_smoothing=0.1)),
    "torch_weight_ls0.1": As(loss("CrossEntropyLoss", weight=lin, label_smoothing=0.1)),
    "torch_soft_targets_plain": As(CE),
    "torch_soft_targets_ls0.1": As(loss("CrossEntropyLoss", label_smoothing=0.1)),
    "hrnet_ce": As(CE),
    "mmseg_avgnonignore": As(CE),
    "mmseg_plain": As(CE_SUM, over_all_pixels),
    "mmseg_weight": As(loss("CrossEntropyLoss", weight=lin)),
    "mmseg_weight_avgnonignore": As(loss("CrossEntropyLoss", weight=lin)),
    "paddleseg_plain": As(CE),
    "paddleseg_noavg": As(CE_SUM, over_all_pixels),
    "paddleseg_weight": As(loss("CrossEntropyLoss", weight=lin)),
    "paddleseg_topk0.25": As(loss("BootstrappedCrossEntropyLoss", top_k=quarter_of_all_pixels)),
    "paddleseg_weight_topk0.25": "ranks pixels by their weighted loss; ours by the loss: weights do not choose pixels",
    "smp_softce_default": RAISES,
    "smp_softce_ls0.0": As(CE_SUM, over_all_pixels),
    "smp_softce_ls0.1": As(loss("CrossEntropyLoss", label_smoothing=0.1, reduction="sum"), over_all_pixels),
    "smp_softce_ls0.1_noign": As(loss("CrossEntropyLoss", label_smoothing=0.1)),
}

BINARY = {
    "torch_bce_masked_mean": As(BCE),
    "torch_bce_masked_mean_pos3": As(loss("BinaryCrossEntropyLoss", pos_weight=3.0)),
    "berman_stable_bce": As(BCE),
    "smp_softbce_plain": As(BCE_SUM, over_all_pixels),
    "smp_softbce_pos3": As(loss("BinaryCrossEntropyLoss", pos_weight=3.0, reduction="sum"), over_all_pixels),
    "smp_softbce_weight": As(BCE_SUM, doubled_over_all_pixels),
    "smp_softbce_smooth0.1": As(BCE_SUM, over_all_pixels, inputs=smoothed_binary),
    "smp_softbce_smooth0.1_noign": As(BCE, inputs=smoothed_binary),
    "smp_mcc": As(loss("MCCLoss", mode="binary", classes="all", eps=1e-5)),
}

# -- focal -------------------------------------------------------------------------------------------------------------


def focal(gamma: float = 2.0, **keywords):
    return loss("FocalLoss", gamma=gamma, **keywords)


NORMALISED = "divides by the sum of the focal factors: the normalised focal loss, which is not offered"
REDUCED = "the reduced focal loss, which is not offered"


def kornia_alpha(g: Golden) -> list[float]:
    """One number alpha means 1 - alpha for class 0 and alpha for the others (kornia, MONAI)."""
    return [0.75] + [0.25] * (g.channels - 1)


FOCAL = {
    "jdt_softmax_g0": As(focal(0)),
    "jdt_softmax_g0.5": As(focal(0.5)),
    "jdt_softmax_g2": As(focal()),
    "kornia_softmax_aNone_g2": As(focal(reduction="sum"), over_all_pixels_and_channels),
    "kornia_mirror_softmax_g2": As(focal(reduction="sum"), over_all_pixels_and_channels),
    "kornia_softmax_a0.25_g2": As(focal(alpha=kornia_alpha, reduction="sum"), over_all_pixels_and_channels),
    "kornia_binary_a0.25_g2": As(focal(alpha=0.25, mode="binary", reduction="sum"), over_all_pixels),
    "mmseg_sigmoid_cpu": RAISES,
    "monai_binary_g2": As(focal(mode="binary")),
    "monai_binary_g2_a0.25": As(focal(mode="binary", alpha=0.25)),
    "monai_binary_g2_a0.25_noign": As(focal(mode="binary", alpha=0.25)),
    "monai_multilabel_sigmoid_g2_a0.25": As(focal(mode="multilabel", alpha=0.25)),
    "monai_sigmoid_ovr_g2_a0.25": As(focal(activation="sigmoid", alpha=0.25), summed_over_channels),
    "monai_softmax_g2": As(focal()),
    "monai_softmax_g0.5": As(focal(0.5)),
    "monai_softmax_g2_a0.25": As(focal(alpha=kornia_alpha)),
    "monai_softmax_g2_alphalist": As(focal(alpha=[0.1, 0.2, 0.3, 0.4, 0.5])),
    "monai_softmax_g2_weight": As(focal(alpha=FIVE)),
    # MONAI averages over space before it sums, and with equal numbers of valid pixels that is the mean times the images
    "monai_softmax_g2_sum": As(focal(per_image=True), times_images),
    "monai_softmax_g2_ignorearg_on_noign": As(focal()),
    "monai_softmax_g2_noign": As(focal(), over_channels),
    "monai_softmax_g2_nobg": "takes the background channel out before the softmax, so background pixels cost nothing",
    "odyssey_softmax_g2": "clamps the labels to [1e-5/(C-1), 1-1e-5] and adds 1e-5 inside the logarithm",
    "paddleseg_multiclass_g2": As(focal()),
    "smp_binary_g2.0": As(focal(mode="binary")),
    "smp_binary_a0.25_g2.0": As(focal(mode="binary", alpha=0.25)),
    "smp_binary_a0.25_g0.5": As(focal(0.5, mode="binary", alpha=0.25)),
    "smp_binary_noign_a0.25_g2": As(focal(mode="binary", alpha=0.25)),
    "smp_binary_g2.0_normalizedTrue": NORMALISED,
    "smp_binary_g2.0_reduced_threshold0.5": REDUCED,
    "smp_multiclass_g2.0": As(focal(activation="sigmoid")),
    "smp_multiclass_a0.25_g2.0": As(focal(activation="sigmoid", alpha=0.25)),
    "smp_multiclass_a0.25_g0.5": As(focal(0.5, activation="sigmoid", alpha=0.25)),
    "smp_multiclass_g2.0_normalizedTrue": NORMALISED,
    "smp_multiclass_g2.0_reduced_threshold0.5": REDUCED,
    "smp_multilabel_g2.0": RAISES,
    "smp_multilabel_a0.25_g2.0": RAISES,
    "smp_multilabel_noignore_arg_aNone_g2": As(focal(mode="multilabel")),
    "smp_multilabel_noignore_arg_a0.25_g2": As(focal(mode="multilabel", alpha=0.25)),
    "smp_softmax_focal_fn_g2": As(focal()),
    "tv_sigmoid_a-1_g2.0": As(focal(mode="binary")),
    "tv_sigmoid_a0.25_g0.0": As(focal(0, mode="binary", alpha=0.25)),
    "tv_sigmoid_a0.25_g2.0": As(focal(mode="binary", alpha=0.25)),
    "tv_sigmoid_a0.5_g0.5": As(focal(0.5, mode="binary", alpha=0.5)),
    "tv_sigmoid_a0.75_g5.0": As(focal(5.0, mode="binary", alpha=0.75)),
    "tv_sigmoid_ml_a0.25_g2": As(focal(mode="multilabel", alpha=0.25)),
}

# -- Dice, Jaccard, Tversky --------------------------------------------------------------------------------------------

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
img0, img1 = ignored_image_costs(0.0), ignored_image_costs(1.0)


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
    "monai_dicece": As({"type": "MixedLoss", "losses": [dice(per_image=True, **MONAI), CE], "coef": [1, 1]}),
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

# -- Lovász ------------------------------------------------------------------------------------------------------------


def softmax_lovasz(**keywords):
    return loss("LovaszSoftmaxLoss", **keywords)


LS_PRESENT, LS_PRESENT_IMG = batch_or_image("LovaszSoftmaxLoss")
LS_ALL, LS_ALL_IMG = batch_or_image("LovaszSoftmaxLoss", classes="all")
LS_LIST, LS_LIST_IMG = batch_or_image("LovaszSoftmaxLoss", classes=[0, 2, 4])

LOVASZ_SOFTMAX = {
    "berman_present_batch": As(LS_PRESENT),
    "berman_present_img": As(LS_PRESENT_IMG),
    "berman_all_batch": As(LS_ALL),
    "berman_all_img": As(LS_ALL_IMG),
    "berman_list_batch": As(LS_LIST),
    "berman_list_img": As(LS_LIST_IMG),
    "berman_present_batch_noignore_arg": As(LS_PRESENT),
    "berman_all_batch_noignore_arg": As(LS_ALL),
    "berman_all_img_noignore_arg": As(LS_ALL_IMG),
    "berman_sigmoid_classes1": As(softmax_lovasz(mode="binary", classes="all")),
    "berman_sigmoid_default_classes": RAISES,
    # compares the string by identity: an equal 'present' silently means 'all'
    "berman_noninterned_present": As(LS_ALL),
    "kornia090": As(LS_ALL_IMG),
    "kornia_mirror": "wrong in 0.9.0rc1: label numbers, not the class indicator, are sorted into the Jaccard weights",
    "mmseg_present_batch": As(LS_PRESENT),
    "mmseg_present_img": As(LS_PRESENT_IMG),
    "mmseg_present_batch_weight": As(softmax_lovasz(weight=FIVE, weight_normalization=False)),
    "mmseg_all_batch": As(LS_ALL),
    "mmseg_all_img": As(LS_ALL_IMG),
    "mmseg_list_batch": As(LS_LIST),
    "mmseg_list_img": As(LS_LIST_IMG),
    "odyssey_softmax_outside": As(LS_ALL),
    "paddleseg_present": As(LS_PRESENT),
    "paddleseg_all": As(LS_ALL),
    "paddleseg_list": As(LS_LIST),
    "smp_multiclass_batch": As(LS_PRESENT),
    "smp_multiclass_img": As(LS_PRESENT_IMG),
    "smp_multiclass_batch_noign": As(LS_PRESENT),
}

HINGE, HINGE_IMG = batch_or_image("LovaszHingeLoss")

LOVASZ_HINGE = {
    "berman_batch": As(HINGE),
    "berman_batch_noignore_arg": As(HINGE),
    "berman_img": As(HINGE_IMG, img0),
    "berman_img_noignore_arg": As(HINGE_IMG),
    "kornia090": As(HINGE_IMG),
    "kornia_mirror": As(HINGE_IMG),
    "mmseg_batch": As(HINGE),
    "mmseg_img": As(HINGE_IMG, img0),
    "paddleseg_one_logit_intlabels": As(HINGE),
    "paddleseg_one_logit_floatlabels": As(HINGE),
    "smp_binary_batch": As(HINGE),
    "smp_binary_img": As(HINGE_IMG, img0),
    # one hinge over the pixels of all channels, not the mean of the channels' hinges
    "smp_multilabel_batch": As(HINGE, inputs=channels_as_images),
}

# -- mixes and hard examples -------------------------------------------------------------------------------------------

CE_LOVASZ = {"type": "MixedLoss", "losses": [CE, LS_PRESENT], "coef": [0.8, 0.2]}
TWO_HEADS = {"types": [CE_LOVASZ], "coef": [1, 0.4]}

MIXED = {
    "torch_berman_ce0.8_lovasz0.2": As(CE_LOVASZ),
    "torch_berman_two_heads_1_0.4": As(TWO_HEADS, inputs=two_heads),
    "torch_berman_two_heads_1_0.4_auxgrad": As(TWO_HEADS, inputs=two_heads, leaf="aux_logits"),
    "paddleseg_ce0.8_lovasz0.2": As(CE_LOVASZ),
    "paddleseg_two_heads_1_0.4": As(TWO_HEADS, inputs=two_heads),
    "paddleseg_two_heads_1_0.4_auxgrad": As(TWO_HEADS, inputs=two_heads, leaf="aux_logits"),
}


def ohem(thresh: float, min_kept: int, **keywords):
    return loss("OhemCrossEntropyLoss", thresh=thresh, min_kept=min_kept, **keywords)


def hrnet_two_heads(g: Golden) -> dict:
    """The auxiliary head's cross-entropy is averaged over all pixels, ignored ones included."""
    return {"types": [CE_SUM, ohem(0.7, 100)], "coef": [0.4 / g.labels.numel(), 1]}


OHEM_SETTINGS = ((0.05, 100), (0.05, 200), (0.05, 1000), (0.3, 100), (0.7, 1), (0.7, 100), (0.7, 500), (0.9, 10000))


def paddle_share(thresh: float, min_kept: int):
    """PaddleSeg divides by the kept share of all pixels plus 1e-5."""

    def after(value: Tensor, g: Golden) -> Tensor:
        valid = g.labels != 255
        p_true = g.logits.softmax(1).gather(1, g.labels.where(valid, 0)[:, None])[:, 0][valid].sort().values
        all_kept = not 0 < min_kept < p_true.numel()
        kept = p_true.numel() if all_kept else int((p_true < max(thresh, p_true[min_kept - 1].item())).sum())
        share = kept / valid.numel()
        return value * share / (share + 1e-5)

    return after


def paddle_ohem(thresh: float, min_kept: int, **keywords) -> As:
    """PaddleSeg keeps min_kept - 1 pixels where thresh does not give more, and all for 0 or more than there are."""

    def section(g: Golden) -> dict:
        if 0 < min_kept < int((g.labels != 255).sum()):
            return ohem(thresh, min_kept - 1, **keywords)
        return ohem(thresh, g.labels.numel(), selection="ocnet", **keywords)

    tied = TIED if min_kept in (200, 500, 1000) else {}
    return As(section, paddle_share(thresh, min_kept), differs_in_float32=tied)


# In float32 the pixels tie at p next to 1. The strict < of HRNet drops all that tie with the last one, ours keeps them,
# so that no selection is empty. In float64 there are no ties, and the numbers are the same.
TIED = {"nearperf": "ties in float32"}
OHEM = {
    **{f"hrnet_t{t}_k{k}": As(ohem(t, k), differs_in_float32=TIED) for t, k in OHEM_SETTINGS if k > 1},
    "hrnet_t0.7_k1": As(ohem(0.7, 1)),
    # above the number of pixels, min_kept means all but the easiest
    "hrnet_t0.9_k10000": As(ohem(0.9, 10000)),
    "hrnet_t0.7_k100_weight": As(ohem(0.7, 100, weight=lin), differs_in_float32=TIED),
    "hrnet_two_heads_0.4_1": As(hrnet_two_heads, inputs=head_first, differs_in_float32=TIED),
    "hrnet_two_heads_0.4_1_auxgrad": As(hrnet_two_heads, inputs=head_first, leaf="aux_logits", differs_in_float32=TIED),
    **{f"mmseg_t{t}_k{k}": As(ohem(t, k), differs_in_float32=TIED) for t, k in ((0.05, 200), (0.7, 100), (0.7, 500))},
    **{f"paddleseg_t{t}_k{k}": paddle_ohem(t, k) for t, k in (*OHEM_SETTINGS, (0.7, 0))},
    "paddleseg_t0.7_k100_weight": paddle_ohem(0.7, 100, weight=lin),
}

CONVENTIONS: dict[str, dict[str, As | str]] = {
    "lovasz_softmax": LOVASZ_SOFTMAX,
    "lovasz_hinge": LOVASZ_HINGE,
    "mixed": MIXED,
    "ce": CROSS_ENTROPY,
    "bce_mcc": BINARY,
    "focal": FOCAL,
    "dice": DICE,
    "jaccard": JACCARD,
    "jdt": JDT_FAMILY,
    "tversky": TVERSKY,
    "focal_tversky": FOCAL_TVERSKY,
    "gdice": GENERALIZED_DICE,
    "ohem": OHEM,
}
