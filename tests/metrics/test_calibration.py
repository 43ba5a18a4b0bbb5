"""Calibration against other people's values, and where those are wrong, against exact numbers."""

import math

import numpy as np
import pytest
import torch
from tests.metrics.test_metrics_golden import full_golden, needs_shared

from evenseg import metrics

MONAI_REDUCTIONS = {"expected": "l1", "maximum": "max"}  # its "average" weighs every non-empty bin alike: not offered
# outputs of JDT that are not ours: its class-wise error is not that of Nixon et al. nor of MONAI, which ours equals, and its
# mean over images counts a wholly ignored image as 0
NOT_OURS = {"SCED", "SCEI", "ECEI"}
# float32 sums of confidences near 1 (see test_sums_stay_exact)
ROUNDING = {"nearperf": 1e-5}


def ours_of(g):
    """Our value of a peer's entry, or None where it is not ours."""
    name, bins = g.entry["id"], int(g.entry["id"].rsplit("bins")[1])
    logits, labels = torch.from_numpy(g.inputs["logits"]), torch.from_numpy(g.inputs["labels"])
    if name.startswith("torchmetrics_binary"):
        p = torch.sigmoid(logits)
        sums = metrics.calibration_sums(torch.cat([1 - p, p], 1), labels, bins=bins, classwise=True).sum(0)
        return {"value": metrics.calibration_error(sums[1])}
    probs = logits.softmax(1)
    if name.startswith("monai_classwise"):
        reduction = name.split("_")[2]
        if reduction not in MONAI_REDUCTIONS:
            return None
        sums = metrics.calibration_sums(probs, labels, bins=bins, classwise=True)
        return {"value": metrics.calibration_error(sums, MONAI_REDUCTIONS[reduction])}
    images = metrics.calibration_sums(probs, labels, bins=bins)
    total = images.sum(0)
    if name.startswith("netcal"):
        return {"ECE": metrics.calibration_error(total), "MCE": metrics.calibration_error(total, "max")}
    if name.startswith("jdt"):
        return {"ECED": metrics.calibration_error(total)}
    return {"value": metrics.calibration_error(total, name.split("_")[1])}


@needs_shared
def test_golden_files():
    compared = 0
    for g in full_golden("metrics_calibration"):
        ours = ours_of(g)
        if ours is None:
            continue
        assert ours.keys() == g.out.keys() - NOT_OURS, g.entry["id"]
        for output, value in ours.items():
            percent = 100 if output == "ECED" else 1
            theirs = np.asarray(g.out[output], np.float64) / percent
            message = f"{g.entry['id']} {g.case} {output}"
            np.testing.assert_allclose(value, theirs, atol=ROUNDING.get(g.case, 2e-6), err_msg=message)
            compared += 1
    assert compared > 60


def test_a_small_case_by_hand():
    # four bins; p of the winner and whether it is right: .6 yes, .7 no, .9 yes, .9 yes, 1.0 no
    p = torch.tensor([0.6, 0.7, 0.9, 0.9, 1.0], dtype=torch.float64)
    target = torch.tensor([[0, 1, 0, 0, 1]])
    sums = metrics.calibration_sums(torch.stack([p, 1 - p])[None], target, bins=4)[0]
    np.testing.assert_allclose(sums, [[0, 0, 0], [0, 0, 0], [2, 1.3, 1], [3, 2.8, 2]], atol=1e-7)
    count, confidence, accuracy = metrics.reliability_curve(sums)
    np.testing.assert_allclose(confidence, [math.nan, math.nan, 0.65, 2.8 / 3], atol=1e-7)
    np.testing.assert_allclose(accuracy, [math.nan, math.nan, 0.5, 2 / 3])
    gaps = [0.15, 0.8 / 3]
    assert float(metrics.calibration_error(sums)) == pytest.approx((2 * gaps[0] + 3 * gaps[1]) / 5, abs=1e-7)
    assert float(metrics.calibration_error(sums, "max")) == pytest.approx(gaps[1], abs=1e-7)
    square = (2 * gaps[0] ** 2 + 3 * gaps[1] ** 2) / 5
    assert float(metrics.calibration_error(sums, "l2")) == pytest.approx(square**0.5, abs=1e-7)
    assert count.tolist() == [0, 0, 2, 3]


