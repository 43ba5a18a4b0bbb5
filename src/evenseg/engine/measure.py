"""What every image adds to the scores of a data set: the one place where training and `evaluate` measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evenseg import metrics
from evenseg.config import EvaluationSection
from evenseg.data import Classes, Sample
from evenseg.engine.inference import Predictor

# (outputs, mask, image) of a window at the size of the mask -> its loss
ImageLoss = Callable[[Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ImageCounts:
    """Counts of one image, on the CPU; those of a data set are their sums. C classes, K bins.

    Attributes:
        matrix: confusion matrix (C, C), [target, prediction].
        loss: of the image, None where none was asked for.
        boundary: `metrics.boundary_matches`, (C, 4); None, as what follows, where only the matrix was asked for.
        bands: `metrics.boundary_overlap`, (C, 3).
        calibration: `metrics.calibration_sums`, (K, 3).
        class_calibration: the same for each class, (C, K, 3).
    """

    matrix: Tensor
    loss: float | None = None
    boundary: Tensor | None = None
    bands: Tensor | None = None
    calibration: Tensor | None = None
    class_calibration: Tensor | None = None


class ImageMeter:
    """Measures whole images, one at a time: the means over images need every image's own numbers.

    Args:
        classes: of the data set.
        settings: the `evaluation` section.
        in_full: boundaries and calibration too, which cost about as much again as a small network.
    """

    def __init__(self, classes: Classes, settings: EvaluationSection | None = None, *, in_full: bool = False) -> None:
        self.classes, self.settings, self.in_full = classes, settings or EvaluationSection(), in_full

    def measure(
        self, model: nn.Module, batch: Sample, loss: ImageLoss | None = None
    ) -> dict[int, ImageCounts]:
        """Returns the counts of the images of a batch, by their number in the data set.

        With windows, the loss of an image is the mean over its windows, weighted by their pixels that are not ignored.
        """
        predictor = Predictor(model, self.settings)
        pairs = torch.as_tensor(batch.pair).reshape(-1).tolist()
        return {
            pair: self._measure_one(predictor, image[None], mask[None], loss)
            for pair, image, mask in zip(pairs, batch.image, batch.mask, strict=True)
        }

    def _measure_one(
        self, predictor: Predictor, image_1CHW: Tensor, mask_1HW: Tensor, loss: ImageLoss | None
    ) -> ImageCounts:
        losses: list[tuple[float, int]] = []

        def add_loss(outputs: Any, top: int, left: int, height: int, width: int) -> None:
            assert loss is not None
            place = (..., slice(top, top + height), slice(left, left + width))
            window = mask_1HW[place]
            valid = int((window != self.classes.ignore_index).sum())
            losses.append((float(loss(outputs, window, image_1CHW[place])), valid))

        probs = predictor.probabilities(image_1CHW, None if loss is None else add_loss)
        prediction = probs.argmax(1)
        classes, ignore_index = self.classes.num_classes, self.classes.ignore_index
        matrix = metrics.confusion_matrix(prediction, mask_1HW, classes, ignore_index).cpu()
        if not self.in_full:
            return ImageCounts(matrix, _weighted_mean(losses))
        s = self.settings
        counts = (
            metrics.boundary_matches(prediction, mask_1HW, classes, ignore_index, tolerance=s.boundary_tolerance),
            metrics.boundary_overlap(prediction, mask_1HW, classes, ignore_index, dilation=s.boundary_width),
            metrics.calibration_sums(probs, mask_1HW, ignore_index, bins=s.calibration_bins),
            metrics.calibration_sums(probs, mask_1HW, ignore_index, bins=s.calibration_bins, classwise=True),
        )
        return ImageCounts(matrix, _weighted_mean(losses), *(count[0].cpu() for count in counts))


def _weighted_mean(losses: list[tuple[float, int]]) -> float | None:
    if not losses:
        return None
    if len(losses) == 1:
        return losses[0][0]
    total = sum(weight for _, weight in losses)
    return sum(value * weight for value, weight in losses) / total if total else 0.0
