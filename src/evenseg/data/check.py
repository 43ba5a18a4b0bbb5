"""The look at every mask before training: labels outside the classes, 0/255 masks, sizes that do not match."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.images import UnreadableFileError


@dataclass(frozen=True)
class DataFacts:
    """What a clean scan found.

    Attributes:
        counts: pixels per label value over all masks, int64, of length 256, or 65536 where a mask has 16 bits.
        sizes: the different (height, width), sorted.
        class_counts: pixels of every class in every mask, (masks, classes) int64.
        classes: of the data set.
    """

    counts: NDArray[np.int64]
    sizes: tuple[tuple[int, int], ...]
    class_counts: NDArray[np.int64]
    classes: Classes


_CHECKED: dict[Hashable, DataFacts] = {}


def check_data(dataset: SegmentationDataset, on_unreadable: Literal["stop", "skip"] = "stop") -> DataFacts:
    """Reads every mask of a data set once per process and stops at anything a loss could not use.

    Args:
        dataset: the pairs.
        on_unreadable: "skip" leaves pairs out that cannot be read, unless none can.

    Raises:
        ValueError: mask values that are no class, with files, values and pixel counts; masks of 0 and 255 only, with
            the `label_map` to set; masks of another size than their image.
    """
    key = (dataset.cache_key, on_unreadable)
    if key not in _CHECKED:
        _CHECKED[key] = _scan(dataset, on_unreadable)
    return _CHECKED[key]


def _scan(dataset: SegmentationDataset, on_unreadable: str) -> DataFacts:
    classes = dataset.classes
    total = np.zeros(256, np.int64)
    outside: list[tuple[str, dict[int, int]]] = []
    mismatched: list[str] = []
    sizes: set[tuple[int, int]] = set()
    unreadable: list[str] = []
    class_counts = np.zeros((len(dataset), classes.num_classes), np.int64)
    for index in range(len(dataset)):
        try:
            mask = dataset.read_mask(index)
            height, width = dataset.image_size(index)
        except UnreadableFileError as error:
            if on_unreadable == "stop":
                raise
            unreadable.append(str(error))
            continue
        counts = np.bincount(mask.ravel(), minlength=max(256, classes.num_classes))
        if len(counts) > len(total):
            total = np.pad(total, (0, 65536 - len(total)))
        total[: len(counts)] += counts
        class_counts[index] = counts[: classes.num_classes]
        strange = {
            value: int(counts[value])
            for value in np.flatnonzero(counts).tolist()
            if value >= classes.num_classes and value != classes.ignore_index
        }
        if strange:
            outside.append((dataset.name(index), strange))
        sizes.add((height, width))
        if mask.shape != (height, width):
            mismatched.append(f"{dataset.name(index)} (mask {mask.shape[1]}x{mask.shape[0]}, image {width}x{height})")
    if len(unreadable) == len(dataset):
        raise UnreadableFileError(f"{dataset.where}: none of the pairs can be read, the last one because {unreadable[-1]}")
    if mismatched:
        raise ValueError(
            f"{dataset.where}: {len(mismatched)} of {len(dataset)} masks differ in size from their image: "
            + _some(mismatched)
        )
    values = set(np.flatnonzero(total).tolist())
    # a mapping of 255 in the section says that its owner knows what 255 is
    if values == {0, 255} and classes.num_classes >= 2 and not dataset.maps(255):
        raise ValueError(
            f"{dataset.where}: the masks hold only the values 0 ({total[0]} pixels) and 255 ({total[255]} pixels, "
            f"{_role(255, dataset)}), so they look like 0/255 masks of {classes.names[1]!r}; "
            "set `label_map: {255: 1}` in the data set's section"
        )
    if outside:
        raise ValueError(_outside_message(dataset, outside, total))
    return DataFacts(total, tuple(sorted(sizes)), class_counts, classes)


def _outside_message(
    dataset: SegmentationDataset, outside: list[tuple[str, dict[int, int]]], total: NDArray[np.int64]
) -> str:
    classes = dataset.classes
    files = [
        f"{name} ({', '.join(f'value {value}: {counts[value]} pixels' for value in list(counts)[:4])})"
        for name, counts in outside
    ]
    values = sorted({value for _, counts in outside for value in counts})
    message = (
        f"{dataset.where}: {len(outside)} of {len(dataset)} masks hold values outside the classes "
        f"0..{classes.num_classes - 1} and the ignore value {classes.ignore_index}: {_some(files)}; "
        f"in all {_some([f'value {value}: {total[value]} pixels' for value in values])}; "
    )
    if classes.num_classes == 2 and 255 in values and total[1] == 0:
        return message + "0/255 masks need `label_map: {255: 1}`"
    if len(values) > 16:
        return message + "so many values come from masks saved as JPEG or resized with interpolation"
    return message + ("map them with `label_map` (say `{" + f"{values[0]}: ignore" + "}`) or correct classes.json")


def _role(value: int, dataset: SegmentationDataset) -> str:
    return "the ignore value" if value == dataset.classes.ignore_index else "no class"


def _some(parts: list[str], most: int = 5) -> str:
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")
