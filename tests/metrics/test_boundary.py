"""Boundary scores against other people's values and a definition that looks at every pair of pixels."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from tests.metrics.test_metrics_golden import REPO, full_golden, needs_shared

from evenseg import metrics

SMALL = json.loads((REPO / "tests" / "golden" / "evaluation.json").read_text())


def read_mask(rows):
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def of_masks(entry, gt, pred, void=None):
    """Our value of a peer's entry on two binary masks; class 1 is the mask."""
    target, pred = torch.from_numpy(gt).long()[None], torch.from_numpy(pred).long()[None]
    if void is not None:
        target = target.masked_fill(torch.from_numpy(void)[None] > 0, 255)
    number = float(entry.split("_th" if "_th" in entry else "_ratio")[1])
    if entry.startswith("davis_boundary_F"):
        return metrics.boundary_f1(metrics.boundary_matches(pred, target, 2, tolerance=number), "one")[0, 1]
    return metrics.boundary_iou(metrics.boundary_overlap(pred, target, 2, dilation=number))[0, 1]


@pytest.mark.parametrize(("case", "entry"), [(c, e) for c, v in SMALL.items() for e in v["values"]])
def test_small_golden_set(case, entry):
    masks = {name: read_mask(rows) for name, rows in SMALL[case]["masks"].items()}
    (theirs,) = SMALL[case]["values"][entry].values()
    ours = of_masks(entry, **masks)
    assert float(ours) == pytest.approx(math.nan if theirs is None else theirs, rel=1e-12, nan_ok=True)


@needs_shared
def test_full_golden_files():
    compared = 0
    for g in full_golden("metrics_boundary"):
        name = g.entry["id"]
        if name.startswith(("davis_boundary_F", "boundary_iou")):
            theirs = g.out["value" if "value" in g.out else "boundary_iou"]
            ours = of_masks(name, **g.inputs)
            np.testing.assert_allclose(float(ours), theirs, rtol=1e-12, err_msg=f"{name} {g.case}")
            compared += 1
        elif name == "per_class_label_maps":
            logits, labels = torch.from_numpy(g.inputs["logits"]), torch.from_numpy(g.inputs["labels"])
            classes = logits.shape[1]
            f1 = metrics.boundary_f1(metrics.boundary_matches(logits, labels, classes, tolerance=1), "one")
            iou = metrics.boundary_iou(metrics.boundary_overlap(logits, labels, classes))
            np.testing.assert_allclose(f1, g.out["boundary_F_1px"], rtol=1e-12)
            np.testing.assert_allclose(iou, g.out["boundary_iou_0p02"], rtol=1e-12)
            compared += 2
    assert compared > 60


def matches_by_pairs(pred, target, num_classes, radius):
    """The definition, one class and one pair of pixels at a time, on maps where C means ignored."""
    height, width = target.shape
    out = np.zeros((num_classes, 4), np.int64)
    for c in range(num_classes):
        edges = []
        for plane in (pred, target):
            inside = plane == c
            edges.append(
                [
                    (y, x)
                    for y, x in itertools.product(range(height), range(width))
                    if len({bool(v) for v in inside[y : y + 2, x : x + 2].flat}) == 2
                ]
            )
        for k, (own, other) in enumerate([edges, edges[::-1]]):
            near = [any(math.dist(p, q) <= radius for q in other) for p in own]
            out[c, 2 * k : 2 * k + 2] = sum(near), len(own)
    return out


def random_maps(seed, num_classes, height=17, width=13):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, (2, 5, 4))
    maps = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width]
    noise = rng.random(maps.shape) < 0.05
    return np.where(noise, rng.integers(0, num_classes, maps.shape), maps)


@pytest.mark.parametrize(("seed", "radius"), [(0, 1), (1, 2.5), (2, 4)])
def test_matches_are_those_of_the_definition_with_ignored_pixels(seed, radius):
    pred, target = random_maps(seed, 4)
    void = np.random.default_rng([seed, 1]).random(target.shape) < 0.1
    expected = matches_by_pairs(np.where(void, 4, pred), np.where(void, 4, target), 4, radius)
    labels = torch.from_numpy(np.where(void, 255, target))[None]
    counts = metrics.boundary_matches(torch.from_numpy(pred)[None], labels, 4, tolerance=radius)[0]
    np.testing.assert_array_equal(counts, expected)
    assert (expected[:, 1] > expected[:, 0]).any(), "a case where everything matches would show little"


