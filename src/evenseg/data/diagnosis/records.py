"""One look at every pair of a data set: sizes, labels, borders, fingerprints. Records only; `rules` judges them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.components import component_areas
from evenseg.data.diagnosis.borders import Borders, measure_borders
from evenseg.data.diagnosis.fingerprints import Fingerprint, fingerprint, pixel_digest
from evenseg.data.images import UnreadableFileError, read_rgb

_ALL_LABELS = 65536


@dataclass(frozen=True)
class PairRecord:
    """What was seen of one pair. `None` means not looked at, or not readable.

    Attributes:
        name: of the pair.
        image_size, mask_size: (height, width).
        labels: pixels of every label as the file stores it.
        image_problem, mask_problem: why a file could not be used.
        unreadable: whether the reason is that a file is missing or damaged.
        borders: steps and ramps of the stored labels.
        colors: pixels of every colour (red << 16 | green << 8 | blue), most frequent first, where the mask's file
            stores colours that the section does not say how to read.
        palette: colour of every label that occurs, for masks with a palette.
        fingerprint: of the image.
        mask_digest: of the stored labels.
        objects: label (as read) and area of every connected component.
    """

    name: str
    image_size: tuple[int, int] | None = None
    mask_size: tuple[int, int] | None = None
    labels: dict[int, int] = field(default_factory=dict)
    image_problem: str | None = None
    mask_problem: str | None = None
    unreadable: bool = False
    borders: Borders | None = None
    colors: dict[int, int] | None = None
    palette: dict[int, int] | None = None
    fingerprint: Fingerprint | None = None
    mask_digest: bytes | None = None
    objects: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def problem(self) -> str:
        """Why the pair cannot be used, or "" if it can."""
        return self.image_problem or self.mask_problem or ""


@dataclass(frozen=True)
class Scan:
    """The records of a data set.

    Attributes:
        dataset: that was read.
        section: key path of its section in the configuration.
        records: of all pairs, in order.
        meaning: label of every stored label after the section's maps, (65536,).
        skip_unreadable: whether the configuration leaves out what cannot be read.
    """

    dataset: SegmentationDataset
    section: str
    records: tuple[PairRecord, ...]
    meaning: NDArray[np.uint16]
    skip_unreadable: bool = False

    @property
    def classes(self) -> Classes:
        return self.dataset.classes

    @cached_property
    def totals(self) -> dict[int, int]:
        """Pixels of every stored label over all masks, in the order of the labels."""
        totals: dict[int, int] = {}
        for record in self.records:
            for label, pixels in record.labels.items():
                totals[label] = totals.get(label, 0) + pixels
        return dict(sorted(totals.items()))

    @cached_property
    def outside(self) -> list[int]:
        """Stored labels that are neither a class nor ignored."""
        legal, _ = legal_labels(self.meaning, self.classes)
        return [label for label in self.totals if not legal[label]]

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """Pixels of every class in every mask, (masks, classes)."""
        counts = np.zeros((len(self.records), self.classes.num_classes), np.int64)
        for row, record in zip(counts, self.records, strict=True):
            for label, pixels in record.labels.items():
                meaning = self.meaning[label]
                if meaning < len(row):
                    row[meaning] += pixels
        return counts

    @cached_property
    def ignored(self) -> NDArray[np.int64]:
        """Ignored pixels of every mask, (masks,)."""
        ignore = self.classes.ignore_index
        return np.array(
            [sum(n for label, n in record.labels.items() if self.meaning[label] == ignore) for record in self.records],
            np.int64,
        )

    @cached_property
    def sizes(self) -> dict[tuple[int, int], int]:
        """Number of images of every (height, width), sorted."""
        sizes: dict[tuple[int, int], int] = {}
        for record in self.records:
            if record.image_size is not None:
                sizes[record.image_size] = sizes.get(record.image_size, 0) + 1
        return dict(sorted(sizes.items()))


def legal_labels(meaning: NDArray[np.uint16], classes: Classes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns, by stored label, whether it is a class or ignored, and whether it is ignored."""
    ignored = meaning == classes.ignore_index
    return (meaning < classes.num_classes) | ignored, ignored


