"""Which preset gives which golden entry, or why none does. The conventions themselves are in evenseg.losses.presets."""

from __future__ import annotations

from golden_cases import As, Golden

TIED = {"nearperf": "ties in float32"}
RAISES = "the peer raises"


# -- keywords ----------------------------------------------------------------------------------------------------------


def lin(g: Golden) -> list[float]:
    """linspace(0.5, 2, C)"""
    return [0.5 + 1.5 * c / (g.channels - 1) for c in range(g.channels)]


def theirs(g: Golden) -> dict:
    """The keywords of the recorded call, without what is no keyword of the loss."""
    keywords = {**g.keywords, **g.keywords.get("tversky_kwargs", {})}
    for name in ("apply_nonlin", "tversky_kwargs"):
        keywords.pop(name, None)
    return {k: lin if v in ("lin", "linspace(0.5,2,C)") else v for k, v in keywords.items()}


def is_(name: str, *, instead: dict | None = None, **keywords) -> As:
    """The preset with the recorded keywords, or those `instead`, and with further ones."""
    how = {k: keywords.pop(k) for k in ("inputs", "leaf", "differs_in_float32", "soft") if k in keywords}

    def section(g: Golden) -> dict:
        return {"type": name, **(theirs(g) if instead is None else instead), **keywords}

    return As(section, **how)


def all_(preset: str, *entries: str, **how) -> dict[str, As]:
    return {entry: is_(preset, **how) for entry in entries}


# -- inputs ------------------------------------------------------------------------------------------------------------


def soft_with_mask(g: Golden, leaves):
    """Soft labels of pixels that are not kept become the ignore index in every channel."""
    import torch

    keep = torch.from_numpy(g.inputs["keep_mask"])
    return leaves["logits"], torch.where(keep[:, None], g.labels, 255.0)


def two_heads(g: Golden, leaves):
    return [leaves["logits"], leaves["aux_logits"]], g.labels


def head_first(g: Golden, leaves):
    """HRNet lists the auxiliary head first."""
    return [leaves["aux_logits"], leaves["logits"]], g.labels


# -- families ----------------------------------------------------------------------------------------------------------

CROSS_ENTROPY = {
    **all_("torch.cross_entropy", "torch_plain", "torch_weight", "torch_ls0.1", "torch_ls0.1_noign", "torch_weight_ls0.1"),
    **all_("torch.cross_entropy", "torch_soft_targets_plain", "torch_soft_targets_ls0.1"),
    **all_("hrnet.cross_entropy", "hrnet_ce"),
    **all_("mmseg.cross_entropy", "mmseg_avgnonignore", "mmseg_plain", "mmseg_weight", "mmseg_weight_avgnonignore"),
    **all_("paddleseg.cross_entropy", "paddleseg_plain", "paddleseg_noavg", "paddleseg_weight"),
    **all_("paddleseg.cross_entropy", "paddleseg_topk0.25"),
    **all_("paddleseg.cross_entropy", "paddleseg_weight_topk0.25", differs_in_float32=TIED),
    **all_("smp.soft_ce", "smp_softce_default", "smp_softce_ls0.0", "smp_softce_ls0.1", "smp_softce_ls0.1_noign"),
}

BINARY = {
    # the valid pixels were selected before the call
    **all_("torch.bce_with_logits", "torch_bce_masked_mean", "torch_bce_masked_mean_pos3", ignore_index=255),
    **all_("berman.bce", "berman_stable_bce"),
    **all_("smp.soft_bce", "smp_softbce_plain", "smp_softbce_pos3", "smp_softbce_weight"),
    **all_("smp.soft_bce", "smp_softbce_smooth0.1", "smp_softbce_smooth0.1_noign", soft=True),
    **all_("smp.mcc", "smp_mcc"),
}

