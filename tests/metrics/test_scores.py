"""Scores: hand-computed cases, an oracle on pixel sets, identities, absent classes, bad input."""

import math

import numpy as np
import pytest
import torch

from evenseg import metrics

# row = target, column = prediction; class 2 only predicted, class 3 nowhere, class 1 labelled and never right
HAND = torch.tensor([[6, 2, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
NAN = math.nan


def close(value, expected):
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value.numpy(), np.asarray(expected, dtype=np.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("function", "expected", "policy_classes"),
    [
        ("iou", [6 / 12, 0, 0, NAN], [3]),
        ("dice", [12 / 18, 0, 0, NAN], [3]),
        ("recall", [6 / 9, 0, NAN, NAN], [2, 3]),
        ("class_accuracy", [6 / 9, 0, NAN, NAN], [2, 3]),
        ("precision", [6 / 9, 0, 0, NAN], [3]),
    ],
)
def test_per_class_by_hand(function, expected, policy_classes):
    score = getattr(metrics, function)
    close(score(HAND), expected)
    for policy, fill in (("one", 1.0), ("zero", 0.0)):
        filled = [fill if c in policy_classes else value for c, value in enumerate(expected)]
        close(score(HAND, policy), filled)


@pytest.mark.parametrize(
    ("function", "nan", "one", "zero"),
    [
        ("mean_iou", 0.5 / 3, 1.5 / 4, 0.5 / 4),
        ("mean_dice", (2 / 3) / 3, (5 / 3) / 4, (2 / 3) / 4),
        ("mean_accuracy", (2 / 3) / 2, (8 / 3) / 4, (2 / 3) / 4),
    ],
)
def test_means_by_hand(function, nan, one, zero):
    score = getattr(metrics, function)
    close(score(HAND), nan)
    close(score(HAND, "one"), one)
    close(score(HAND, "zero"), zero)


def test_accuracies_by_hand():
    close(metrics.pixel_accuracy(HAND), 6 / 12)
    close(metrics.frequency_weighted_iou(HAND), (9 * 0.5 + 3 * 0) / 12)


def test_never_predicted_class_has_no_precision_but_a_recall():
    cm = torch.tensor([[4, 0], [3, 0]])
    close(metrics.precision(cm), [4 / 7, NAN])
    close(metrics.recall(cm), [1, 0])
    close(metrics.iou(cm), [4 / 7, 0])


def test_per_image_mean_iou_by_hand():
    perfect, half, ignored = [[3, 0], [0, 5]], [[2, 0], [2, 0]], [[0, 0], [0, 0]]
    only_background = [[9, 0], [0, 0]]
    close(metrics.per_image_mean_iou(torch.tensor([perfect, half, ignored])), (1 + 0.25) / 2)
    close(metrics.per_image_mean_iou(torch.tensor([only_background, half])), (1 + 0.25) / 2)
    close(metrics.per_image_mean_iou(torch.tensor([only_background, half]), "zero"), (0.5 + 0.25) / 2)
    close(metrics.per_image_mean_iou(torch.tensor([perfect, ignored]), "one"), 1)
    close(metrics.per_image_mean_iou(torch.tensor([ignored])), NAN)
    close(metrics.per_image_mean_iou(torch.zeros(0, 2, 2, dtype=torch.int64)), NAN)


def test_nothing_labelled():
    empty = torch.zeros(3, 3, dtype=torch.int64)
    for function in ("mean_iou", "mean_dice", "mean_accuracy"):
        close(getattr(metrics, function)(empty), NAN)
        close(getattr(metrics, function)(empty, "one"), 1)
        close(getattr(metrics, function)(empty, "zero"), 0)
    close(metrics.pixel_accuracy(empty), NAN)
    close(metrics.frequency_weighted_iou(empty), NAN)


def sets_of_pixels(seed):
    rng = np.random.default_rng(seed)
    target, pred = rng.integers(0, 5, (4, 30)), rng.integers(0, 5, (4, 30))
    target[target == 3] = 0  # class 3 is only predicted
    target[:, :6] = 255
    return target, pred


@pytest.mark.parametrize("seed", range(3))
def test_against_sets_of_pixels(seed):
    """The oracle intersects sets of pixel positions; it knows no confusion matrix."""
    target, pred = sets_of_pixels(seed)
    cm = metrics.confusion_matrix(torch.from_numpy(pred), torch.from_numpy(target), 5)
    valid = {i for i, t in enumerate(target.ravel()) if t != 255}
    for c in range(5):
        in_target = {i for i in valid if target.ravel()[i] == c}
        in_pred = {i for i in valid if pred.ravel()[i] == c}
        both = len(in_target & in_pred)
        assert metrics.iou(cm)[c].item() == pytest.approx(both / len(in_target | in_pred))
        assert metrics.dice(cm)[c].item() == pytest.approx(2 * both / (len(in_target) + len(in_pred)))
        assert metrics.precision(cm)[c].item() == pytest.approx(both / len(in_pred))
        expected = both / len(in_target) if in_target else NAN
        assert metrics.recall(cm)[c].item() == pytest.approx(expected, nan_ok=True)


def test_identities():
    target, pred = sets_of_pixels(7)
    cm = metrics.confusion_matrix(torch.from_numpy(pred), torch.from_numpy(target), 5)
    iou, dice = metrics.iou(cm), metrics.dice(cm)
    torch.testing.assert_close(dice, 2 * iou / (1 + iou))
    p, r = metrics.precision(cm, "zero"), metrics.recall(cm, "zero")
    torch.testing.assert_close(dice[:3], (2 * p * r / (p + r))[:3])
    torch.testing.assert_close(metrics.precision(cm), metrics.recall(cm.T))
    torch.testing.assert_close(metrics.iou(cm), metrics.iou(cm.T))
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(metrics.iou(cm[order][:, order]), iou[order])
    torch.testing.assert_close(metrics.mean_iou(torch.eye(4) * 3), torch.tensor(1.0, dtype=torch.float64))


def test_a_stack_of_matrices_gives_a_stack_of_scores():
    stack = torch.stack([HAND, HAND.T, 2 * HAND]).reshape(3, 1, 4, 4)
    for function in ("iou", "dice", "precision", "recall", "mean_iou", "pixel_accuracy", "frequency_weighted_iou"):
        score = getattr(metrics, function)
        one_by_one = torch.stack([score(m[0])[None] for m in stack])
        torch.testing.assert_close(score(stack), one_by_one, equal_nan=True)


def test_big_counts_stay_exact():
    """2**53 + 1 + 1 is 2**53 when summed as float64: the sums must be taken as integers."""
    cm = torch.zeros(3, 3, dtype=torch.int64)
    cm[0] = torch.tensor([2**53, 1, 1])
    assert metrics.recall(cm)[0].item() == 2**53 / (2**53 + 2) < 1
    wide = torch.tensor([[200, 100], [0, 0]], dtype=torch.uint8)
    assert metrics.recall(wide)[0].item() == pytest.approx(200 / 300), "uint8 must not wrap around at 256"
    half = torch.tensor([[3000, 1], [0, 1]], dtype=torch.float16)
    assert metrics.recall(half)[0].item() == 3000 / 3001


@pytest.mark.parametrize("function", ["iou", "mean_iou", "dice", "mean_dice", "precision", "recall", "mean_accuracy"])
def test_unknown_policy(function):
    with pytest.raises(ValueError, match="absent is 'skip'; allowed: 'nan', 'one', 'zero'"):
        getattr(metrics, function)(HAND, "skip")


@pytest.mark.parametrize(
    ("cm", "message"),
    [
        (torch.zeros(3, 2), r"shape \(3, 2\); allowed: \(..., C, C\)"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.zeros(0, 0), r"shape \(0, 0\)"),
        (torch.tensor([[1, -1], [0, 1]]), "negative counts"),
        (torch.tensor([[1.0, NAN], [0, 1]]), "negative counts or NaN"),
        (torch.ones(2, 2, dtype=torch.bool), "cm is torch.bool"),
        ([[1, 0], [0, 1]], "cm is a list; allowed: a torch.Tensor"),
    ],
)
def test_what_is_no_confusion_matrix(cm, message):
    for function in ("iou", "pixel_accuracy", "frequency_weighted_iou", "precision"):
        with pytest.raises(ValueError, match=message):
            getattr(metrics, function)(cm)


def test_per_image_needs_one_matrix_for_each_image():
    with pytest.raises(ValueError, match=r"shape \(4, 4\); allowed: \(N, C, C\)"):
        metrics.per_image_mean_iou(HAND)
