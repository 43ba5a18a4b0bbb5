"""What the masks show: nothing but ignored pixels, a single class, classes that never occur."""

from __future__ import annotations

import numpy as np

from evenseg.data.diagnosis.findings import Finding, some
from evenseg.data.diagnosis.records import Scan


def only_ignored(scan: Scan) -> list[Finding]:
    """Finds masks in which every pixel is ignored."""
    read = np.array([bool(record.labels) for record in scan.records])
    hit = np.flatnonzero(read & (scan.class_counts.sum(axis=1) == 0))
    if not len(hit):
        return []
    return [
        Finding(
            "only-ignored",
            "warning",
            scan.section,
            f"{len(hit)} of {len(scan.records)} masks hold nothing but ignored pixels",
            tuple(scan.records[i].name for i in hit),
            "they cost time and teach nothing (their loss is 0); take them out",
        )
    ]


def single_class(scan: Scan) -> list[Finding]:
    """Counts masks that hold one class alone."""
    present = scan.class_counts > 0
    hit = np.flatnonzero(present.sum(axis=1) == 1)
    if not len(hit):
        return []
    which = present[hit].argmax(axis=1)
    counts = [f"{scan.classes.names[i]}: {int((which == i).sum())}" for i in range(present.shape[1]) if (which == i).any()]
    return [
        Finding(
            "single-class",
            "info",
            scan.section,
            f"{len(hit)} of {len(scan.records)} masks hold one class alone ({some(counts)})",
            tuple(scan.records[i].name for i in hit),
            "fine if these pictures really show nothing else; per-image IoU of the other classes is undefined there",
        )
    ]


def absent_classes(scan: Scan) -> list[Finding]:
    """Finds classes without a pixel in the whole split."""
    counts = scan.class_counts.sum(axis=0)
    absent = [name for name, count in zip(scan.classes.names, counts, strict=True) if not count]
    if not absent or not counts.any():
        return []
    training = scan.section.startswith("train")
    effect = "cannot be learnt" if training else "has no IoU there and is left out of the mean"
    present = [label for label in scan.totals if scan.meaning[label] < scan.classes.num_classes]
    remedy = "take the class out, or put images that show it into the split"
    # 1..k without 0: may be 1-based labels that do not reach the number of classes
    shifted = counts[0] == 0 and present == list(range(1, len(present) + 1)) and len(present) > 1
    line = "reduce_zero_label: true" if shifted and scan.dataset.reads_indices else None
    if line:
        remedy = "if the labels count from 1; else take the class out, or put images that show it into the split"
    return [
        Finding(
            "absent-class",
            "warning",
            scan.section,
            f"no mask holds a pixel of {some(absent, 8)}; a class that is absent {effect}",
            (),
            remedy,
            line,
        )
    ]