SMP_VARIANTS = ("normalizedTrue", "reduced_threshold0.5")
FOCAL = {
    **all_("jdt.focal", "jdt_softmax_g0", "jdt_softmax_g0.5", "jdt_softmax_g2"),
    **all_("kornia.focal", "kornia_softmax_aNone_g2", "kornia_mirror_softmax_g2", "kornia_softmax_a0.25_g2"),
    **all_("kornia.binary_focal", "kornia_binary_a0.25_g2"),
    "mmseg_sigmoid_cpu": RAISES,
    **all_("monai.focal", "monai_binary_g2", "monai_binary_g2_a0.25", "monai_binary_g2_a0.25_noign"),
    **all_("monai.focal", "monai_multilabel_sigmoid_g2_a0.25", "monai_sigmoid_ovr_g2_a0.25"),
    **all_("monai.focal", "monai_softmax_g2", "monai_softmax_g0.5", "monai_softmax_g2_a0.25", "monai_softmax_g2_alphalist"),
    **all_("monai.focal", "monai_softmax_g2_weight", "monai_softmax_g2_ignorearg_on_noign", "monai_softmax_g2_noign"),
    "monai_softmax_g2_sum": "averages over space before it sums",
    "monai_softmax_g2_nobg": "takes the background channel out before the softmax, so background pixels cost nothing",
    "odyssey_softmax_g2": "clamps the labels to [1e-5/(C-1), 1-1e-5] and adds 1e-5 inside the logarithm",
    **all_("paddleseg.multiclass_focal", "paddleseg_multiclass_g2"),
    **all_("smp.focal", "smp_binary_g2.0", "smp_binary_a0.25_g2.0", "smp_binary_a0.25_g0.5", "smp_binary_noign_a0.25_g2"),
    **all_("smp.focal", "smp_multiclass_g2.0", "smp_multiclass_a0.25_g2.0", "smp_multiclass_a0.25_g0.5"),
    **all_("smp.focal", "smp_multilabel_g2.0", "smp_multilabel_a0.25_g2.0"),
    **all_("smp.focal", "smp_multilabel_noignore_arg_aNone_g2", "smp_multilabel_noignore_arg_a0.25_g2"),
    **all_("smp.focal", *(f"smp_{mode}_g2.0_{what}" for mode in ("binary", "multiclass") for what in SMP_VARIANTS)),
    **all_("smp.softmax_focal", "smp_softmax_focal_fn_g2"),
    **all_("torchvision.sigmoid_focal", "tv_sigmoid_a-1_g2.0", "tv_sigmoid_a0.25_g0.0", "tv_sigmoid_a0.25_g2.0"),
    **all_("torchvision.sigmoid_focal", "tv_sigmoid_a0.5_g0.5", "tv_sigmoid_a0.75_g5.0"),
    **all_("torchvision.sigmoid_focal", "tv_sigmoid_ml_a0.25_g2", mode="multilabel"),
}

BERMAN = [f"berman_{classes}_{over}" for classes in ("present", "all", "list") for over in ("batch", "img")]
NO_IGNORE = ("present_batch", "all_batch", "all_img")

LOVASZ_SOFTMAX = {
    **all_("berman.lovasz_softmax", *BERMAN, *(f"berman_{name}_noignore_arg" for name in NO_IGNORE)),
    **all_("berman.lovasz_softmax", "berman_sigmoid_classes1", mode="binary"),
    "berman_sigmoid_default_classes": RAISES,
    # compares the string by identity: an equal 'present' silently means 'all'
    **all_("berman.lovasz_softmax", "berman_noninterned_present", classes="all"),
    **all_("kornia.lovasz_softmax", "kornia090"),
    "kornia_mirror": "wrong in 0.9.0rc1: label numbers, not the class indicator, are sorted into the Jaccard weights",
    **all_("mmseg.lovasz", *(name.replace("berman", "mmseg") for name in BERMAN), "mmseg_present_batch_weight"),
    **all_("odyssey.lovasz_softmax", "odyssey_softmax_outside"),
    **all_("paddleseg.lovasz_softmax", "paddleseg_present", "paddleseg_all", "paddleseg_list"),
    **all_("smp.lovasz", "smp_multiclass_batch", "smp_multiclass_img", "smp_multiclass_batch_noign"),
}

LOVASZ_HINGE = {
    **all_("berman.lovasz_hinge", "berman_batch", "berman_batch_noignore_arg", "berman_img", "berman_img_noignore_arg"),
    **all_("kornia.lovasz_hinge", "kornia090", "kornia_mirror"),
    **all_("mmseg.lovasz", "mmseg_batch", "mmseg_img"),
    **all_("paddleseg.lovasz_hinge", "paddleseg_one_logit_intlabels", "paddleseg_one_logit_floatlabels"),
    **all_("smp.lovasz", "smp_binary_batch", "smp_binary_img", "smp_multilabel_batch"),
}


