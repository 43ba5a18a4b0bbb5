"""Confusion matrices and the scores computed from them.

Two steps, as in every exact data-set metric: pixels are counted into a confusion matrix (`confusion_matrix`, or
`ConfusionMatrix` over many batches), and pure functions turn the counts into numbers (`iou`, `mean_iou`, ...).
"""

from evenseg.metrics.confusion import ConfusionMatrix, confusion_matrix
from evenseg.metrics.scores import (
    ABSENT_POLICIES,
    class_accuracy,
    dice,
    frequency_weighted_iou,
    iou,
    mean_accuracy,
    mean_dice,
    mean_iou,
    per_image_mean_iou,
    pixel_accuracy,
    precision,
    recall,
)

__all__ = [
    "ABSENT_POLICIES",
    "ConfusionMatrix",
    "class_accuracy",
    "confusion_matrix",
    "dice",
    "frequency_weighted_iou",
    "iou",
    "mean_accuracy",
    "mean_dice",
    "mean_iou",
    "per_image_mean_iou",
    "pixel_accuracy",
    "precision",
    "recall",
]
