"""Reading run folders and studies: JSON in, frozen records out, a ValueError naming the file for whatever is wrong."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenseg.report.json_fields import (
    field,
    finite_field,
    fraction_field,
    list_field,
    number_field,
    parse_object,
    read_object,
    read_text,
)
from evenseg.report.records import SCORES, SPLITS, Evaluation, Missing, Overlay, Run, Study, TrainRow, ValRow


def read_study(folder: str | Path) -> Study:
    """Read a study folder.

    Args:
        folder: what `evenseg compare` wrote.

    Returns:
        The study; runs without a summary.json are listed as missing.

    Raises:
        ValueError: a missing or malformed file, by name.
    """
    folder = Path(folder)
    file = folder / "study.json"
    data = read_object(file)
    losses = list_field(data, "losses", str, file)
    seeds = list_field(data, "seeds", int, file)
    classes = list_field(data, "classes", str, file)
    metric = field(data, "metric", str, file)
    data.setdefault("unfinished", [])
    if metric not in SCORES:
        raise ValueError(f"{file}: metric is {metric!r}; allowed: " + ", ".join(map(repr, SCORES)))
    for key, values in (("losses", losses), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{file}: {key} is {values}; allowed: at least one, each once")
    for loss in losses:
        if loss in ("", ".", "..") or Path(loss).name != loss:
            raise ValueError(f"{file}: loss name {loss!r} is no folder name; allowed: a name without slashes")
    unfinished = {
        (field(row, "loss", str, file), field(row, "seed", int, file)): field(row, "reason", str, file)
        for row in list_field(data, "unfinished", dict, file)
    }
    runs: dict[tuple[str, int], Run] = {}
    missing = []
    for loss in losses:
        for seed in seeds:
            run_folder = folder / "runs" / loss / f"seed-{seed}"
            if not (run_folder / "summary.json").is_file():
                reason = unfinished.get((loss, seed)) or _why_missing(run_folder)
                missing.append(Missing(loss, seed, reason))
                continue
            run = read_run(run_folder)
            if run.classes != tuple(classes):
                raise ValueError(
                    f"{run_folder / 'summary.json'}: classes are {list(run.classes)}; "
                    f"allowed: those of {file}, {classes}"
                )
            runs[loss, seed] = run
    return Study(
        folder=folder,
        losses=tuple(losses),
        seeds=tuple(seeds),
        classes=tuple(classes),
        metric=metric,
        device=field(data, "device", str, file),
        seconds=number_field(data, "seconds", file),
        config=read_text(folder / "config.yaml"),
        runs=runs,
        missing=tuple(missing),
    )


def read_run(folder: str | Path) -> Run:
    """Read the folder of a finished run.

    Args:
        folder: what a training run wrote.

    Returns:
        The run.

    Raises:
        ValueError: a missing or malformed file, by name; without summary.json the run has not finished.
    """
    folder = Path(folder)
    file = folder / "summary.json"
    if folder.is_dir() and not file.is_file():
        raise ValueError(f"{file}: no such file; the run has not finished")
    data = read_object(file)
    classes = list_field(data, "classes", str, file)
    colors = list_field(data, "colors", list, file)
    if len(colors) != len(classes) or not all(_is_color(color) for color in colors):
        raise ValueError(f"{file}: colors are {colors}; allowed: one [r, g, b] of 0..255 for each of {classes}")
    rows = _read_metrics(folder / "metrics.jsonl", len(classes))
    return Run(
        folder=folder,
        name=field(data, "name", str, file),
        seed=field(data, "seed", int, file),
        classes=tuple(classes),
        colors=tuple(tuple(color) for color in colors),
        best=_val_row(field(data, "best", dict, file), len(classes), f"{file}: best"),
        last=_val_row(field(data, "last", dict, file), len(classes), f"{file}: last"),
        steps=field(data, "steps", int, file),
        seconds=number_field(data, "seconds", file),
        seconds_per_step=number_field(data, "seconds_per_step", file),
        parameters=field(data, "parameters", int, file),
        # runs of earlier versions have none
        peak_memory=finite_field({"peak_memory": None} | data, "peak_memory", file),
        val=tuple(row for row in rows if isinstance(row, ValRow)),
        train=tuple(row for row in rows if isinstance(row, TrainRow)),
        overlays=_read_overlays(folder / "overlays"),
        config=read_text(folder / "config.yaml"),
        environment=read_object(folder / "environment.json"),
        evaluations={
            split: _read_evaluation(folder / "evaluation" / f"{split}.json", tuple(classes))
            for split in SPLITS
            if (folder / "evaluation" / f"{split}.json").is_file()
        },
    )


def _why_missing(folder: Path) -> str:
    if not folder.is_dir():
        return "never started: no run folder"
    log = folder / "metrics.jsonl"
    last = None
    if log.is_file():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                last = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError):
                continue  # a run that was killed leaves half a line behind
    return "not finished: no step was logged" if last is None else f"not finished: the last logged step is {last}"


def _read_metrics(file: Path, num_classes: int) -> list[ValRow | TrainRow]:
    rows: list[ValRow | TrainRow] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        row = parse_object(line, where)
        split = row.get("split")
        if split == "val":
            rows.append(_val_row(row, num_classes, where))
        elif split == "train":
            terms = field(row, "terms", dict, where)
            terms = {str(name): finite_field(terms, name, where) for name in terms}
            rows.append(TrainRow(field(row, "step", int, where), finite_field(row, "loss", where), terms))
        else:
            raise ValueError(f"{where}: split is {split!r}; allowed: 'train' or 'val'")
    return rows


def _val_row(row: Mapping[str, Any], num_classes: int, where: str) -> ValRow:
    values = field(row, "iou", list, where)
    if len(values) != num_classes:
        raise ValueError(f"{where}: iou has {len(values)} values; allowed: one for each of {num_classes} classes")
    return ValRow(
        step=field(row, "step", int, where),
        loss=finite_field(row, "loss", where),
        scores={name: fraction_field(row, name, where) for name in SCORES},
        iou=tuple(fraction_field(dict(enumerate(values)), c, f"{where}: iou") for c in range(num_classes)),
    )


def _read_evaluation(file: Path, classes: tuple[str, ...]) -> Evaluation:
    data = read_object(file)
    if list_field(data, "classes", str, file) != list(classes):
        raise ValueError(f"{file}: classes are {data['classes']}; allowed: those of the run, {list(classes)}")
    calibration = field(data, "calibration", dict, file)
    bins = field(calibration, "bins", dict, f"{file}: calibration")
    columns = [field(bins, name, list, f"{file}: calibration: bins") for name in ("pixels", "confidence", "accuracy")]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"{file}: calibration: bins are of different lengths; allowed: one value per bin in each")
    row = _val_row({"step": 0} | data, len(classes), str(file))
    labelled, predicted = _confusion_sums(data, len(classes), file)
    return Evaluation(
        scores=row.scores,
        iou=row.iou,
        boundary_f1=fraction_field(data, "mean_boundary_f1", file),
        boundary_iou=fraction_field(data, "mean_boundary_iou", file),
        ece=fraction_field(calibration, "ece", f"{file}: calibration"),
        class_ece=fraction_field(calibration, "mean_class_ece", f"{file}: calibration"),
        bins=tuple(zip(*columns, strict=True)),
        images=_read_images(file.with_name(f"{file.stem}_images.csv")),
        overlays=_read_overlays(overlay_folder(file.parent.parent, file.stem)),
        labelled=labelled,
        predicted=predicted,
    )


def _confusion_sums(
    data: Mapping[str, Any], num_classes: int, file: Path
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return the labelled and the predicted pixels of each class; None where no confusion matrix was kept."""
    if "confusion" not in data:
        return None, None
    rows = list_field(data, "confusion", list, file)
    rows = [list_field({"confusion": row}, "confusion", int, file) for row in rows]
    if [len(row) for row in rows] != [num_classes] * num_classes:
        raise ValueError(f"{file}: confusion has rows of {[len(row) for row in rows]}; allowed: {num_classes} rows of as many")
    return tuple(map(sum, rows)), tuple(map(sum, zip(*rows, strict=True)))


