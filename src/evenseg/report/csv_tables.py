"""The tables of a study's report as CSV files, numbers in full precision and fractions rather than per cent."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from evenseg.report import tables
from evenseg.report.records import SCORES, Study
from evenseg.report.statistics import MeanSd, PairedDifference


def write_tables(study: Study) -> list[Path]:
    """Write STUDY/tables/*.csv, one file for each table and curve of the report, and return their paths.

    Empty cells are values that do not exist. Scores are fractions, differences too.
    """
    folder = study.folder / "tables"
    folder.mkdir(exist_ok=True)
    found = {
        "runs": _runs(study),
        "scores": _scores(study),
        "differences": _differences(study),
        "classes": _classes(study),
        "curves": _curves(study),
    }
    for split in study.evaluated:
        found[f"measures_{split}"] = _measures(study, split)
    if study.evaluated:
        found[f"images_{study.evaluated[0]}"] = _images(study)
        found[f"reliability_{study.evaluated[0]}"] = _reliability(study)
    files = []
    for name, rows in found.items():
        rows = list(rows)
        if rows:
            files.append(_write(folder / f"{name}.csv", rows))
    return files


def _runs(study: Study) -> Iterable[dict[str, Any]]:
    why = {(run.loss, run.seed): run.reason for run in study.missing}
    for loss in study.losses:
        for seed in study.seeds:
            run = study.runs.get((loss, seed))
            row: dict[str, Any] = {"loss": loss, "seed": seed, "missing": why.get((loss, seed))}
            if run is not None:
                row |= {"best_step": run.best.step, "steps": run.steps}
                row |= {f"best_{score}": run.best.scores[score] for score in SCORES}
                row |= {"last_miou": run.last.scores["miou"], "seconds": run.seconds}
                row |= {"seconds_per_step": run.seconds_per_step, "peak_memory_bytes": run.peak_memory}
                for split in study.evaluated:
                    evaluation = run.evaluations[split]
                    row |= {f"{split} {title}": measure(evaluation) for title, _, measure, _ in tables.MEASURES}
            yield row


def _scores(study: Study) -> Iterable[dict[str, Any]]:
    for loss in study.losses:
        for column in tables.SCORE_COLUMNS:
            summary = tables.summarise(map(column.value, study.of(loss).values()), 1.0)
            yield {"loss": loss, "score": column.title} | _mean_sd(summary)


def _differences(study: Study) -> Iterable[dict[str, Any]]:
    for comparison in tables.compare_to_baseline(study):
        row: dict[str, Any] = {"loss": comparison.loss, "baseline": study.losses[0], "metric": study.metric}
        row["judged_on"] = "test" if study.judged_on_test else "validation, best step"
        row |= _difference(comparison.result)
        row |= {"p_holm": comparison.p_holm, "verdict": comparison.verdict}
        low, high = comparison.bootstrap or (None, None)
        row |= {"bootstrap_low": _hundredth(low), "bootstrap_high": _hundredth(high)}
        yield row | {f"seed {seed}": _hundredth(d) for seed, d in zip(comparison.seeds, comparison.differences, strict=True)}


def _classes(study: Study) -> Iterable[dict[str, Any]]:
    for row in tables.class_table(study):
        for loss, cell in zip(study.losses, row.cells, strict=True):
            summary = {key: value if key == "n" else _hundredth(value) for key, value in _mean_sd(cell.summary).items()}
            gain = {f"gain_{key}": value for key, value in _difference(cell.gain).items()}
            yield {"class": row.name, "loss": loss} | summary | gain


def _curves(study: Study) -> Iterable[dict[str, Any]]:
    for (loss, seed), run in study.runs.items():
        for row in run.val:
            yield {"loss": loss, "seed": seed, "step": row.step, "validation_loss": row.loss, **row.scores}


def _measures(study: Study, split: str) -> Iterable[dict[str, Any]]:
    for row in tables.measure_table(study, split):
        for (title, _, _, _), cell in zip(tables.MEASURES, row.cells, strict=True):
            summary = _mean_sd(cell.summary if cell else None)
            yield {"loss": row.loss, "measure": title} | {
                key: value if key == "n" else _hundredth(value) for key, value in summary.items()
            }


def _images(study: Study) -> Iterable[dict[str, Any]]:
    split = study.evaluated[0]
    gains = {comparison.loss: comparison.differences for comparison in tables.compare_images(study)}
    names = dict.fromkeys(name for run in study.runs.values() for name in run.evaluations[split].images)
    for name in names:
        row: dict[str, Any] = {"image": name}
        for loss in study.losses:
            summary = tables.summarise((run.evaluations[split].images.get(name) for run in study.of(loss).values()), 1.0)
            row[f"{loss} mIoU"] = summary.mean if summary else None
        row |= {f"{loss} gain": _hundredth(differences.get(name)) for loss, differences in gains.items()}
        yield row


def _reliability(study: Study) -> Iterable[dict[str, Any]]:
    for loss in study.losses:
        for confidence, accuracy, pixels in tables.reliability(study, loss, study.evaluated[0]):
            yield {"loss": loss, "confidence": confidence / 100, "accuracy": accuracy / 100, "pixels": pixels}


def _mean_sd(summary: MeanSd | None) -> dict[str, Any]:
    return {"mean": None, "sd": None, "n": 0} if summary is None else {"mean": summary.mean, "sd": summary.sd, "n": summary.n}


def _difference(result: PairedDifference | None) -> dict[str, Any]:
    if result is None:
        return {"mean": None, "sd": None, "n": 0, "low": None, "high": None, "p": None}
    points = {"mean": result.mean, "sd": result.sd, "low": result.low, "high": result.high}
    return {key: _hundredth(value) for key, value in points.items()} | {"n": result.n, "p": result.p}


def _hundredth(value: float | None) -> float | None:
    """From per cent or points to a fraction."""
    return None if value is None else value / 100


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text.getvalue(), encoding="utf-8")
    os.replace(partial, file)
    return file
