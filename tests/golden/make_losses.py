"""Writes tests/golden/losses.npz and papers.npz, a small selection of the full golden files of losses: numbers only.

Usage: python make_losses.py FOLDER_OF_THE_FULL_FILES tests/golden
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

# family: cases, entries. Small cases keep their gradients, of the others the values.
SELECTION = {
    "lovasz_softmax": (
        ("rand", "ties", "one_valid", "b1_rand", "rand_noign"),
        ("berman_present_batch", "berman_present_img", "berman_all_batch", "berman_list_batch", "paddleseg_present",
         "smp_multiclass_batch", "smp_multiclass_img", "mmseg_present_batch_weight", "berman_sigmoid_classes1", "kornia090",
         "odyssey_softmax_outside"),
    ),
    "lovasz_hinge": (
        ("b1_rand", "b1_nofg1", "b1_img_ignored", "b1_rand_noign"),
        ("berman_batch", "berman_img", "kornia090", "mmseg_img", "paddleseg_one_logit_intlabels"),
    ),
    "mixed": (("rand",), ("torch_berman_ce0.8_lovasz0.2", "torch_berman_two_heads_1_0.4", "paddleseg_ce0.8_lovasz0.2")),
    "ce": (
        ("rand", "one_valid"),
        ("torch_plain", "torch_weight", "torch_ls0.1", "torch_weight_ls0.1", "mmseg_plain", "paddleseg_topk0.25",
         "paddleseg_weight_topk0.25", "paddleseg_noavg", "hrnet_ce", "smp_softce_ls0.1"),
    ),
    "bce_mcc": (
        ("b1_rand", "b1_rand_noign"),
        ("torch_bce_masked_mean_pos3", "smp_mcc", "berman_stable_bce", "smp_softbce_weight", "smp_softbce_smooth0.1"),
    ),
    "focal": (
        ("rand", "b1_rand", "rand_noign", "b1_rand_noign"),
        ("jdt_softmax_g2", "jdt_softmax_g0.5", "monai_softmax_g2_alphalist", "smp_multiclass_a0.25_g2.0",
         "smp_binary_a0.25_g2.0", "kornia_softmax_a0.25_g2", "kornia_binary_a0.25_g2", "monai_softmax_g2_noign",
         "monai_sigmoid_ovr_g2_a0.25", "paddleseg_multiclass_g2", "smp_softmax_focal_fn_g2", "tv_sigmoid_a0.25_g2.0"),
    ),
    "dice": (
        ("rand", "one_valid", "b1_rand", "b1_img_ignored", "rand_noign"),
        ("smp_multiclass", "smp_multiclass_weights", "monai_default", "monai_batch", "monai_squared", "monai_weight",
         "monai_nobg", "kornia_micro", "kornia_macro", "paddleseg_smooth1", "smp_binary", "monai_binary_sigmoid",
         "kornia_mirror_macro", "mmseg_softmax_naiveFalse", "monai_dicece", "odyssey_softdice", "paddleseg_smooth1_weight"),
    ),
    "jaccard": (("rand", "one_valid", "rand_noign"), ("smp_multiclass", "smp_multiclass_log", "odyssey_iou")),
    "jdt": (
        ("rand", "one_valid", "soft_ls"),
        ("hard_jaccard_D", "hard_jaccard_I", "hard_jaccard_C", "hard_jaccard_DIC", "soft_jaccard_D", "soft_dice_D",
         "softkeep_jaccard_D", "monai_notsoftflag_dice_batch"),
    ),
    "tversky": (
        ("rand", "one_valid", "b1_rand", "rand_noign"),
        ("smp_multiclass_a0.3_b0.7", "monai_a0.3_b0.7", "monai_a0.3_b0.7_nobg", "mmseg_a0.3_b0.7", "smp_binary_a0.3_b0.7",
         "kornia_a0.3_b0.7", "kornia_mirror_a0.3_b0.7", "odyssey_a0.3_b0.7"),
    ),
    "focal_tversky": (
        ("rand", "one_valid", "b1_rand", "rand_noign"),
        ("odyssey_g0.75", "smp_multiclass_a0.3_b0.7_g0.75", "smp_multiclass_a0.3_b0.7_g1.333", "smp_binary_a0.3_b0.7_g0.75"),
    ),
    "gdice": (
        ("rand_noign", "b1_rand_noign", "b1_nofg1_noign"),
        ("monai_square_img", "monai_square_batch", "monai_simple_batch", "monai_square_binary_sigmoid_img"),
    ),
    "ohem": (
        ("rand",),
        ("hrnet_t0.7_k100", "hrnet_t0.05_k200", "hrnet_t0.9_k10000", "hrnet_t0.7_k100_weight", "mmseg_t0.05_k200",
         "paddleseg_t0.05_k200", "paddleseg_t0.7_k100_weight"),
    ),
}  # fmt: skip
# gradients of 5-class images are 30 kB each
LARGE_GRADIENTS = {("lovasz_softmax", "berman_present_batch", "rand")}
# of the index: the float32 value, the float64 value, and how far the gradients of the two runs are apart
KEPT = ("status", "value", "value64", "grad_f32_vs_f64_maxdiff")


PAPERS = (
    "abl__random_24x32",
    "recall_class__random_noignore",
    "recall_func__random_noignore",
    "ref_explog__random",
    "ohem__random_t0.05_k300",
    "ohem__random_t0.9_k131072",
    "ohem2d_ocnet__random_t0.7_k100",
    "ohem2d_ocnet__random_classweights",
    "ohemlovasz__random_t0.7_k100_batch_present",
    "rmi__random_trainscript",
    "ref_ssl__random",
)


def write_core(folder: Path, target: Path) -> None:
    """Cases and entries of the families of `folder`."""
    sys.path.insert(0, str(folder))
    import golden

    merged: dict[str, np.ndarray] = {}
    for family, (cases, entries) in SELECTION.items():
        with tempfile.TemporaryDirectory() as scratch:
            part = Path(scratch) / "part.npz"
            golden.subset(family, part, cases=cases, entries=entries)
            with np.load(part) as z:
                arrays = {name: z[name] for name in z.files}
        index = [
            {"id": e["id"], "kwargs": e["kwargs"], "cases": {c: {k: i[k] for k in KEPT if k in i} for c, i in e["cases"].items()}}
            for e in json.loads(str(arrays.pop("index")))
        ]
        merged[f"{family}|index"] = np.array(json.dumps(index))
        for name, array in arrays.items():
            kind, *rest = name.split("|")
            if kind == "in" and name not in merged and (rest[-1] != "aux_logits" or family == "mixed"):
                # `*_noign` cases have the logits of the case without the ending
                equal = (k for k, v in merged.items() if k.startswith("in|") and np.array_equal(v, array))
                same = next(equal, None)
                merged[name] = array if same is None else np.array(same)
            elif rest[-1] == "grad" and (array.size <= 2000 or (family, *rest[:2]) in LARGE_GRADIENTS):
                merged[f"{family}|{name}"] = array
    np.savez_compressed(target, **merged)


def write_papers(folder: Path, target: Path) -> None:
    """Inputs and float64 values of a few files, without gradients."""
    merged = {"names": np.array(json.dumps(PAPERS))}
    for name in PAPERS:
        with np.load(folder / f"{name}.npz") as z:
            arrays = {k: z[k] for k in ("logits", "labels", "loss_f64", "n_kept") if k in z.files}
        for k, array in arrays.items():
            same = next((m for m, v in merged.items() if m.endswith(f"|{k}") and np.array_equal(v, array)), None)
            merged[f"{name}|{k}"] = np.array(same) if same is not None and k in ("logits", "labels") else array
    np.savez_compressed(target, **merged)


def main(folder: str, target: str) -> None:
    write_core(Path(folder) / "core", Path(target) / "losses.npz")
    write_papers(Path(folder) / "papers", Path(target) / "papers.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