def mix(entropy: dict, lovasz: dict) -> dict:
    return {"type": "MixedLoss", "losses": [entropy, lovasz], "coef": [0.8, 0.2]}


PADDLE_MIX = mix({"type": "paddleseg.cross_entropy"}, {"type": "paddleseg.lovasz_softmax"})
TORCH_MIX = mix({"type": "torch.cross_entropy", "ignore_index": 255}, {"type": "berman.lovasz_softmax", "ignore": 255})


def of_two_heads(name: str, loss: dict) -> dict[str, As]:
    section = {"types": [loss], "coef": [1, 0.4]}
    return {
        f"{name}_two_heads_1_0.4": As(section, inputs=two_heads),
        f"{name}_two_heads_1_0.4_auxgrad": As(section, inputs=two_heads, leaf="aux_logits"),
    }


MIXED = {
    "torch_berman_ce0.8_lovasz0.2": As(TORCH_MIX),
    **of_two_heads("torch_berman", TORCH_MIX),
    "paddleseg_ce0.8_lovasz0.2": As(PADDLE_MIX),
    **of_two_heads("paddleseg", PADDLE_MIX),
}

SETTINGS = [f"t{t}_k{k}" for t, k in ((0.05, 100), (0.05, 200), (0.05, 1000), (0.3, 100), (0.7, 1), (0.7, 100), (0.7, 500), (0.9, 10000))]
# the auxiliary head's cross-entropy is averaged over all pixels, ignored ones included
HRNET_HEADS = {
    "types": [
        {"type": "CrossEntropyLoss", "divisor": "pixels"},
        {"type": "hrnet.ohem", "thres": 0.7, "min_kept": 100, "ignore_label": 255},
    ],
    "coef": [0.4, 1],
}
# In float32 the pixels tie at p next to 1. The strict < of theirs drops all that tie with the last one, ours keeps them, so that no
# selection is empty. In float64 there are no ties, and the numbers are the same.
PADDLE_TIED = [f"paddleseg_{s}" for s in SETTINGS if s.endswith(("_k200", "_k500", "_k1000"))]
OHEM = {
    **all_("hrnet.ohem", *(f"hrnet_{s}" for s in SETTINGS), "hrnet_t0.7_k100_weight", differs_in_float32=TIED),
    # one pixel, and all but the easiest
    **all_("hrnet.ohem", "hrnet_t0.7_k1", "hrnet_t0.9_k10000"),
    "hrnet_two_heads_0.4_1": As(HRNET_HEADS, inputs=head_first, differs_in_float32=TIED),
    "hrnet_two_heads_0.4_1_auxgrad": As(HRNET_HEADS, inputs=head_first, leaf="aux_logits", differs_in_float32=TIED),
    **all_("mmseg.ohem", *(f"mmseg_{s}" for s in ("t0.05_k200", "t0.7_k100", "t0.7_k500")), differs_in_float32=TIED),
    **all_("paddleseg.ohem", *(f"paddleseg_{s}" for s in SETTINGS), "paddleseg_t0.7_k0", "paddleseg_t0.7_k100_weight"),
    **all_("paddleseg.ohem", *PADDLE_TIED, differs_in_float32=TIED),
}

SMP_REGION = [
    *("smp_binary", "smp_binary_noign", "smp_binary_smooth1", "smp_multiclass", "smp_multiclass_noign", "smp_multiclass_classes"),
    *("smp_multiclass_log", "smp_multiclass_smooth1", "smp_multiclass_weights", "smp_multilabel"),
]
MONAI_DICE = [
    *("default", "batch", "noign", "noign_batch", "squared", "squared_batch", "smooth0", "smooth1", "weight", "nobg"),
    *("jaccard", "jaccard_batch", "jaccard_squared", "binary_noign", "binary_sigmoid", "binary_sigmoid_batch"),
    *("binary_sigmoid_squared", "binary_sigmoid_jaccard", "multilabel_sigmoid_batch", "multilabel_sigmoid_img"),
    "multilabel_sigmoid_jaccard_batch",
]
DICE = {
    **all_("kornia.dice", "kornia_macro", "kornia_micro"),
    **all_("kornia.dice", "kornia_mirror_macro", "kornia_mirror_micro", version="0.9.0rc1"),
    **all_("mmseg.dice", "mmseg_softmax_naiveFalse", "mmseg_softmax_naiveTrue", soft=True),
    **all_("mmseg.dice", "mmseg_softmax_naiveFalse_noign", "mmseg_softmax_naiveTrue_noign", soft=True),
    **all_("monai.dice", *(f"monai_{name}" for name in MONAI_DICE)),
    **all_("monai.dice_ce", "monai_dicece"),
    "odyssey_softdice": is_("odyssey.dice"),
    **all_("paddleseg.dice", "paddleseg_noign", "paddleseg_smooth1", "paddleseg_smooth1_weight"),
    **all_("smp.dice", *SMP_REGION),
}
JACCARD = {"odyssey_iou": is_("odyssey.iou"), **all_("smp.jaccard", *SMP_REGION)}

