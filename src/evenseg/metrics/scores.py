"""Scores as pure functions of confusion matrices.

With TP, FP, FN the true positive, false positive and false negative pixels of a class in a matrix `cm` (row = target,
column = prediction):

    labelled = TP + FN (row sum)    predicted = TP + FP (column sum)    union = TP + FP + FN

All functions take counts (..., C, C) and work on the last two dimensions, so that a stack of matrices (per image, per
seed) gives a stack of scores; all return float64.

**Absent classes.** Where the denominator of a class is 0 its score is undefined, and `absent` decides:
"nan" (default): NaN per class, left out of means; "one": 1; "zero": 0, and both count in means.
What makes a class absent is its own denominator:

    iou, dice               neither labelled nor predicted (a class that is only predicted scores 0 everywhere)
    class_accuracy, recall  not labelled (its wrongly predicted pixels lower other classes' recall, and its IoU)
    precision               not predicted

Where nothing at all is labelled, means over no class, pixel accuracy and frequency-weighted IoU are NaN.

Shape suffixes: N images, C classes.
"""

import torch
from torch import Tensor

ABSENT_POLICIES = ("nan", "one", "zero")
_FILL = {"nan": float("nan"), "one": 1.0, "zero": 0.0}


def iou(cm: Tensor, absent: str = "nan") -> Tensor:
    """Intersection over union (Jaccard index) of each class.

        IoU_c = TP_c / (TP_c + FP_c + FN_c)

    Args:
        cm: counts (..., C, C), row = target, column = prediction.
        absent: score of a class neither labelled nor predicted: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.

    Example:
        >>> import torch
        >>> iou(torch.tensor([[3, 1], [2, 4]]))
        tensor([0.5000, 0.5714], dtype=torch.float64)
    """
    tp, labelled, predicted = _counts(cm, absent)
    return ratio(tp, labelled + predicted - tp, absent)


def mean_iou(cm: Tensor, absent: str = "nan") -> Tensor:
    """Mean of `iou` over the classes (mIoU).

    On the summed matrix of a data set this is the mIoU of benchmarks, which is not the mean over images or batches.

    Args:
        cm: counts (..., C, C).
        absent: as in `iou`; with "nan" absent classes are left out.

    Returns:
        float64 (...,); NaN where no class is left.

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    return iou(cm, absent).nanmean(dim=-1)


def per_image_mean_iou(cms_NCC: Tensor, absent: str = "nan") -> Tensor:
    """Mean over images of each image's mean IoU.

    Here `absent` speaks of the classes of one image. An image without a labelled pixel is left out of the mean.

    Args:
        cms_NCC: one matrix of counts per image (N, C, C), as `confusion_matrix(..., per_image=True)` gives.
        absent: as in `iou`, for each image.

    Returns:
        float64 scalar; NaN where no image is left.

    Raises:
        ValueError: not a stack of confusion matrices, or an unknown `absent`.
    """
    if isinstance(cms_NCC, Tensor) and cms_NCC.ndim != 3:
        raise ValueError(f"cms_NCC has shape {tuple(cms_NCC.shape)}; allowed: (N, C, C), one matrix for each image")
    scores_N = mean_iou(cms_NCC, absent)
    return scores_N[cms_NCC.sum(dim=(-2, -1)) > 0].mean()


def pixel_accuracy(cm: Tensor) -> Tensor:
    """Fraction of the labelled pixels that are predicted right.

        sum_c TP_c / sum_c (TP_c + FN_c)

    Args:
        cm: counts (..., C, C).

    Returns:
        float64 (...,); NaN where nothing is labelled.

    Raises:
        ValueError: not a confusion matrix.
    """
    tp, labelled, _ = _counts(cm)
    return ratio(tp.sum(-1), labelled.sum(-1), "nan")


def class_accuracy(cm: Tensor, absent: str = "nan") -> Tensor:
    """Fraction of each class' labelled pixels that are predicted right; the same number as `recall`.

    Args:
        cm: counts (..., C, C).
        absent: score of a class that is not labelled: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    return recall(cm, absent)


