"""Scores against values computed by other people's code, from tests/golden and, where present, the full golden files.

`CHECKS` names for every entry of those files what of ours must equal it, so it says whose convention is whose.
`NOT_OURS` lists what we deliberately do not reproduce, with the reason; a test holds that nothing is forgotten.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg import metrics

REPO = Path(__file__).parents[2]
SHARED = REPO.parent / "shared" / "golden" / "core"
FAMILIES = ("metrics_confusion", "metrics_iou", "metrics_dice")


class Counted:
    """The matrix of a case and of each of its images."""

    def __init__(self, pred, target, num_classes):
        pred, target = torch.as_tensor(pred), torch.as_tensor(target)
        self.cm = metrics.confusion_matrix(pred, target, num_classes)
        self.cms = metrics.confusion_matrix(pred, target, num_classes, per_image=True)


def by_label_share(score, cm):
    """The mean of a per-class score weighted by the share of labelled pixels."""
    return (score * cm.sum(-1)).sum(-1) / cm.sum()


def micro_iou(cm):
    """One IoU over the pixels of all classes: every wrong pixel is one FP and one FN, so it follows from accuracy."""
    accuracy = metrics.pixel_accuracy(cm)
    return accuracy / (2 - accuracy)


def berman(per_image):
    def check(g):
        scores = metrics.iou(g.cms, "one").mean(0) if per_image else metrics.iou(g.cm, "one")
        return {"per_class": 100 * scores, "mean": 100 * scores.mean()}

    return check


def berman_nan(g):
    return {"per_class": 100 * metrics.iou(g.cm), "nanmean": 100 * metrics.mean_iou(g.cm)}


def deeplab(g):
    return {
        "confmat": g.cm,
        "Pixel_Accuracy": metrics.pixel_accuracy(g.cm),
        "Pixel_Accuracy_Class": metrics.mean_accuracy(g.cm),
        "mIoU": metrics.mean_iou(g.cm),
        "FWIoU": metrics.frequency_weighted_iou(g.cm),
    }


def jdt(g):
    return {
        "Acc": 100 * metrics.pixel_accuracy(g.cm),
        "mAccD": 100 * metrics.mean_accuracy(g.cm),
        "mIoUD": 100 * metrics.mean_iou(g.cm),
        "mDiceD": 100 * metrics.mean_dice(g.cm),
        "mAccI": 100 * metrics.mean_accuracy(g.cms).nanmean(),
        "mIoUI": 100 * metrics.per_image_mean_iou(g.cms),
        "mDiceI": 100 * metrics.mean_dice(g.cms).nanmean(),
    }


def mmseg(g):
    dice, precision, recall = metrics.dice(g.cm), metrics.precision(g.cm), metrics.recall(g.cm)
    return {
        "aAcc": metrics.pixel_accuracy(g.cm),
        "IoU": metrics.iou(g.cm),
        "Acc": metrics.class_accuracy(g.cm),
        "Dice": dice,
        "Fscore": dice,
        "Precision": precision,
        "Recall": recall,
        "nanmean_IoU": metrics.mean_iou(g.cm),
        "nanmean_Acc": metrics.mean_accuracy(g.cm),
        "nanmean_Dice": metrics.mean_dice(g.cm),
        "nanmean_Fscore": metrics.mean_dice(g.cm),
        "nanmean_Precision": precision.nanmean(),
        "nanmean_Recall": recall.nanmean(),
    }


def paddleseg(g):
    return {
        "iou_per_class": metrics.iou(g.cm, "one"),
        "miou": metrics.mean_iou(g.cm, "one"),
        "dice_per_class": metrics.dice(g.cm, "zero"),
        "mdice": metrics.mean_dice(g.cm, "zero"),
        "acc_per_class": metrics.precision(g.cm, "zero"),  # what PaddleSeg calls accuracy of a class is precision
        "macc": metrics.pixel_accuracy(g.cm),
        "mean_acc": metrics.pixel_accuracy(g.cm),
        "precision": metrics.precision(g.cm, "zero"),
        "recall": metrics.recall(g.cm, "zero"),
    }


def smp(score, micro):
    """zd1 and zd0 are our "one" and "zero"; imagewise means take the mean over classes and images at once."""

    def check(g):
        out = {}
        for policy, suffix in (("one", "zd1"), ("zero", "zd0")):
            per_image = score(g.cms, policy)
            out[f"macro_{suffix}"] = score(g.cm, policy).mean()
            out[f"macro-imagewise_{suffix}"] = per_image.mean()
            out[f"none_{suffix}"] = per_image
            out[f"micro_{suffix}"] = micro(g.cm)
            out[f"micro-imagewise_{suffix}"] = torch.nan_to_num(
                micro(g.cms), nan={"one": 1.0, "zero": 0.0}[policy]
            ).mean()
        # with equal weights SMP sums over the images and leaves absent classes at 1
        out["weighted_uniform"] = score(g.cm, "one").mean()
        if score is metrics.iou:
            tp = g.cms.diagonal(dim1=-2, dim2=-1)
            fp, fn = g.cms.sum(-2) - tp, g.cms.sum(-1) - tp
            out.update(tp=tp, fp=fp, fn=fn, tn=g.cms.sum((-2, -1))[:, None] - tp - fp - fn)
        return out

    return check


def one(function):
    return lambda g: {"value": function(g)}


def normalised(dims):
    return one(lambda g: torch.nan_to_num(g.cm / g.cm.sum(dims, keepdim=True).double()))


def kornia_iou(g):
    """Kornia adds eps = 1e-6 above and below, which lifts a class that is nowhere to 1."""
    return {"value": metrics.iou(g.cms, "one")}


CHECKS = {
    "hrnet_get_confusion_matrix": one(lambda g: g.cm),
    "sklearn_confusion_matrix": one(lambda g: g.cm),
    "torchmetrics_confmat_normNone": one(lambda g: g.cm),
    "torchmetrics_confmat_normall": normalised((-2, -1)),
    "torchmetrics_confmat_normtrue": normalised(-1),
    "torchmetrics_confmat_normpred": normalised(-2),
    "kornia_confusion_matrix": one(lambda g: g.cms),
    "berman_iou_EMPTY_nan_per_imageFalse": berman_nan,
    "berman_iou_per_imageFalse": berman(per_image=False),
    "berman_iou_per_imageTrue": berman(per_image=True),
    "deeplab_xception_evaluator": deeplab,
    "jdt_AccuracyMetric": jdt,
    "kornia_mean_iou": kornia_iou,
    "mmseg_iou_metric": mmseg,
    "paddleseg_metrics": paddleseg,
    "smp_iou_score": smp(metrics.iou, micro_iou),
    "smp_f1_score": smp(metrics.dice, metrics.pixel_accuracy),
    "smp_recall": smp(metrics.recall, metrics.pixel_accuracy),
    "torchmetrics_accuracy_macro": one(lambda g: metrics.mean_accuracy(g.cm, "zero")),
    "torchmetrics_accuracy_micro": one(lambda g: metrics.pixel_accuracy(g.cm)),
    "torchmetrics_accuracy_none": one(lambda g: metrics.class_accuracy(g.cm, "zero")),
    "torchmetrics_accuracy_weighted": one(lambda g: by_label_share(metrics.class_accuracy(g.cm, "zero"), g.cm)),
    "torchmetrics_class_MeanIoU": lambda g: dict.fromkeys(
        ("one_update", "update_per_image"), metrics.per_image_mean_iou(g.cms)
    ),
    "torchmetrics_jaccard_macro": one(lambda g: metrics.mean_iou(g.cm)),
    "torchmetrics_jaccard_micro": one(lambda g: micro_iou(g.cm)),
    "torchmetrics_jaccard_none": one(lambda g: metrics.iou(g.cm, "zero")),
    "torchmetrics_jaccard_weighted": one(lambda g: metrics.frequency_weighted_iou(g.cm)),
    "torchmetrics_seg_mean_iou_nobg": one(lambda g: metrics.iou(g.cms)[:, 1:].nanmean(-1)),
    "torchmetrics_seg_mean_iou_perclassFalse": one(lambda g: metrics.mean_iou(g.cms)),
    "torchmetrics_seg_mean_iou_perclassTrue": one(lambda g: torch.nan_to_num(metrics.iou(g.cms), nan=-1.0)),
    "monai_dice_bgFalse_ignoreemptyFalse": one(lambda g: metrics.dice(g.cms, "one")[:, 1:]),
    "monai_dice_bgFalse_ignoreemptyTrue": one(lambda g: metrics.dice(g.cms)[:, 1:]),
    "monai_dice_bgTrue_ignoreemptyFalse": one(lambda g: metrics.dice(g.cms, "one")),
    "monai_dice_bgTrue_ignoreemptyTrue": one(lambda g: metrics.dice(g.cms)),
    "monai_iou_ignoreemptyFalse": one(lambda g: metrics.iou(g.cms, "one")),
    "monai_iou_ignoreemptyTrue": one(lambda g: metrics.iou(g.cms)),
    "torchmetrics_dice_macro_global": one(lambda g: metrics.mean_dice(g.cm)[None]),
    "torchmetrics_dice_macro_samplewise": one(lambda g: metrics.mean_dice(g.cms)),
    "torchmetrics_dice_macro_samplewise_nobg": one(lambda g: metrics.dice(g.cms)[:, 1:].nanmean(-1)),
    "torchmetrics_dice_micro_global": one(lambda g: metrics.pixel_accuracy(g.cm)[None]),
    "torchmetrics_dice_micro_samplewise": one(lambda g: metrics.pixel_accuracy(g.cms)),
    "torchmetrics_dice_none_global": one(lambda g: metrics.dice(g.cm)[None]),
    "torchmetrics_dice_none_samplewise": one(lambda g: metrics.dice(g.cms)),
    "torchmetrics_dice_weighted_global": one(lambda g: by_label_share(metrics.dice(g.cm, "zero"), g.cm)[None]),
    "torchmetrics_dice_weighted_samplewise": one(
        lambda g: torch.stack([by_label_share(metrics.dice(cm, "zero"), cm) for cm in g.cms])
    ),
}

_LABEL_RULE = "drops a class not labelled in the image even where it is predicted; ours scores a false alarm 0"
_JDT_MEANS = [f"m{score}{kind}" for score in ("Acc", "IoU", "Dice") for kind in ("C", "IQ", "I1", "CQ", "C1")]
# (entry, output, case), * = any: why it is not reproduced
NOT_OURS = {
    ("smp_accuracy", "*", "*"): "one-vs-rest accuracy counts true negatives; not offered",
    ("smp_balanced_accuracy", "*", "*"): "one-vs-rest balanced accuracy counts true negatives; not offered",
    ("monai_generalized_dice_square", "*", "*"): "generalised Dice is a loss here, not a score",
    ("torchmetrics_generalized_dice_linear", "*", "*"): "generalised Dice is a loss here, not a score",
    ("torchmetrics_generalized_dice_simple", "*", "*"): "generalised Dice is a loss here, not a score",
    ("torchmetrics_generalized_dice_square", "*", "*"): "generalised Dice is a loss here, not a score",
    ("paddleseg_metrics", "kappa", "*"): "Cohen's kappa is not offered",
    **{("jdt_AccuracyMetric", name, "*"): "per-class and worst-quantile means are not offered" for name in _JDT_MEANS},
    ("jdt_AccuracyMetric", "mAccD", "absent"): "NaN as soon as one class is not labelled; ours leaves it out",
    ("jdt_AccuracyMetric", "mIoUI", "absent"): _LABEL_RULE,
    ("jdt_AccuracyMetric", "mDiceI", "absent"): _LABEL_RULE,
    ("mmseg_iou_metric", "Fscore", "absent"): "NaN for a class that is only predicted (its recall is NaN); ours is 0",
    ("mmseg_iou_metric", "nanmean_Fscore", "absent"): "follows Fscore",
    ("monai_dice_bgFalse_ignoreemptyTrue", "value", "absent_noign"): _LABEL_RULE,
    ("monai_dice_bgTrue_ignoreemptyTrue", "value", "absent_noign"): _LABEL_RULE,
    ("monai_iou_ignoreemptyTrue", "value", "absent_noign"): _LABEL_RULE,
}


def reason_not_ours(entry, output, case):
    for key in ((entry, "*", "*"), (entry, output, "*"), (entry, output, case)):
        if key in NOT_OURS:
            return NOT_OURS[key]
    return None


def compare(entry, case, ours, output, theirs):
    value, theirs = np.asarray(ours[output], dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert value.shape == theirs.shape, f"{entry} {case} {output}"
    # float32 peers carry about seven digits; counts and float64 peers are held to the last one
    known = theirs[~np.isnan(theirs)]
    exact = np.array_equal(known, np.round(known)) or not np.array_equal(known, known.astype(np.float32))
    # kornia's eps of 1e-6 pixels shows as 1e-8
    np.testing.assert_allclose(
        value, theirs, rtol=1e-12 if exact else 1e-6, atol=0 if exact else 2e-8, err_msg=f"{entry} {case} {output}"
    )


def read_map(images):
    return np.array([[[255 if c == "." else int(c) for c in row] for row in image] for image in images])


SMALL = json.loads((REPO / "tests" / "golden" / "metrics.json").read_text())


@pytest.mark.parametrize(("case", "entry"), [(c, e) for c, v in SMALL.items() for e in v["values"]])
def test_small_golden_set(case, entry):
    counted = Counted(read_map(SMALL[case]["pred"]), read_map(SMALL[case]["target"]), 5)
    ours = CHECKS[entry](counted)
    compared = 0
    for output, theirs in SMALL[case]["values"][entry].items():
        if reason_not_ours(entry, output, case) is None:
            compare(entry, case, ours, output, theirs)
            compared += 1
    assert compared


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the full golden files are not at {SHARED}")


def full_golden(family):
    sys.path.insert(0, str(SHARED))
    try:
        import golden
    finally:
        sys.path.remove(str(SHARED))
    return list(golden.load(family))


@needs_shared
@pytest.mark.parametrize("family", FAMILIES)
def test_full_golden_files(family):
    counted, compared, left = {}, 0, set()
    for g in full_golden(family):
        if g.case not in counted:
            logits = torch.from_numpy(g.inputs["logits"])
            counted[g.case] = Counted(logits, g.inputs["labels"], logits.shape[1])
        ours = CHECKS[g.entry["id"]](counted[g.case]) if g.entry["id"] in CHECKS else {}
        for output, theirs in g.out.items():
            if reason_not_ours(g.entry["id"], output, g.case) is not None:
                left.add((g.entry["id"], output, g.case))
                continue
            assert output in ours, f"{g.entry['id']} {output}: neither checked nor listed as not ours"
            compare(g.entry["id"], g.case, ours, output, theirs)
            compared += 1
    assert compared > 20
    print(f"{family}: {compared} values compared, {len(left)} not ours")


@needs_shared
def test_every_exception_is_needed():
    """An exception that no longer differs (or never matched) would hide a regression."""
    counted, needed = {}, set()
    for family in FAMILIES:
        for g in full_golden(family):
            entry = g.entry["id"]
            if g.case not in counted:
                logits = torch.from_numpy(g.inputs["logits"])
                counted[g.case] = Counted(logits, g.inputs["labels"], logits.shape[1])
            for output, theirs in g.out.items():
                for key in ((entry, "*", "*"), (entry, output, "*"), (entry, output, g.case)):
                    if key not in NOT_OURS:
                        continue
                    ours = CHECKS[entry](counted[g.case]) if entry in CHECKS else {}
                    if output not in ours:
                        needed.add(key)
                        continue
                    try:
                        compare(entry, g.case, ours, output, theirs)
                    except AssertionError:
                        needed.add(key)
    assert needed == set(NOT_OURS)