@pytest.mark.parametrize("steps", [1, 3])
def test_bands_are_those_of_the_definition_with_ignored_pixels(steps):
    pred, target = random_maps(3, 4)
    void = np.random.default_rng(4).random(target.shape) < 0.1
    bands = []
    for plane in (np.where(void, 4, pred), np.where(void, 4, target)):
        padded = np.pad(plane, steps, constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * steps + 1, 2 * steps + 1))
        mixed = (windows != plane[:, :, None, None]).any((2, 3))
        bands.append([mixed & (plane == c) for c in range(4)])
    expected = [[(p & t).sum(), p.sum(), t.sum()] for p, t in zip(*bands, strict=True)]
    labels = torch.from_numpy(np.where(void, 255, target))[None]
    counts = metrics.boundary_overlap(torch.from_numpy(pred)[None], labels, 4, dilation=steps)[0]
    np.testing.assert_array_equal(counts, expected)


def test_what_an_ignored_pixel_is_predicted_as_does_not_matter():
    pred, target = (torch.from_numpy(m)[None] for m in random_maps(5, 3))
    target[:, 4:9, 3:8] = 255
    other = pred.clone()
    other[:, 4:9, 3:8] = (other[:, 4:9, 3:8] + 1) % 3
    for count in (metrics.boundary_matches, metrics.boundary_overlap):
        assert torch.equal(count(pred, target, 3), count(other, target, 3))


def test_absent_classes_follow_the_policy():
    plane = torch.zeros(1, 8, 8, dtype=torch.long)
    plane[:, 2:5, 2:5] = 1
    f1, iou = metrics.boundary_matches(plane, plane, 3), metrics.boundary_overlap(plane, plane, 3)
    for policy, value in (("nan", math.nan), ("one", 1.0), ("zero", 0.0)):
        for scores in (metrics.boundary_f1(f1, policy), metrics.boundary_iou(iou, policy)):
            np.testing.assert_array_equal(scores[0], [1.0, 1.0, value])
    with pytest.raises(ValueError, match="absent is 'skip'"):
        metrics.boundary_f1(f1, "skip")


@pytest.mark.parametrize("kind", [metrics.BoundaryF1, metrics.BoundaryIoU])
def test_sums_over_batches_are_the_sum_over_images(kind):
    pred, target = random_maps(6, 3)
    other_pred, other_target = random_maps(7, 3)
    total = kind(3)
    total.update(torch.from_numpy(pred)[None], torch.from_numpy(target)[None])
    total.update(torch.from_numpy(other_pred)[None], torch.from_numpy(other_target)[None])
    once = kind(3)
    once.update(torch.from_numpy(np.stack([pred, other_pred])), torch.from_numpy(np.stack([target, other_target])))
    assert torch.equal(total.compute(), once.compute())
    assert not total.state_dict()
    total.reset()
    assert total.compute().isnan().all()


def test_bad_input():
    plane = torch.zeros(1, 4, 4, dtype=torch.long)
    for tolerance in (0, -1, math.nan, True, "2"):
        with pytest.raises(ValueError, match=r"tolerance is .*; allowed: pixels"):
            metrics.boundary_matches(plane, plane, 2, tolerance=tolerance)
        with pytest.raises(ValueError, match=r"dilation is .*; allowed: pixels"):
            metrics.boundary_overlap(plane, plane, 2, dilation=tolerance)
    with pytest.raises(ValueError, match=r"target has shape \(1, 4, 4, 4\); allowed: \(N, H, W\)"):
        metrics.boundary_matches(torch.zeros(1, 4, 4, 4).long(), torch.zeros(1, 4, 4, 4).long(), 2)
    with pytest.raises(ValueError, match=r"target holds class indices outside the classes: 7 \(16 pixels\)"):
        metrics.boundary_matches(plane, plane + 7, 2)
    with pytest.raises(ValueError, match=r"allowed: counts \(\.\.\., C, 4\) of boundary_matches"):
        metrics.boundary_f1(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"allowed: counts \(\.\.\., C, 3\) of boundary_overlap"):
        metrics.boundary_iou(torch.zeros(3, 4))
