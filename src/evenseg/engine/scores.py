"""From confusion matrices to one row of metrics."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from evenseg import metrics


def score_row(matrices_NCC: Tensor) -> dict[str, Any]:
    """Returns the metrics of a data set as fractions in 0..1, None where a class is absent.

    Args:
        matrices_NCC: confusion matrix of each image, (N, C, C) integer, [target, prediction].
    """
    total = matrices_NCC.sum(0)
    dice = metrics.dice(total)
    per_image = metrics.per_image_mean_iou(matrices_NCC)
    return {
        "miou": number(metrics.mean_iou(total)),
        "iou": numbers(metrics.iou(total)),
        "per_image_miou": number(per_image.nanmean()),
        "accuracy": number(metrics.pixel_accuracy(total)),
        "mean_accuracy": number(metrics.mean_accuracy(total)),
        "mean_dice": number(dice.nanmean()),
    }


def number(value: Tensor | float) -> float | None:
    """Returns a float, None for nan: JSON knows no nan."""
    plain = float(value)
    return None if math.isnan(plain) else plain


def numbers(values: Tensor) -> list[float | None]:
    return [number(value) for value in values.tolist()]
