"""What `evenseg check` does: every data set of a configuration read once, and all findings about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from evenseg.config import Config, DatasetSection
from evenseg.data import SegmentationDataset, UnpairedFilesError
from evenseg.data.diagnosis import Finding, Scan, diagnose, scan, unpaired_files
from evenseg.engine.build import build_data, naming_the_file

SECTIONS = ("train_dataset", "val_dataset", "test_dataset")


@dataclass(frozen=True)
class Examination:
    """The data sets of a configuration as they were found, and the findings, errors first."""

    scans: tuple[Scan, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """Returns the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as a mapping fit for JSON."""
        return {
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": [asdict(finding) | {"files": list(finding.files)} for finding in self.findings],
            "datasets": {seen.section: _facts(seen) for seen in self.scans},
        }


def examine(config: Config, progress: Callable[[str, int], Callable[[], object]] | None = None) -> Examination:
    """Reads every data set of a configuration and judges what it sees.

    Args:
        config: of which only the sections of the data sets are used.
        progress: called with a section's key path and its number of pairs; what it returns is called after each pair.

    Raises:
        ConfigError: a section from which no data set can be made.
    """
    findings: list[Finding] = []
    scans: list[Scan] = []
    with naming_the_file(config):
        for name in SECTIONS:
            section = getattr(config, name)
            if section is None:
                continue
            dataset, unpaired = _open(section, name)
            findings += unpaired
            if dataset is not None:
                advance = progress(name, len(dataset)) if progress else None
                scans.append(scan(dataset, name, skip_unreadable=config.on_unreadable == "skip", advance=advance))
    return Examination(tuple(scans), tuple(diagnose(scans, findings)))


def value_rows(seen: Scan) -> list[dict[str, Any]]:
    """Returns one row per stored label: what it means, its pixels and the number of masks that hold it."""
    rows = []
    for label, pixels in seen.totals.items():
        meaning = int(seen.meaning[label])
        name = "outside the classes"
        if meaning == seen.classes.ignore_index:
            name = "ignored"
        elif meaning < seen.classes.num_classes:
            name = seen.classes.names[meaning]
        masks = sum(label in record.labels for record in seen.records)
        rows.append({"value": label, "meaning": name, "pixels": pixels, "masks": masks})
    return rows


def _open(section: DatasetSection, name: str) -> tuple[SegmentationDataset | None, list[Finding]]:
    """Returns the data set without files that have no partner, and the finding about these."""
    try:
        return build_data(section, name).dataset, []
    except ValueError as error:
        unpaired = error.__cause__
        if not isinstance(unpaired, UnpairedFilesError):
            raise
        finding = unpaired_files(name, unpaired)
    try:
        return build_data(section.model_copy(update={"on_unpaired": "skip"}), name).dataset, [finding]
    except ValueError as error:
        if not isinstance(error.__cause__, UnpairedFilesError):
            raise
        return None, [finding]  # not one pair is left: the finding says why


def _facts(seen: Scan) -> dict[str, Any]:
    return {
        "where": seen.dataset.where,
        "pairs": len(seen.records),
        "classes": list(seen.classes.names),
        "ignore_index": seen.classes.ignore_index,
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in seen.sizes.items()],
        "labels": value_rows(seen),
    }