def overlay_folder(run: Path, split: str) -> Path:
    """Return where the pictures of an evaluated split lie in a run folder."""
    return run / "evaluation" / f"{split}_overlays"


def _read_images(file: Path) -> dict[str, float | None]:
    """Read the mIoU of each image; none where the file is missing."""
    if not file.is_file():
        return {}
    rows = list(csv.DictReader(read_text(file).splitlines()))
    if rows and not {"image", "miou"} <= rows[0].keys():
        raise ValueError(f"{file}: columns are {list(rows[0])}; allowed: image and miou among them")
    images: dict[str, float | None] = {}
    for number, row in enumerate(rows, start=2):
        try:
            images[row["image"]] = float(row["miou"]) if row["miou"] else None
        except ValueError as error:
            raise ValueError(f"{file}:{number}: miou is {row['miou']!r}; allowed: a number or nothing") from error
    return images


def _read_overlays(folder: Path) -> dict[str, Overlay]:
    overlays = {}
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        data = read_object(file)
        pictures = {kind: folder / f"{file.stem}_{kind}.png" for kind in ("image", "target", "prediction")}
        for picture in pictures.values():
            if not picture.is_file():
                raise ValueError(f"{picture}: no such file, but {file.name} names it")
        overlays[file.stem] = Overlay(field(data, "name", str, file), fraction_field(data, "miou", file), **pictures)
    return overlays


def _is_color(color: list[Any]) -> bool:
    return len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)