def test_ignored_pixels_and_images_do_not_count():
    probs = torch.rand(3, 4, 6, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    target = torch.randint(4, (3, 6, 5), generator=torch.Generator().manual_seed(1))
    target[0, :3] = 255
    target[1] = 255
    sums = metrics.calibration_sums(probs, target)
    assert sums[..., 0].sum(-1).tolist() == [15, 0, 30]
    other = probs.clone()
    other[0, :, :3] = other[0, :, :3].flip(0)
    other[1] = math.nan
    assert torch.equal(metrics.calibration_sums(other, target), sums)
    assert metrics.calibration_error(sums).isnan().tolist() == [False, True, False]
    classwise = metrics.calibration_sums(probs, target, classwise=True)
    assert classwise.shape == (3, 4, 15, 3)
    assert (classwise[..., 0].sum(-1) == sums[..., 0].sum(-1)[:, None]).all()
    assert classwise[0, :, :, 2].sum(-1).tolist() == [int((target[0] == c).sum()) for c in range(4)]


def test_sums_stay_exact():
    """Other libraries sum in float32 and report 0.404 here; and batches or their order change nothing."""
    p = torch.full((1, 2, 2**20), 0.6)
    p[:, 1] = 0.4
    target = torch.ones(1, 2**20, dtype=torch.uint8)
    total = metrics.Calibration(bins=10)
    for _ in range(20):
        total.update(p, target)
    assert float(total.compute()) == pytest.approx(0.6, abs=3e-8)
    probs = torch.rand(1, 3, 5000, generator=torch.Generator().manual_seed(2)).softmax(1)
    target = torch.randint(3, (1, 5000), generator=torch.Generator().manual_seed(3))
    whole = metrics.calibration_sums(probs, target)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(4))
    parts = [metrics.calibration_sums(probs[..., part], target[..., part]) for part in order.split(700)]
    assert torch.equal(torch.cat(parts).sum(0), whole[0])


def test_accumulator_over_batches():
    probs = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5)).softmax(1)
    target = torch.randint(3, (4, 8, 8), generator=torch.Generator().manual_seed(6))
    total = metrics.Calibration(bins=12)
    assert total.compute().isnan()
    total.update(probs[:1], target[:1])
    total.update(probs[1:], target[1:])
    expected = metrics.calibration_error(metrics.calibration_sums(probs, target, bins=12).sum(0))
    assert torch.equal(total.compute(), expected)


def test_bad_input():
    probs, target = torch.full((1, 2, 3), 0.5), torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"values outside 0\.\.1; allowed: probabilities, so call softmax on logits"):
        metrics.calibration_sums(4 * probs, target)
    with pytest.raises(ValueError, match="values outside 0"):
        metrics.calibration_sums(probs * math.nan, target)
    with pytest.raises(ValueError, match="bins is 0; allowed: an integer of at least 1"):
        metrics.calibration_sums(probs, target, bins=0)
    with pytest.raises(ValueError, match="probs must be probabilities"):
        metrics.calibration_sums(target, target)
    with pytest.raises(ValueError, match=r"target holds class indices outside the classes: 2 \(3 pixels\)"):
        metrics.calibration_sums(probs, target + 2)
    with pytest.raises(ValueError, match=r"norm is 'l3'; allowed: 'l1', 'l2', 'max'"):
        metrics.calibration_error(torch.zeros(4, 3), "l3")
    with pytest.raises(ValueError, match=r"allowed: sums \(\.\.\., K, 3\)"):
        metrics.reliability_curve(torch.zeros(3, 4))
