"""Losses against values of the code published with the papers and of evaluations of their formulas.

The files hold float64 values and gradients, so the comparison is exact up to rounding.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from golden_cases import REPO, SHARED, As, Golden, evaluate
from torch.nn import functional as F

from evenseg import build_loss
from evenseg.losses.auto_seg import METRICS

PAPERS = SHARED / "papers"
SMALL = REPO / "tests" / "golden" / "papers.npz"

needs_shared = pytest.mark.skipif(not PAPERS.is_dir(), reason=f"the full golden files are not at {PAPERS}")

WEIGHTS = [1.0, 2.0, 0.5, 1.5, 0.8]


def loss(type: str, **keywords):
    return {"type": type, **keywords}


def ohem(thresh: float, min_kept: int, **keywords):
    return loss("hrnet.ohem", thres=thresh, min_kept=min_kept, ignore_label=255, **keywords)


LOVASZ, LOVASZ_IMG = (loss("LovaszSoftmaxLoss", per_image=per_image) for per_image in (False, True))
RECALL = As(loss("RecallLoss"))
RECALL_OVER_WEIGHTS = As(loss("RecallLoss", normalize="weights"))
EXPLOG = As(loss("ExponentialLogarithmicLoss"))
EXPLOG_PRESENT = As(loss("ExponentialLogarithmicLoss", classes="present"))


def ocnet(thresh: float, min_kept: int, **keywords) -> As:
    return As(loss("ocnet.ohem", thresh=thresh, min_kept=min_kept, **keywords))


def ohem_and(lovasz) -> As:
    return As({"type": "MixedLoss", "losses": [ohem(0.7, 100), lovasz], "coef": [1, 1]})


def over_valid_pixels_plus_one(value, g: Golden):
    return value / (int((g.labels != 255).sum()) + 1)


def rmi(**keywords) -> As:
    return As(loss("RMILoss", **keywords))


def enlarged(g: Golden, leaves):
    """The published code brings smaller logits to the size of the labels itself."""
    return F.interpolate(leaves["logits"], g.labels.shape[1:], mode="bilinear", align_corners=True), g.labels


def abl(**keywords) -> As:
    return As(loss("ActiveBoundaryLoss", convention="published", **keywords), inputs=enlarged)


CONVENTIONS: dict[str, As] = {
    **{f"abl__{case}": abl() for case in ("random_24x32", "random_48x64", "absent_48x64", "smooth_logits_48x64", "halfres_logits")},
    "abl__smooth_ls0": abl(label_smoothing=0.0),
    "abl__smooth_nodetach": abl(detach=False),
    "abl__smooth_ratio5pc_clip5": abl(max_ratio=0.05, max_clip_dist=5.0),
    "recall_class__random_noignore": RECALL,
    "recall_class__absent_noignore": RECALL,
    "recall_func__random_noignore": RECALL_OVER_WEIGHTS,
    "recall_func__absent_noignore": RECALL_OVER_WEIGHTS,
    # the published function maps the counts of label 255 onto class 0, which does no harm where class 0 is missed too
    "recall_func__random": RECALL_OVER_WEIGHTS,
    "recall_func__absent": RECALL_OVER_WEIGHTS,
    "ref_explog__random": EXPLOG,
    "ref_explog__absent": EXPLOG,
    "ref_explog__random_present": EXPLOG_PRESENT,
    "ref_explog__absent_present": EXPLOG_PRESENT,
    **{
        f"ohem__{case}_t{t}_k{k}": As(ohem(t, k))
        for case in ("random", "absent")
        for t, k in ((0.05, 300), (0.7, 100), (0.9, 131072))
    },
    "ohem__random_classweights": As(ohem(0.7, 100, weight=WEIGHTS)),
    **{
        f"ohem2d_ocnet__{case}_t{t}_k{k}": ocnet(t, k)
        for case in ("random", "absent")
        for t, k in ((0.6, 0), (0.7, 100), (0.7, 100000))
    },
    "ohem2d_ocnet__random_classweights": ocnet(0.7, 100, weight=WEIGHTS),
    "ohemlovasz__random_t0.7_k100_batch_present": ohem_and(LOVASZ),
    "ohemlovasz__absent_t0.7_k100_batch_present": ohem_and(LOVASZ),
    "ohemlovasz__random_t0.7_k100_batch_all": ohem_and(loss("LovaszSoftmaxLoss", classes="all")),
    "ohemlovasz__random_t0.7_k100_perimage_present": ohem_and(LOVASZ_IMG),
    # one-vs-rest BCE: the sum over channels, the mean over pixels, one added to their number
    "rmi_bce__random": As(
        loss("BinaryCrossEntropyLoss", mode="multiclass", reduction="sum"), over_valid_pixels_plus_one
    ),
    "rmi__random_trainscript": rmi(),
    "rmi__absent_trainscript": rmi(),
    "rmi__random_parserdefault": rmi(stride=2),
    "rmi__random_classdefault_max3": rmi(pool="max", stride=3),
    "rmi__random_interp4": rmi(pool="interp"),
    "rmi__random_nopool_r2_way0": rmi(pool="none", radius=2, lam=0.25, form="sum"),
    "rmi__random_softmaxCE_variant": rmi(pixel_term="ce"),
    **{
        f"ref_ssl__{case}{'_detach' if detach else ''}": As(loss("StructuralSimilarityLoss", detach=detach))
        for case in ("random", "absent")
        for detach in (False, True)
    },
}
# whose numbers they ran: the published configurations repeat those of another metric for FWIoU and gAcc
ASL = {
    "mIoU": ("mIoU", "published"), "mIoU_identity": ("mIoU", "identity"), "mAcc": ("mAcc", "published"), "BIoU": ("BIoU", "published"),
    "FWIoU": ("FWIoU", METRICS["BIoU"].published), "FWIoUlog": ("FWIoU", "published"), "gAcc": ("gAcc", METRICS["mAcc"].published),
    "gAcclog": ("gAcc", "published"), "BF1": ("BF1", "published"), "BF1_identity": ("BF1", "identity"),
}  # fmt: skip
for file, (metric, parameters) in ASL.items():
    searched = As(loss("AutoSegLoss", metric=metric, parameters=parameters, edges_in_ignored=metric == "BF1"))
    CONVENTIONS |= {f"asl__{file}__{case}": searched for case in (("random",) if "identity" in file else ("random", "absent"))}
CONVENTIONS["asl__mIoU__random_notinplace"] = CONVENTIONS["asl__mIoU__random"]

# by the beginning of the file name
NOT_OURS = {
    "explog_segloss__": "takes the logarithm of the mean Dice, and its cross-entropy has no power: not the paper",
    "explog_pymic__": "squeezes probabilities and Dice to 0.005 + 0.99 x and weights classes by (f + 0.1)^(-1/2)",
    "abl__gt_without_boundary": "measures distances to a place outside the image where the labels have no boundary; ours is 0",
    "abl__constant_logits_returns_None": "the published code returns no value where no score is above its threshold; ours is 0",
    "asl_bezier_curves": "curves, not losses: see test_auto_seg.py",
    "gatedcrf_pymic__": "see test_pairwise.py",
    "ref_dfr__": "see test_pairwise.py",
    "rloss__": "see test_pairwise.py",
}


def read(
    name: str, small: bool, outputs: tuple[str, str] = ("loss_f64", "grad_f64")
) -> tuple[Golden, np.ndarray | None]:
    """The golden of a file, its value and gradient in float64, and the number of kept pixels where it is recorded."""
    with np.load(SMALL if small else PAPERS / f"{name}.npz") as z:
        prefix = f"{name}|" if small else ""
        arrays = {k.removeprefix(prefix): z[k] for k in z.files if k.startswith(prefix)}
        for k in ("logits", "labels"):
            if arrays[k].dtype.kind == "U":  # the small file names an equal array instead of repeating it
                arrays[k] = z[str(arrays[k])]
    value, grad = outputs
    inputs = {k: arrays[k] for k in ("logits", "labels")}
    entry, _, case = name.partition("__")
    golden = Golden("papers", entry, case, inputs, value=float(arrays[value]), grad=arrays.get(grad))
    return golden, arrays.get("n_kept")


def assert_same(name: str, small: bool, dtype: torch.dtype, rtol: float, grad_rtol: float, **common) -> None:
    golden, kept = read(name, small)
    value, grad = evaluate(CONVENTIONS[name], golden, dtype, **common)
    assert golden.value is not None
    assert abs(value - golden.value) <= rtol * abs(golden.value)
    if golden.grad is not None:
        assert np.linalg.norm(grad - golden.grad) <= grad_rtol * np.linalg.norm(golden.grad)
    if kept is not None and golden.entry != "ohemlovasz":  # Lovász reaches the other pixels too
        assert (np.abs(grad).max(1) > 0).sum() == int(kept)


EXACT = 1e-8  # class weights are kept in float32
ROUNDED = {  # by the beginning of the name
    "abl": 1e-7,  # its code keeps distances and label_smoothing in float32
    "rmi": 1e-6,  # its code adds 1e-8 to the diagonals whose logarithm it takes (at least the root of 5e-4)
}


def exact(name: str) -> float:
    return ROUNDED.get(name.partition("__")[0], EXACT)


def small_names() -> list[str]:
    with np.load(SMALL) as z:
        return json.loads(str(z["names"]))


@pytest.mark.parametrize("name", small_names())
def test_small_golden_set(name):
    assert_same(name, True, torch.float64, exact(name), exact(name), engine="eager", method="sort")


@needs_shared
def test_every_file_is_ours_or_has_a_reason():
    files = {f.stem for f in PAPERS.glob("*.npz")}
    assert set(CONVENTIONS) <= files
    unknown = {f for f in files - set(CONVENTIONS) if not f.startswith(tuple(NOT_OURS))}
    assert not unknown
    assert all(any(f.startswith(p) for f in files) for p in NOT_OURS)
    assert not any(name.startswith(tuple(NOT_OURS)) for name in CONVENTIONS)


@needs_shared
@pytest.mark.parametrize("name", CONVENTIONS)
def test_formulas_in_float64(name):
    assert_same(name, False, torch.float64, exact(name), exact(name), engine="eager", method="sort")


@needs_shared
@pytest.mark.parametrize("engine", ["eager", "numba"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_float32(name, engine):
    # the steepest published curve turns within 1e-4, where the rounding of a probability is felt
    assert_same(name, False, torch.float32, 1e-5, 2e-5 if name.startswith("asl__") else 1e-5, engine=engine, method="sort")


@needs_shared
@pytest.mark.parametrize("engine", ["eager", "numba"])
@pytest.mark.parametrize("name", [n for n in CONVENTIONS if n.startswith("ohemlovasz")])
def test_ohem_and_lovasz_by_histogram(name, engine):
    # the histogram's own gradient error, of which half a mix is Lovász
    assert_same(name, False, torch.float32, 1e-5, 5e-4, engine=engine, method="histogram")


@needs_shared
@pytest.mark.parametrize("name", ["recall_func__random", "recall_func__absent"])
def test_recall_over_pixels_with_ignored_labels(name):
    """The published class fails on label 255; the file has its formula over the valid pixels, evaluated apart."""
    golden, _ = read(name, False, ("ref_loss_f64", "ref_grad_f64"))
    value, grad = evaluate(RECALL, golden, torch.float64, engine="eager")
    assert abs(value - golden.value) <= EXACT * golden.value
    assert np.linalg.norm(grad - golden.grad) <= EXACT * np.linalg.norm(golden.grad)


@needs_shared
@pytest.mark.parametrize("name", [n for n in NOT_OURS if n.startswith("abl__")])
def test_published_failures_of_the_active_boundary_loss_are_zero(name):
    """No boundary of the labels, or none predicted: 0 with zero gradient in either convention."""
    with np.load(PAPERS / f"{name}.npz") as z:
        logits, labels = torch.from_numpy(z["logits"]).requires_grad_(), torch.from_numpy(z["labels"])
    for convention in ("paper", "published"):
        value = build_loss({"types": [{"type": "ActiveBoundaryLoss", "convention": convention}], "coef": [1]})(logits, labels)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == 0.0
        assert not gradient.any()
