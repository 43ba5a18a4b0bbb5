"""How uneven the classes of a data set are, the class weights that follow, and a loss section to begin with.

Legend: C classes. A share is a part of the labelled pixels, ignored ones left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenseg.data.diagnosis import Scan

# COCO calls objects below 32 x 32 pixels small
SMALL_OBJECT = 32 * 32
_EVEN = 10  # largest to smallest share, below which classes count as even
_EVEN_FOREGROUND = 0.25
_SPARSE = 0.5  # labelled part of the pixels, below which labels count as scribbles
_RARE_IN_IMAGES = 0.5
_MOST_NAMES = 3


@dataclass(frozen=True)
class ClassStatistics:
    """One class in one split.

    Attributes:
        name: of the class.
        pixels: number of its pixels.
        share: part of the labelled pixels; 0 where there are none.
        images: number of images that hold it.
        image_share: part of all images.
        objects: number of its connected components.
        median_area: of these, in pixels; None without any.
        small_objects: part of the objects below 32 x 32 pixels; None without any.
    """

    name: str
    pixels: int
    share: float
    images: int
    image_share: float
    objects: int
    median_area: float | None
    small_objects: float | None


@dataclass(frozen=True)
class SplitStatistics:
    """One split.

    Attributes:
        section: key path of its section.
        images: number of pairs.
        ignored_share: ignored part of all pixels.
        sizes: number of images of every (height, width).
        classes: one entry per class.
        areas: areas of every class's objects in pixels, sorted.
    """

    section: str
    images: int
    ignored_share: float
    sizes: dict[tuple[int, int], int]
    classes: tuple[ClassStatistics, ...]
    areas: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class Suggestion:
    """What to begin with.

    Attributes:
        loss: a loss section.
        sampler: a sampler section, where one may help.
        reason: why, in a sentence.
    """

    loss: dict[str, Any]
    sampler: dict[str, Any] | None
    reason: str


def split_statistics(seen: Scan) -> SplitStatistics:
    """Returns the statistics of a scan that has counted objects."""
    counts = seen.class_counts
    labelled, ignored = int(counts.sum()), int(seen.ignored.sum())
    used = sum(bool(record.labels) for record in seen.records)
    areas = _areas(seen)
    classes = []
    for label, name in enumerate(seen.classes.names):
        objects = areas[label]
        images = int((counts[:, label] > 0).sum())
        classes.append(
            ClassStatistics(
                name,
                int(counts[:, label].sum()),
                float(counts[:, label].sum() / labelled) if labelled else 0.0,
                images,
                images / used if used else 0.0,
                len(objects),
                float(np.median(objects)) if len(objects) else None,
                float((objects < SMALL_OBJECT).mean()) if len(objects) else None,
            )
        )
    total = labelled + ignored
    return SplitStatistics(seen.section, used, ignored / total if total else 0.0, seen.sizes, tuple(classes), areas)


def _areas(seen: Scan) -> tuple[NDArray[np.int64], ...]:
    found: list[list[NDArray[np.int64]]] = [[] for _ in seen.classes.names]
    for record in seen.records:
        if record.objects is not None:
            labels, areas = record.objects
            for label in np.unique(labels).tolist():
                if label < len(found):
                    found[label].append(areas[labels == label])
    return tuple(np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64) for parts in found)


def median_frequency_weights(counts: NDArray[np.int64]) -> list[float | None]:
    """Median-frequency balancing: weight_c = median(f) / f_c, with f_c = pixels of c / labelled pixels of images with c.

    Args:
        counts: pixels of every class in every mask, (masks, C).

    Returns:
        One weight per class; None for a class without a pixel.

    Source: Eigen and Fergus, ICCV 2015, section 6.3.2.
    """
    pixels, labelled = counts.sum(axis=0), counts.sum(axis=1)
    around = ((counts > 0) * labelled[:, None]).sum(axis=0)
    frequency = np.divide(pixels, around, out=np.zeros(len(pixels)), where=around > 0)
    middle = np.median(frequency[frequency > 0]) if (frequency > 0).any() else 0.0
    return [float(middle / f) if f > 0 else None for f in frequency]


def inverse_log_weights(counts: NDArray[np.int64]) -> list[float | None]:
    """ENet's weights: weight_c = 1 / ln(1.02 + p_c), with p_c the share of c; between 1.4 and 50.5.

    Args, returns: see `median_frequency_weights`.

    Source: Paszke et al., ENet, 2016, section 5.2.
    """
    pixels = counts.sum(axis=0)
    return [1 / math.log(1.02 + n / pixels.sum()) if n > 0 else None for n in pixels.tolist()]


def effective_number_weights(counts: NDArray[np.int64]) -> list[float | None]:
    """Class-balanced weights: weight_c = (1 - beta) / (1 - beta^n_c), scaled to a mean of 1.

    n_c is the number of pixels of c, and beta = (N - 1) / N with N = all labelled pixels / C, the pixels of a fair share: the
    paper leaves N open, and with this one the weights do not change with the resolution. Classes well below their fair
    share get about 1 / n_c, those above it are damped.

    Args, returns: see `median_frequency_weights`.

    Source: Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, eq. 2 and 5.
    """
    pixels = counts.sum(axis=0).astype(float)
    present = pixels > 0
    if not present.any():
        return [None] * len(pixels)
    fair = max(pixels.sum() / len(pixels), 2.0)
    # 1 - beta^n, without losing the digits of a beta close to 1
    weights = np.array([-1 / fair / math.expm1(n * math.log1p(-1 / fair)) if n > 0 else 0.0 for n in pixels])
    weights *= present.sum() / weights[present].sum()
    return [float(weight) if there else None for weight, there in zip(weights, present, strict=True)]


WEIGHTS = {
    "median frequency": median_frequency_weights,
    "inverse log": inverse_log_weights,
    "effective number": effective_number_weights,
}


def suggest(train: SplitStatistics, num_outputs: int = 1) -> Suggestion:
    """Returns a loss section to begin with, judged by the shares of the training split.

    Args:
        train: statistics of the training split.
        num_outputs: of the model; outputs beside the main one weigh 0.4, as in the recipes with OCRNet.
    """
    present = [c for c in train.classes if c.pixels]
    rarest = min(present, key=lambda c: c.share)
    largest = max(present, key=lambda c: c.share)
    ratio = largest.share / rarest.share
    binary = len(train.classes) == 2
    entropy = {"type": "CrossEntropyLoss"}
    loss: dict[str, Any] = entropy
    if train.ignored_share > 1 - _SPARSE:
        reason = (
            f"Only {_percent(1 - train.ignored_share)} of the pixels are labelled, as with scribbles: the shares of these strokes "
            "say little about the pictures, and cross-entropy is the loss that needs no shares."
        )
    elif len(present) == 1:
        reason = f"The training masks hold {largest.name} only, so there is nothing to weigh against it: cross-entropy alone."
    elif (binary and rarest.share >= _EVEN_FOREGROUND) or (not binary and ratio < _EVEN):
        reason = f"The classes are about even (the smallest, {rarest.name}, has {_percent(rarest.share)}): cross-entropy alone."
    elif binary:
        loss = {"type": "MixedLoss", "losses": [entropy, {"type": "LovaszHingeLoss"}], "coef": [1, 0.5]}
        reason = (
            f"{rarest.name} has {_percent(rarest.share)} of the pixels, so cross-entropy can be small while its IoU is poor; "
            "the Lovász hinge optimises that IoU, and cross-entropy keeps the first steps steady."
        )
    else:
        loss = {"type": "MixedLoss", "losses": [entropy, {"type": "LovaszSoftmaxLoss"}], "coef": [0.8, 0.2]}
        reason = (
            f"{largest.name} has {ratio:.0f} times the pixels of {rarest.name} ({_percent(rarest.share)}): Lovász-Softmax weighs "
            "every class's IoU alike, and cross-entropy keeps the first steps steady."
        )
    sampler = None
    seldom = [c for c in present if c.image_share < _RARE_IN_IMAGES]
    if seldom and len(present) > 1 and loss is not entropy:
        sampler = {"type": "Equibatch"}
        least = min(seldom, key=lambda c: c.image_share)
        reason += (
            f" {least.name} is in {_percent(least.image_share)} of the images only, so many batches lack it: "
            "Equibatch lets every class turn up regularly."
        )
    absent = [c.name for c in train.classes if not c.pixels]
    if absent:
        more = f" and {len(absent) - _MOST_NAMES} more" if len(absent) > _MOST_NAMES else ""
        reason += f" No training mask holds {', '.join(absent[:_MOST_NAMES])}{more}: no loss can teach what is not there."
    coef = [1.0] + [0.4] * (num_outputs - 1)
    return Suggestion({"types": [loss], "coef": coef}, sampler, reason)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.1f} %" if percent >= 0.95 else f"{percent:.2g} %"


def order_of_size(sizes: dict[tuple[int, int], int]) -> Sequence[tuple[tuple[int, int], int]]:
    """Returns (height, width) and number of images, the most frequent sizes first."""
    return sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))
