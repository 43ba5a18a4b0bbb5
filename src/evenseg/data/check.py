"""The look at every mask before training, which stops at anything a loss could not use."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.diagnosis import STOPPING_RULES, Scan, scan, some
from evenseg.data.images import UnreadableFileError
from evenseg.data.scan_cache import ScanCache


@dataclass(frozen=True)
class DataFacts:
    """What a clean scan found.

    Attributes:
        counts: pixels of every label over all masks, in the order of the labels.
        sizes: the different (height, width), sorted.
        class_counts: pixels of every class in every mask, (masks, classes) int64.
        classes: of the data set.
    """

    counts: dict[int, int]
    sizes: tuple[tuple[int, int], ...]
    class_counts: NDArray[np.int64]
    classes: Classes


class UnfitDataError(ValueError):
    """Masks that a loss could not use; `errors` holds one error for every finding."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__("\n".join(messages))
        self.errors = tuple(map(ValueError, messages))


_CHECKED: dict[Hashable, DataFacts] = {}


def check_data(
    dataset: SegmentationDataset, on_unreadable: Literal["stop", "skip"] = "stop", section: str = ""
) -> DataFacts:
    """Reads every pair of a data set once and stops at anything a loss could not use.

    What was seen of each pair is remembered for the life of the process and, on disk, for the next one: see `ScanCache`.
    `evenseg check` goes further: see `evenseg.data.diagnosis`.

    Args:
        dataset: the pairs.
        on_unreadable: "skip" leaves pairs out that cannot be read, unless none can.
        section: key path of the data set's section, for what to type on the command line.

    Raises:
        UnreadableFileError: a file that is missing or damaged, by `on_unreadable`.
        UnfitDataError: any of these findings: files that cannot be read, masks of colours, masks of another size than
            their image, labels that are no class; with files, values and pixel counts, and what to set.
    """
    key = (dataset.cache_key, on_unreadable)
    if key not in _CHECKED:
        cache = ScanCache(dataset)
        known = cache.load()
        seen = scan(dataset, section, thorough=False, skip_unreadable=on_unreadable == "skip", known=known)
        if len(known) < len(dataset):
            cache.store(seen.records)
        unreadable = [record.problem for record in seen.records if record.unreadable]
        if unreadable and (on_unreadable == "stop" or len(unreadable) == len(dataset)):
            if len(unreadable) == len(dataset):
                message = f"none of the pairs can be read, the last one because {unreadable[-1]}"
            else:
                message = (
                    f"{len(unreadable)} of the {len(dataset)} pairs cannot be read: {some(unreadable, 3)}; "
                    "--set on_unreadable=skip goes on without them"
                )
            raise UnreadableFileError(f"{dataset.where}: {message}")
        findings = [finding for rule in STOPPING_RULES for finding in rule(seen) if finding.severity == "error"]
        if findings:
            raise UnfitDataError([f"{dataset.where}: {finding.sentence()}" for finding in findings])
        _CHECKED[key] = _facts(seen)
    return _CHECKED[key]


def _facts(seen: Scan) -> DataFacts:
    counts: dict[int, int] = {}
    for label, pixels in seen.totals.items():
        meaning = int(seen.meaning[label])
        counts[meaning] = counts.get(meaning, 0) + pixels
    return DataFacts(dict(sorted(counts.items())), tuple(seen.sizes), seen.class_counts, seen.classes)
