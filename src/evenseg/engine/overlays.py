"""A few validation images with target and prediction, as pictures any viewer opens."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evenseg import metrics
from evenseg.data import Classes, EvaluationSamples
from evenseg.engine.files import write_json
from evenseg.engine.inference import Predictor
from evenseg.engine.pictures import as_rgb
from evenseg.engine.scores import number, numbers

IGNORE_COLOR = (128, 128, 128)


def write_overlays(
    folder: Path,
    predictor: Predictor,
    samples: EvaluationSamples,
    count: int = 4,
    names: Collection[str] | None = None,
) -> None:
    """Writes NAME_image.png, NAME_target.png, NAME_prediction.png and NAME.json of a few images.

    Target and prediction are index images with the classes' colours as palette, or in these colours where an index exceeds
    255; ignored pixels stay marked in the target.

    Args:
        folder: to write into.
        predictor: of the run.
        samples: of the split.
        count: how many, evenly spaced.
        names: which ones, in place of `count`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = samples.dataset
    classes = dataset.classes
    model = predictor.model
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    chosen = sorted({round(place) for place in np.linspace(0, len(dataset) - 1, min(count, len(dataset)))})
    if names is not None:
        chosen = [index for index in range(len(dataset)) if dataset.name(index) in names]
    for index in chosen:
        sample = samples[index]
        if sample.unreadable:
            continue
        prediction = predictor.probabilities(sample.image[None].to(device)).argmax(1).cpu()
        matrix = metrics.confusion_matrix(
            prediction, sample.mask[None], classes.num_classes, ignore_index=classes.ignore_index
        )
        name = dataset.name(index)
        Image.fromarray(as_rgb(dataset.read_image(index))).save(folder / f"{name}_image.png")
        _save_indices(folder / f"{name}_target.png", dataset.read_mask(index), classes)
        _save_indices(folder / f"{name}_prediction.png", prediction[0].numpy(), classes)
        row = {"name": name, "iou": numbers(metrics.iou(matrix)), "miou": number(metrics.mean_iou(matrix))}
        write_json(folder / f"{name}.json", row)
    model.train(was_training)


def _save_indices(file: Path, indices: NDArray[Any], classes: Classes) -> None:
    palette = np.zeros((max(classes.num_classes, classes.ignore_index) + 1, 3), np.uint8)
    palette[: classes.num_classes] = classes.colors
    palette[classes.ignore_index] = IGNORE_COLOR
    if len(palette) > 256:  # more than a palette image holds
        Image.fromarray(palette[indices]).save(file)
        return
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(palette.tobytes())
    image.save(file)