MONAI_TVERSKY = ("", "_batch", "_binary", "_multilabel_batch", "_nobg", "_noign")
TVERSKY = {
    "kornia_a0.3_b0.7": is_("kornia.tversky"),
    "kornia_mirror_a0.3_b0.7": is_("kornia.tversky", version="0.9.0rc1"),
    "mmseg_a0.3_b0.7": is_("mmseg.tversky"),
    **all_("monai.tversky", *(f"monai_a0.3_b0.7{name}" for name in MONAI_TVERSKY)),
    "odyssey_a0.3_b0.7": is_("odyssey.tversky"),
    **all_("smp.tversky", "smp_binary_a0.3_b0.7", "smp_multiclass_a0.3_b0.7", "smp_multiclass_a0.3_b0.7_noign"),
    **all_("smp.tversky", "smp_multilabel_a0.3_b0.7"),
}
SMP_FOCAL_TVERSKY = [
    f"smp_{mode}_a0.3_b0.7_g{gamma}{noign}"
    for gamma in (0.75, 1.333)
    for mode, noign in (("binary", ""), ("multiclass", ""), ("multiclass", "_noign"), ("multilabel", ""))
]
FOCAL_TVERSKY = {"odyssey_g0.75": is_("odyssey.focal_tversky"), **all_("smp.tversky", *SMP_FOCAL_TVERSKY)}

GENERALIZED_DICE = {
    **all_("monai.generalized_dice", *(f"monai_{w}_{over}" for w in ("square", "simple", "uniform") for over in ("batch", "img"))),
    **all_("monai.generalized_dice", "monai_square_img_nobg"),
    **all_("monai.generalized_dice", *(f"monai_square_binary_sigmoid{over}" for over in ("", "_img", "_batch"))),
    "odyssey_gdice": RAISES,
    "odyssey_gdice_v2": "an absent class weighs 1e5 there, which swamps the others: its loss is 4e-10",
}

HARD = ("jaccard_D", "jaccard_I", "jaccard_C", "jaccard_DIC", "jaccard_D_all", "jaccard_D_gamma2", "jaccard_D_log", "jaccard_D_norm2")
SOFT = ("jaccard_D", "jaccard_I", "jaccard_C", "jaccard_D_log", "jaccard_D_norm2", "jaccard_D_present", "dice_D", "tversky_D")
OVER = ("dice_batch", "dice_img", "jaccard_batch", "jaccard_img")
DISTILLATION = "a distillation loss, which is not offered"
JDT_FAMILY = {
    **all_("jdt.jdt", *(f"hard_{name}" for name in HARD)),
    **all_("jdt.jdt", "hard_jaccard_D_smooth0", "hard_jaccard_D_weights", "hard_dice_D", "hard_tversky_D"),
    **all_("jdt.jdt", *(f"soft_{name}" for name in SOFT), soft_labels=True, soft=True),
    **all_(
        "jdt.jdt", "softkeep_jaccard_D", "softkeep_jaccard_I", "softkeep_dice_D",
        soft_labels=True, ignore_index=255, inputs=soft_with_mask, soft=True,
    ),
    "jdt_kldiv_T1": DISTILLATION,
    "jdt_kldiv_T2_keep": DISTILLATION,
    **all_("monai.dice", *(f"monai_notsoftflag_{over}" for over in OVER), *(f"monai_soft_{over}" for over in OVER), soft=True),
    **all_("monai.tversky", "monai_soft_tversky", soft=True),
    **all_("monai.generalized_dice", "monai_soft_gdice", soft=True),
}  # fmt: skip

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
