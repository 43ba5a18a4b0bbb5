import math

import numpy as np
import pytest

import evenseg
from evenseg.data import FolderDataset
from evenseg.data.class_statistics import (
    ClassStatistics,
    SplitStatistics,
    effective_number_weights,
    inverse_log_weights,
    median_frequency_weights,
    split_statistics,
    suggest,
)
from evenseg.data.diagnosis import scan


def split(shares, image_shares=None, ignored=0.0):
    image_shares = image_shares or [1.0] * len(shares)
    classes = tuple(
        ClassStatistics(f"c{i}", round(1e6 * share), share, 100, there, 1, 10.0, 1.0)
        for i, (share, there) in enumerate(zip(shares, image_shares, strict=True))
    )
    return SplitStatistics("train_dataset", 100, ignored, {(10, 10): 100}, classes, ())


def test_shares_and_objects_by_hand(make_folder):
    one = np.zeros((40, 50), np.uint8)
    one[0:2, 0:3] = 1
    one[10:12, 10] = 1
    one[39] = 255
    two = np.zeros((60, 50), np.uint8)
    root = make_folder({"train": {"a": one, "b": two}})
    found = split_statistics(scan(FolderDataset(str(root)), "train_dataset", thorough=False, objects=True))
    ground, crack = found.classes
    labelled = 39 * 50 + 60 * 50
    assert (found.images, found.sizes) == (2, {(40, 50): 1, (60, 50): 1})
    assert found.ignored_share == pytest.approx(50 / (labelled + 50))
    assert (crack.pixels, crack.images, crack.image_share) == (8, 1, 0.5)
    assert crack.share == pytest.approx(8 / labelled)
    assert (crack.objects, crack.median_area, crack.small_objects) == (2, 4.0, 1.0)
    assert found.areas[1].tolist() == [2, 6]
    assert (ground.objects, ground.small_objects) == (2, 0.0)
    assert found.areas[0].tolist() == [39 * 50 - 8, 3000]


def test_objects_are_counted_after_the_label_map(make_folder):
    mask = np.zeros((8, 8), np.uint8)
    mask[2, 2], mask[2, 3] = 5, 6
    root = make_folder({"train": {"a": mask}})
    seen = scan(FolderDataset(str(root), label_map={5: 1, 6: 1}), "train_dataset", thorough=False, objects=True)
    assert split_statistics(seen).areas[1].tolist() == [2]


COUNTS = np.array([[80, 20, 0], [60, 0, 40], [100, 0, 0]])


def test_median_frequency_by_hand():
    # f = 240/300, 20/100, 40/100; their median is 0.4
    assert median_frequency_weights(COUNTS) == pytest.approx([0.5, 2.0, 1.0])


def test_inverse_log_by_hand():
    expected = [1 / math.log(1.02 + share) for share in (0.8, 20 / 300, 40 / 300)]
    assert inverse_log_weights(COUNTS) == pytest.approx(expected)


def test_effective_number_by_hand():
    beta = 99 / 100  # N = 300 / 3
    raw = [(1 - beta) / (1 - beta**n) for n in (240, 20, 40)]
    assert effective_number_weights(COUNTS) == pytest.approx([3 * w / sum(raw) for w in raw])


def test_effective_number_does_not_depend_on_the_resolution():
    counts = COUNTS * 10_000
    np.testing.assert_allclose(effective_number_weights(counts), effective_number_weights(counts * 16), rtol=1e-5)


@pytest.mark.parametrize("rule", [median_frequency_weights, inverse_log_weights, effective_number_weights])
def test_a_class_without_a_pixel_has_no_weight(rule):
    weights = rule(np.array([[9, 0, 1]]))
    assert weights[1] is None
    assert weights[2] > weights[0] > 0


@pytest.mark.parametrize(
    ("statistics", "kind", "sampler", "reason"),
    [
        (split([0.955, 0.045]), "LovaszHingeLoss", None, "c1 has 4.5 % of the pixels"),
        (split([0.6, 0.4]), "CrossEntropyLoss", None, "about even"),
        (split([0.999, 0.001], [1, 0.2]), "LovaszHingeLoss", "Equibatch", "c1 is in 20.0 % of the images only"),
        (split([0.7, 0.29, 0.01]), "LovaszSoftmaxLoss", None, "c0 has 70 times the pixels of c2 (1.0 %)"),
        (split([0.7, 0.29, 0.01], [1, 1, 0.1]), "LovaszSoftmaxLoss", "Equibatch", "Equibatch lets every class"),
        (split([0.4, 0.3, 0.3]), "CrossEntropyLoss", None, "about even"),
        (split([0.9, 0.1], ignored=0.97), "CrossEntropyLoss", None, "Only 3.0 % of the pixels are labelled"),
        (split([0.7, 0.3, 0.0]), "CrossEntropyLoss", None, "about even (the smallest, c1, has 30.0 %)"),
        (split([0.7, 0.3, 0.0]), "CrossEntropyLoss", None, "No training mask holds c2: no loss"),
        (split([1.0, 0.0]), "CrossEntropyLoss", None, "The training masks hold c0 only"),
        (split([1.0, 0.0, 0.0, 0.0, 0.0]), "CrossEntropyLoss", None, "No training mask holds c1, c2, c3 and 1 more: no loss"),
    ],
)
@pytest.mark.parametrize("num_outputs", [1, 2])
def test_suggestions(statistics, kind, sampler, reason, num_outputs):
    import torch

    found = suggest(statistics, num_outputs)
    assert kind in str(found.loss)
    assert (found.sampler or {}).get("type") == sampler
    assert reason in found.reason
    loss = evenseg.build_loss(found.loss, num_classes=len(statistics.classes))
    outputs = [torch.randn(1, len(statistics.classes), 4, 4) for _ in range(num_outputs)]
    assert loss(outputs, torch.zeros(1, 4, 4, dtype=torch.uint8)) > 0