def scan(
    dataset: SegmentationDataset,
    section: str = "",
    *,
    thorough: bool = True,
    skip_unreadable: bool = False,
    objects: bool = False,
    known: Mapping[int, PairRecord] | None = None,
    advance: Callable[[], object] | None = None,
) -> Scan:
    """Reads every pair once.

    Args:
        dataset: to read.
        section: key path of its section, for the findings.
        thorough: look at the borders of all masks, not only of those with odd labels, and at palettes and fingerprints.
        skip_unreadable: see `Scan`.
        objects: count the connected components of every label.
        known: records of an earlier scan, by number of the pair, which need not be made again.
        advance: called after every pair.
    """
    meaning = dataset.relabel(np.arange(_ALL_LABELS, dtype=np.uint16)).astype(np.uint16)
    look = _Look(dataset, *legal_labels(meaning, dataset.classes), thorough, objects)

    def one(index: int) -> PairRecord:
        record = (known or {}).get(index) or look.at(index)
        if advance is not None:
            advance()
        return record

    # threads: Pillow and numpy let go of the interpreter's lock, and nothing has to be sent to another process
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        records = tuple(pool.map(one, range(len(dataset))))
    return Scan(dataset, section, records, meaning, skip_unreadable)


@dataclass(frozen=True)
class _Look:
    dataset: SegmentationDataset
    legal: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    thorough: bool
    objects: bool

    def at(self, index: int) -> PairRecord:
        found: dict[str, Any] = {}
        try:
            found |= self._image(index)
        except (ValueError, OSError) as error:
            found |= {"image_problem": _one_line(error), "unreadable": isinstance(error, UnreadableFileError | OSError)}
        try:
            found |= self._mask(index)
        except UnreadableFileError as error:
            found |= {"mask_problem": _one_line(error), "unreadable": True}
        except (ValueError, OSError) as error:
            found |= {"mask_problem": _one_line(error), "colors": self._colors(index)}
        if found.get("unreadable"):
            found["labels"] = {}  # nobody will see them, whichever of the two files is damaged
        return PairRecord(self.dataset.name(index), **found)

    def _image(self, index: int) -> dict[str, Any]:
        if not self.thorough:
            return {"image_size": self.dataset.image_size(index)}
        image = self.dataset.read_image(index)
        return {"image_size": image.shape[:2], "fingerprint": fingerprint(image)}

    def _mask(self, index: int) -> dict[str, Any]:
        labels = self.dataset.read_stored_mask(index)
        counts = np.bincount(labels.ravel())
        present = np.flatnonzero(counts)
        if len(counts) > _ALL_LABELS:
            raise ValueError(f"the mask holds labels up to {present[-1]}; allowed: 0..{_ALL_LABELS - 1}")
        found: dict[str, Any] = {
            "mask_size": labels.shape,
            "labels": dict(zip(present.tolist(), counts[present].tolist(), strict=True)),
        }
        if self.thorough or not self.legal[present].all():
            found["borders"] = measure_borders(labels, self.legal, self.ignored)
        if self.thorough:
            found["mask_digest"] = pixel_digest(labels)
            found["palette"] = self._palette(index, present)
        if self.objects:
            found["objects"] = component_areas(self.dataset.relabel(labels))
        return found

    def _palette(self, index: int, present: NDArray[np.intp]) -> dict[int, int] | None:
        file = self._mask_file(index)
        if file is None or not self.dataset.reads_indices:
            return None
        with Image.open(file) as image:
            if image.mode != "P" or (flat := image.getpalette("RGB")) is None:
                return None
        colors = {label: flat[3 * label : 3 * label + 3] for label in present.tolist()}
        return {label: c[0] << 16 | c[1] << 8 | c[2] for label, c in colors.items() if len(c) == 3}

    def _colors(self, index: int) -> dict[int, int] | None:
        file = self._mask_file(index)
        if file is None:
            return None
        try:
            rgb = read_rgb(file).astype(np.uint32)
        except ValueError:
            return None  # the problem is named already
        found, counts = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return dict(zip(found[order].tolist(), counts[order].tolist(), strict=True))

    def _mask_file(self, index: int) -> Path | None:
        files = self.dataset.files(index)
        return None if files is None else files[1]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
