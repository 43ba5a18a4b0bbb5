"""From the counts of images to rows of metrics; fractions in 0..1, None where a class is absent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from evenseg import metrics
from evenseg.engine.measure import ImageCounts


def score_row(images: Sequence[ImageCounts]) -> dict[str, Any]:
    """Returns what every validation measures; `loss` is the mean over the images, None without a loss."""
    matrices_NCC = torch.stack([image.matrix for image in images])
    total = matrices_NCC.sum(0)
    losses = [image.loss for image in images if image.loss is not None]
    return {
        "loss": fmean(losses) if losses else None,
        "miou": number(metrics.mean_iou(total)),
        "iou": numbers(metrics.iou(total)),
        "per_image_miou": number(metrics.per_image_mean_iou(matrices_NCC)),
        "accuracy": number(metrics.pixel_accuracy(total)),
        "mean_accuracy": number(metrics.mean_accuracy(total)),
        "mean_dice": number(metrics.mean_dice(total)),
    }


def full_row(images: Sequence[ImageCounts]) -> dict[str, Any]:
    """Returns everything that an evaluation measures, from images measured in full.

    Scores of classes are lists in the order of the classes. `boundary_f1` and `boundary_iou` come from counts summed over
    the data set, as `iou` does; those of `per_image_` are means over images of the mean over classes.
    """
    total = _stack(images, "matrix").sum(0)
    boundary_NC4, bands_NC3 = _stack(images, "boundary"), _stack(images, "bands")
    calibration_K3 = _stack(images, "calibration").sum(0)
    class_errors = metrics.calibration_error(_stack(images, "class_calibration").sum(0))
    boundary_f1 = metrics.boundary_f1(boundary_NC4.sum(0))
    boundary_iou = metrics.boundary_iou(bands_NC3.sum(0))
    count, confidence, accuracy = metrics.reliability_curve(calibration_K3)
    return score_row(images) | {
        "frequency_weighted_iou": number(metrics.frequency_weighted_iou(total)),
        "dice": numbers(metrics.dice(total)),
        "precision": numbers(metrics.precision(total)),
        "recall": numbers(metrics.recall(total)),
        "boundary_f1": numbers(boundary_f1),
        "mean_boundary_f1": number(boundary_f1.nanmean()),
        "per_image_boundary_f1": number(metrics.boundary_f1(boundary_NC4).nanmean(-1).nanmean()),
        "boundary_iou": numbers(boundary_iou),
        "mean_boundary_iou": number(boundary_iou.nanmean()),
        "per_image_boundary_iou": number(metrics.boundary_iou(bands_NC3).nanmean(-1).nanmean()),
        "calibration": {
            "ece": number(metrics.calibration_error(calibration_K3)),
            "mce": number(metrics.calibration_error(calibration_K3, "max")),
            "class_ece": numbers(class_errors),
            "mean_class_ece": number(class_errors.nanmean()),
            "bins": {
                "pixels": [int(pixels) for pixels in count.tolist()],
                "confidence": numbers(confidence),
                "accuracy": numbers(accuracy),
            },
        },
        "confusion": total.tolist(),
    }


def image_row(image: ImageCounts) -> dict[str, Any]:
    """Returns the scores of one image."""
    iou = metrics.iou(image.matrix)
    row: dict[str, Any] = {
        "miou": number(iou.nanmean()),
        "accuracy": number(metrics.pixel_accuracy(image.matrix)),
        "iou": numbers(iou),
    }
    if image.boundary is not None:
        row["boundary_f1"] = number(metrics.boundary_f1(image.boundary).nanmean())
    return row


def number(value: Tensor | float) -> float | None:
    """Returns a float, None for nan: JSON knows no nan."""
    plain = float(value)
    return None if math.isnan(plain) else plain


def numbers(values: Tensor) -> list[float | None]:
    return [number(value) for value in values.tolist()]


def _stack(images: Sequence[ImageCounts], name: str) -> Tensor:
    return torch.stack([getattr(image, name) for image in images])
