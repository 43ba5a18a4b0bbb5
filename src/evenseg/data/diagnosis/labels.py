"""Labels that cannot be what was meant, each explained as specifically as the evidence allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evenseg.data.cityscapes import TRAIN_IDS
from evenseg.data.diagnosis.borders import Borders
from evenseg.data.diagnosis.findings import Finding, flow, pixels, some
from evenseg.data.diagnosis.records import Scan

# clean masks reach 0.05, damaged ones begin at 0.2
_RAMP_SHARE = 0.12
# of the odd pixels: interpolation leaves ramps, JPEG noise on both sides
_RESAMPLED_SHARE = 0.7
# of the neighbours of odd pixels: thin clean classes reach 0.75
_COHERENCE = 0.55
_SEVERAL_LABELS = 4


def odd_labels(scan: Scan) -> list[Finding]:
    """Explains labels outside the classes, or 0/255 masks whose 255 would be ignored: at most one finding."""
    for explain in (_zero_255, _damaged, _one_based, _cityscapes_ids, _gaps, _outside):
        finding = explain(scan)
        if finding is not None:
            return [finding]
    return []


def suspicious_labels(scan: Scan) -> list[Finding]:
    """Finds masks that are wrong although every label is a class or ignored."""
    found: list[Finding | None] = [] if scan.outside else [_blurred(scan)]
    return [finding for finding in [*found, _two_codings(scan)] if finding is not None]


def _zero_255(scan: Scan) -> Finding | None:
    totals, classes = scan.totals, scan.classes
    # a mapping of 255 in the section says that its owner knows what 255 is
    if set(totals) != {0, 255} or classes.num_classes < 2 or scan.dataset.maps(255):
        return None
    role = "the ignore value" if classes.ignore_index == 255 else "no class"
    files = [record.name for record in scan.records if 255 in record.labels]
    return Finding(
        "zero-255",
        "error",
        scan.section,
        f"the masks hold only the values 0 ({pixels(totals[0])}) and 255 ({pixels(totals[255])}, {role}), "
        f"so they look like 0/255 masks of {classes.names[1]!r}",
        tuple(files),
        f"255 becomes {classes.names[1]!r}",
        _label_map(scan, {255: 1}),
    )


def _damaged(scan: Scan) -> Finding | None:
    if not scan.outside:
        return None
    borders = _sum([record.borders for record in scan.records if record.borders is not None and record.borders.outside])
    scattered = borders.coherence < _COHERENCE and len(scan.outside) >= _SEVERAL_LABELS
    if borders.ramp_share < _RAMP_SHARE and not scattered:
        return None
    resampled = borders.outside_ramps >= _RESAMPLED_SHARE * borders.outside
    line, remedy = _repair(scan)
    how = (
        "the values between those of neighbouring regions come from masks resized with interpolation"
        if resampled
        else "the values around those of the regions come from masks saved as JPEG (or sharpened while they were resized)"
    )
    return Finding(
        "resampled" if resampled else "jpeg",
        "error",
        scan.section,
        f"{_outside_part(scan)}; {how}",
        tuple(_with_values(scan)),
        remedy,
        line,
    )


def _repair(scan: Scan) -> tuple[str, str]:
    """Returns line and remedy for damaged masks."""
    source = "better: export the masks again, as PNG, resized with nearest neighbour only"
    if scan.classes.num_classes == 2 and scan.dataset.reads_indices:
        top = max(scan.totals)
        low = max((label for label in scan.totals if 2 * label <= top), key=lambda label: scan.totals[label])
        high = max((label for label in scan.totals if 2 * label > top), key=lambda label: scan.totals[label])
        # noise moves the commonest value, too
        low, high = 0 if low <= 8 else low, 255 if high >= 247 else high
        return f"threshold: {(low + high + 1) // 2}", f"grey values from there on become {scan.classes.names[1]!r}; {source}"
    kept: dict[int | str, int | str] = {
        label: int(scan.meaning[label]) for label in scan.totals if label not in scan.outside
    }
    kept["*"] = "ignore"
    return _label_map(scan, kept), f"leaves the odd pixels out, but not the wrong ones that hit a class; {source}"


def _one_based(scan: Scan) -> Finding | None:
    count = scan.classes.num_classes
    if scan.outside != [count] or not scan.dataset.reads_indices or scan.dataset.maps(count):
        return None
    if 0 in scan.totals:
        message = f"the masks hold the {count + 1} values 0..{count}, but there are {count} classes"
        remedy = (
            "if 0 means unlabelled, the classes count from 1: this ignores 0 and takes 1 off every other value; "
            "if 0 is a class, such as the background, add it to the classes instead"
        )
    else:
        message = f"the masks hold the values 1..{count} and never 0: the labels count from 1"
        remedy = "takes 1 off every value"
    files = [record.name for record in scan.records if count in record.labels]
    return Finding("one-based", "error", scan.section, message, tuple(files), remedy, "reduce_zero_label: true")


def _cityscapes_ids(scan: Scan) -> Finding | None:
    ids = {label for label in TRAIN_IDS if isinstance(label, int)}
    classes = [label for label in scan.totals if label in ids]
    known = scan.classes.num_classes == 19 and set(scan.totals) <= {*range(34), 255}
    if not scan.outside or not known or len(classes) < 8:
        return None
    return Finding(
        "cityscapes-ids",
        "error",
        scan.section,
        f"{_outside_part(scan)}; they look like the labelIds of Cityscapes, not the 19 trainIds",
        tuple(_with_values(scan)),
        "or use `type: Cityscapes`, which does this",
        _label_map(scan, TRAIN_IDS),
    )


def _gaps(scan: Scan) -> Finding | None:
    if not scan.outside:
        return None
    count, ignore = scan.classes.num_classes, scan.classes.ignore_index
    labels = [label for label in scan.totals if scan.meaning[label] != ignore]
    if len(labels) != count:
        # 255 may be a class among evenly spaced values, such as 0, 128, 255
        labels = list(scan.totals)
    if len(labels) != count:
        return None
    listed = ", ".join(map(str, labels))
    return Finding(
        "gaps",
        "error",
        scan.section,
        f"the masks hold the {count} values {listed}, as many as there are classes, but not 0..{count - 1}",
        tuple(_with_values(scan)),
        f"gives them to {some(scan.classes.names)} in this order: check that it is the right one",
        _label_map(scan, {label: i for i, label in enumerate(labels)}),
    )


def _outside(scan: Scan) -> Finding | None:
    if not scan.outside:
        return None
    if len(scan.outside) <= 8:
        line = _label_map(scan, {label: "ignore" for label in scan.outside})
    else:
        kept: dict[int | str, int | str] = {label: int(scan.meaning[label]) for label in scan.totals if label not in scan.outside}
        line = _label_map(scan, kept | {"*": "ignore"})
    return Finding(
        "outside",
        "error",
        scan.section,
        _outside_part(scan),
        tuple(_with_values(scan)),
        "leaves these pixels out; or map them to classes, or correct the classes",
        line,
    )


def _blurred(scan: Scan) -> Finding | None:
    """Masks resized with interpolation whose in-between labels happen to be classes."""
    hit = [record for record in scan.records if record.borders is not None and record.borders.ramp_share > _RAMP_SHARE]
    if not hit:
        return None
    borders = _sum([record.borders for record in hit if record.borders is not None])
    return Finding(
        "resampled",
        "warning",
        scan.section,
        f"{len(hit)} of {len(scan.records)} masks look resized with interpolation: {100 * borders.ramp_share:.0f} % of the "
        "steps between regions pass through a label in between, which is another class (clean masks: below 6 %)",
        tuple(f"{record.name} ({100 * record.borders.ramp_share:.0f} %)" for record in hit if record.borders is not None),
        "export these masks again, resized with nearest neighbour only; a label map cannot tell the wrong pixels",
    )


def _two_codings(scan: Scan) -> Finding | None:
    """Some masks 0/255, others 0/1: the 255 of the first would be ignored."""
    if scan.classes.num_classes != 2 or scan.classes.ignore_index != 255 or scan.dataset.maps(255):
        return None
    if set(scan.totals) != {0, 1, 255} or any({1, 255} <= set(record.labels) for record in scan.records):
        return None
    hit = [record.name for record in scan.records if 255 in record.labels]
    return Finding(
        "two-codings",
        "warning",
        scan.section,
        f"{len(hit)} of {len(scan.records)} masks hold 0 and 255, the others 0 and 1, and none 1 and 255: "
        f"255 is ignored, but here it looks like {scan.classes.names[1]!r}",
        tuple(hit),
        f"255 becomes {scan.classes.names[1]!r}, too",
        _label_map(scan, {255: 1}),
    )


def _label_map(scan: Scan, changes: Mapping[Any, Any]) -> str:
    return f"label_map: {flow(scan.dataset.label_map_with(changes))}"


def _outside_part(scan: Scan) -> str:
    classes = scan.classes
    hit = sum(any(label in record.labels for label in scan.outside) for record in scan.records)
    values = some([f"value {label}: {pixels(scan.totals[label])}" for label in scan.outside])
    return (
        f"{hit} of {len(scan.records)} masks hold values outside the classes 0..{classes.num_classes - 1} and the ignore "
        f"value {classes.ignore_index} (in all {values})"
    )


def _with_values(scan: Scan) -> list[str]:
    """Names of the masks with odd labels, each with a few of these."""
    outside = set(scan.outside)
    described = []
    for record in scan.records:
        odd = [f"value {label}: {pixels(count)}" for label, count in record.labels.items() if label in outside]
        if odd:
            described.append(f"{record.name} ({some(odd, 4)})")
    return described


def _sum(borders: Sequence[Borders]) -> Borders:
    total = Borders(0, 0, 0, 0, 0)
    for one in borders:
        total = total + one
    return total