def mean_accuracy(cm: Tensor, absent: str = "nan") -> Tensor:
    """Mean of `class_accuracy` over the classes (balanced accuracy).

    Args:
        cm: counts (..., C, C).
        absent: as in `class_accuracy`; with "nan" classes that are not labelled are left out.

    Returns:
        float64 (...,); NaN where no class is left.

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    return class_accuracy(cm, absent).nanmean(dim=-1)


def frequency_weighted_iou(cm: Tensor) -> Tensor:
    """IoU of the classes weighted by their share of the labelled pixels.

        sum_c labelled_c * IoU_c / sum_c labelled_c

    A class that is not labelled has no weight, so there is nothing for a policy to decide.

    Args:
        cm: counts (..., C, C).

    Returns:
        float64 (...,); NaN where nothing is labelled.

    Raises:
        ValueError: not a confusion matrix.
    """
    _, labelled, _ = _counts(cm)
    return ratio((labelled * iou(cm, "zero")).sum(-1), labelled.sum(-1), "nan")


def dice(cm: Tensor, absent: str = "nan") -> Tensor:
    """Dice coefficient (F1 score) of each class.

        Dice_c = 2 TP_c / (2 TP_c + FP_c + FN_c) = 2 IoU_c / (1 + IoU_c)

    Args:
        cm: counts (..., C, C).
        absent: score of a class neither labelled nor predicted: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    tp, labelled, predicted = _counts(cm, absent)
    return ratio(2 * tp, labelled + predicted, absent)


def mean_dice(cm: Tensor, absent: str = "nan") -> Tensor:
    """Mean of `dice` over the classes.

    Args:
        cm: counts (..., C, C).
        absent: as in `dice`; with "nan" absent classes are left out.

    Returns:
        float64 (...,); NaN where no class is left.

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    return dice(cm, absent).nanmean(dim=-1)


def precision(cm: Tensor, absent: str = "nan") -> Tensor:
    """Fraction of the pixels predicted as a class that belong to it.

        precision_c = TP_c / (TP_c + FP_c)

    Args:
        cm: counts (..., C, C).
        absent: score of a class that is never predicted: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    tp, _, predicted = _counts(cm, absent)
    return ratio(tp, predicted, absent)


def recall(cm: Tensor, absent: str = "nan") -> Tensor:
    """Fraction of a class' labelled pixels that are predicted as it.

        recall_c = TP_c / (TP_c + FN_c)

    Args:
        cm: counts (..., C, C).
        absent: score of a class that is not labelled: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not a confusion matrix, or an unknown `absent`.
    """
    tp, labelled, _ = _counts(cm, absent)
    return ratio(tp, labelled, absent)


def _counts(cm: Tensor, absent: str = "nan") -> tuple[Tensor, Tensor, Tensor]:
    """Check the arguments; return TP, labelled and predicted pixels of each class, (..., C) float64."""
    fill_value(absent)
    if not isinstance(cm, Tensor):
        raise ValueError(f"cm is a {type(cm).__name__}; allowed: a torch.Tensor of counts (..., C, C)")
    if cm.ndim < 2 or cm.shape[-1] != cm.shape[-2] or cm.shape[-1] == 0:
        raise ValueError(f"cm has shape {tuple(cm.shape)}; allowed: (..., C, C), row = target, column = prediction")
    if cm.dtype == torch.bool or cm.dtype.is_complex:
        raise ValueError(f"cm is {cm.dtype}; allowed: integer or real counts")
    # `not all >= 0` and not `any < 0`, so that NaN is caught too
    if not bool((cm >= 0).all()):
        raise ValueError("cm holds negative counts or NaN; allowed: counts of pixels, 0 or more")
    # Integers are summed as int64 first: exact whatever their size
    cm = cm.to(torch.float64) if cm.is_floating_point() else cm.to(torch.int64)
    tp, labelled, predicted = cm.diagonal(dim1=-2, dim2=-1), cm.sum(-1), cm.sum(-2)
    return tp.to(torch.float64), labelled.to(torch.float64), predicted.to(torch.float64)


def fill_value(absent: str) -> float:
    """Return the score of an absent class under a policy."""
    if absent not in ABSENT_POLICIES:
        raise ValueError(f"absent is {absent!r}; allowed: " + ", ".join(map(repr, ABSENT_POLICIES)))
    return _FILL[absent]


def ratio(numerator: Tensor, denominator: Tensor, absent: str) -> Tensor:
    """Return numerator / denominator, and what `absent` says where the denominator is 0."""
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1.0)).masked_fill(empty, fill_value(absent))
