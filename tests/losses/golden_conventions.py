"""Whose convention is which of ours: for every golden entry our loss and keywords, or why it is not ours."""

from __future__ import annotations

from golden_cases import As, Golden
from golden_forms import (
    FIVE,
    RAISES,
    batch_or_image,
    channels_as_images,
    doubled_over_all_pixels,
    head_first,
    img0,
    lin,
    loss,
    over_all_pixels,
    over_all_pixels_and_channels,
    over_channels,
    smoothed_binary,
    summed_over_channels,
    times_images,
    two_heads,
)
from golden_region import DICE, FOCAL_TVERSKY, GENERALIZED_DICE, JACCARD, JDT_FAMILY, TVERSKY
from torch import Tensor

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
