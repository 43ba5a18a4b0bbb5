"""What `evenseg check` and `evenseg stats` do: every data set of a configuration read once, and judged or counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evenseg.config import Config, ConfigError, DatasetSection
from evenseg.data import Classes, SegmentationDataset, UnpairedFilesError
from evenseg.data.class_statistics import WEIGHTS, SplitStatistics, Suggestion, order_of_size, split_statistics, suggest
from evenseg.data.diagnosis import STOPPING_RULES, Finding, Scan, diagnose, missing_files, scan, unpaired_files
from evenseg.data.list_file import MissingFilesError
from evenseg.engine.build import build_data, build_model, model_section, naming_the_file

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


@dataclass(frozen=True)
class Statistics:
    """The classes of a configuration in numbers.

    Attributes:
        splits: one entry per data set, training first.
        weights: name of a rule -> weight of every class (None for a class without a pixel), from the training masks.
        suggestion: a loss section to begin with.
    """

    splits: tuple[SplitStatistics, ...]
    weights: dict[str, list[float | None]]
    suggestion: Suggestion

    def as_json(self) -> dict[str, Any]:
        """Returns everything as a mapping fit for JSON; of the areas, eleven quantiles from the smallest to the largest."""
        return {
            "splits": [_split_row(split) for split in self.splits],
            "weights": self.weights,
            "suggestion": asdict(self.suggestion),
        }


def statistics(config: Config, progress: Callable[[str, int], Callable[[], object]] | None = None) -> Statistics:
    """Counts pixels, images and objects of every class in every data set of a configuration.

    Args:
        config: its data sets, and the model's number of outputs, are used.
        progress: see `examine`.

    Raises:
        ConfigError: a section from which no data set can be made, or data with an error that `evenseg check` explains.
    """
    splits = []
    weights: dict[str, list[float | None]] = {}
    classes: Classes | None = None
    with naming_the_file(config):
        kind, _ = model_section(config)
        for name in SECTIONS:
            section = getattr(config, name)
            if section is None:
                continue
            dataset = build_data(section, name).dataset
            classes = classes or dataset.classes
            advance = progress(name, len(dataset)) if progress else None
            skip = config.on_unreadable == "skip"
            seen = scan(dataset, name, thorough=False, skip_unreadable=skip, objects=True, advance=advance)
            for finding in (finding for rule in STOPPING_RULES for finding in rule(seen)):
                if finding.severity == "error":
                    raise ConfigError(f"{finding.sentence()}; `evenseg check` looks at everything", key_path=name)
            if not seen.class_counts.any():
                raise ConfigError("no mask holds a pixel of any class", key_path=name)
            splits.append(split_statistics(seen))
            weights = weights or {rule: weigh(seen.class_counts) for rule, weigh in WEIGHTS.items()}
        outputs: Any = getattr(kind, "num_outputs", None)
        if not isinstance(outputs, int):
            # a network of one's own: its outputs are counted
            assert classes is not None
            outputs = build_model(config, classes, pretrained=False).num_outputs
    suggestion = suggest(splits[0], int(outputs))
    return Statistics(tuple(splits), weights, suggestion)


def _split_row(split: SplitStatistics) -> dict[str, Any]:
    rows = []
    for entry, areas in zip(split.classes, split.areas, strict=True):
        quantiles = np.quantile(areas, np.linspace(0, 1, 11)).tolist() if len(areas) else []
        rows.append(asdict(entry) | {"area_quantiles": quantiles})
    sizes = [{"height": h, "width": w, "images": n} for (h, w), n in order_of_size(split.sizes)]
    return {
        "section": split.section,
        "images": split.images,
        "ignored_share": split.ignored_share,
        "sizes": sizes,
        "classes": rows,
    }


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
    """Returns the data set without files that have no partner or do not exist, and the finding about these."""
    try:
        return build_data(section, name).dataset, []
    except ValueError as error:
        finding = _about_files(name, error.__cause__)
        if finding is None:
            raise
    try:
        return build_data(section.model_copy(update={"on_unpaired": "skip"}), name).dataset, [finding]
    except ValueError as error:
        if _about_files(name, error.__cause__) is None:
            raise
        return None, [finding]  # not one pair is left: the finding says why


def _about_files(name: str, cause: BaseException | None) -> Finding | None:
    """Returns the finding about files that have no partner or do not exist; None for another cause."""
    if isinstance(cause, UnpairedFilesError):
        return unpaired_files(name, cause)
    return missing_files(name, cause) if isinstance(cause, MissingFilesError) else None


def _facts(seen: Scan) -> dict[str, Any]:
    return {
        "where": seen.dataset.where,
        "pairs": len(seen.records),
        "classes": list(seen.classes.names),
        "ignore_index": seen.classes.ignore_index,
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in seen.sizes.items()],
        "labels": value_rows(seen),
    }
