"""Confusion matrices, boundaries, calibration, and the scores computed from them.

Two steps, as in every exact data-set metric: pixels are counted (`confusion_matrix`, `boundary_matches`,
`boundary_overlap`, `calibration_sums`, or a class that adds the counts of many batches and ranks), and pure functions turn
the counts into numbers (`iou`, `mean_iou`, `boundary_f1`, `calibration_error`, ...).
"""

from evenseg.metrics.boundary import (
    BoundaryF1,
    BoundaryIoU,
    boundary_f1,
    boundary_iou,
    boundary_matches,
    boundary_overlap,
)
from evenseg.metrics.calibration import Calibration, calibration_error, calibration_sums, reliability_curve
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
    "BoundaryF1",
    "BoundaryIoU",
    "Calibration",
    "ConfusionMatrix",
    "boundary_f1",
    "boundary_iou",
    "boundary_matches",
    "boundary_overlap",
    "calibration_error",
    "calibration_sums",
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
    "reliability_curve",
]
