"""Reading run folders and studies: JSON in, frozen records out, a ValueError naming the file for whatever is wrong."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Scores of a validation row, fractions in 0..1: how the report calls them
SCORES = {
    "miou": "mIoU",
    "per_image_miou": "per-image mIoU",
    "accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_dice": "mean Dice",
}


# What `evenseg evaluate` measures on and how the report calls it; the split to be compared on first
SPLITS = {"test": "test", "val": "validation"}


@dataclass(frozen=True)
class ValRow:
    """One validation: scores by name and the IoU of each class, fractions; None where undefined."""

    step: int
    loss: float | None
    scores: Mapping[str, float | None]
    iou: tuple[float | None, ...]


@dataclass(frozen=True)
class TrainRow:
    """One logged training step: the loss and its terms by name; None where not finite."""

    step: int
    loss: float | None
    terms: Mapping[str, float | None]


@dataclass(frozen=True)
class Overlay:
    """One validation image with its target and prediction, as PNG files."""

    name: str
    miou: float | None
    image: Path
    target: Path
    prediction: Path


@dataclass(frozen=True)
class Evaluation:
    """What `evenseg evaluate` measured of a run's best weights on one split; fractions, None where undefined.

    Attributes:
        scores: as in a validation row.
        iou: of each class.
        boundary_f1: mean over classes.
        boundary_iou: mean over classes.
        ece: expected calibration error of the predicted class.
        class_ece: mean over classes of the error of each class's probability.
        bins: of the reliability curve: (pixels, mean confidence, accuracy).
        images: image name -> its mIoU.
        overlays: pictures of a few of them.
    """

    scores: Mapping[str, float | None]
    iou: tuple[float | None, ...]
    boundary_f1: float | None
    boundary_iou: float | None
    ece: float | None
    class_ece: float | None
    bins: tuple[tuple[int, float | None, float | None], ...]
    images: Mapping[str, float | None]
    overlays: Mapping[str, Overlay]


@dataclass(frozen=True)
class Run:
    """A finished run; `peak_memory` in bytes, None where it was not measured."""

    folder: Path
    name: str
    seed: int
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    best: ValRow
    last: ValRow
    steps: int
    seconds: float
    seconds_per_step: float
    parameters: int
    peak_memory: float | None
    val: tuple[ValRow, ...]
    train: tuple[TrainRow, ...]
    overlays: Mapping[str, Overlay]
    config: str
    environment: Mapping[str, Any]
    evaluations: Mapping[str, Evaluation]


@dataclass(frozen=True)
class Missing:
    """A run the study asked for that has no result, and why."""

    loss: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Study:
    """A comparison: losses (the first is the baseline) times seeds, with the finished runs and the missing ones."""

    folder: Path
    losses: tuple[str, ...]
    seeds: tuple[int, ...]
    classes: tuple[str, ...]
    metric: str
    device: str
    seconds: float
    config: str
    runs: Mapping[tuple[str, int], Run]
    missing: tuple[Missing, ...]

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The splits on which every finished run was evaluated."""
        runs = self.runs.values()
        return tuple(split for split in SPLITS if runs and all(split in run.evaluations for run in runs))

    @property
    def judged_on_test(self) -> bool:
        """Whether the losses are compared on the test images rather than at each run's best validation."""
        return "test" in self.evaluated

    def scores(self, run: Run) -> Mapping[str, float | None]:
        """Return the scores that losses are compared by."""
        return run.evaluations["test"].scores if self.judged_on_test else run.best.scores

    def class_iou(self, run: Run) -> tuple[float | None, ...]:
        """Return the IoU of each class that losses are compared by."""
        return run.evaluations["test"].iou if self.judged_on_test else run.best.iou

    def of(self, loss: str) -> dict[int, Run]:
        """Return the finished runs of a loss by seed, in the study's order of seeds."""
        return {seed: self.runs[loss, seed] for seed in self.seeds if (loss, seed) in self.runs}


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
    data = _json_object(file)
    losses = _list(data, "losses", str, file)
    seeds = _list(data, "seeds", int, file)
    classes = _list(data, "classes", str, file)
    metric = _field(data, "metric", str, file)
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
        (_field(row, "loss", str, file), _field(row, "seed", int, file)): _field(row, "reason", str, file)
        for row in _list(data, "unfinished", dict, file)
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
        device=_field(data, "device", str, file),
        seconds=_number(data, "seconds", file),
        config=_text(folder / "config.yaml"),
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
    data = _json_object(file)
    classes = _list(data, "classes", str, file)
    colors = _list(data, "colors", list, file)
    if len(colors) != len(classes) or not all(_is_color(color) for color in colors):
        raise ValueError(f"{file}: colors are {colors}; allowed: one [r, g, b] of 0..255 for each of {classes}")
    rows = _read_metrics(folder / "metrics.jsonl", len(classes))
    return Run(
        folder=folder,
        name=_field(data, "name", str, file),
        seed=_field(data, "seed", int, file),
        classes=tuple(classes),
        colors=tuple(tuple(color) for color in colors),
        best=_val_row(_field(data, "best", dict, file), len(classes), f"{file}: best"),
        last=_val_row(_field(data, "last", dict, file), len(classes), f"{file}: last"),
        steps=_field(data, "steps", int, file),
        seconds=_number(data, "seconds", file),
        seconds_per_step=_number(data, "seconds_per_step", file),
        parameters=_field(data, "parameters", int, file),
        # runs of earlier versions have none
        peak_memory=_finite({"peak_memory": None} | data, "peak_memory", file),
        val=tuple(row for row in rows if isinstance(row, ValRow)),
        train=tuple(row for row in rows if isinstance(row, TrainRow)),
        overlays=_read_overlays(folder / "overlays"),
        config=_text(folder / "config.yaml"),
        environment=_json_object(folder / "environment.json"),
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
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        row = _parse(line, where)
        split = row.get("split")
        if split == "val":
            rows.append(_val_row(row, num_classes, where))
        elif split == "train":
            terms = _field(row, "terms", dict, where)
            terms = {str(name): _finite(terms, name, where) for name in terms}
            rows.append(TrainRow(_field(row, "step", int, where), _finite(row, "loss", where), terms))
        else:
            raise ValueError(f"{where}: split is {split!r}; allowed: 'train' or 'val'")
    return rows


def _val_row(row: Mapping[str, Any], num_classes: int, where: str) -> ValRow:
    values = _field(row, "iou", list, where)
    if len(values) != num_classes:
        raise ValueError(f"{where}: iou has {len(values)} values; allowed: one for each of {num_classes} classes")
    return ValRow(
        step=_field(row, "step", int, where),
        loss=_finite(row, "loss", where),
        scores={name: _fraction(row, name, where) for name in SCORES},
        iou=tuple(_fraction(dict(enumerate(values)), c, f"{where}: iou") for c in range(num_classes)),
    )


def _read_evaluation(file: Path, classes: tuple[str, ...]) -> Evaluation:
    data = _json_object(file)
    if _list(data, "classes", str, file) != list(classes):
        raise ValueError(f"{file}: classes are {data['classes']}; allowed: those of the run, {list(classes)}")
    calibration = _field(data, "calibration", dict, file)
    bins = _field(calibration, "bins", dict, f"{file}: calibration")
    columns = [_field(bins, name, list, f"{file}: calibration: bins") for name in ("pixels", "confidence", "accuracy")]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"{file}: calibration: bins are of different lengths; allowed: one value per bin in each")
    row = _val_row({"step": 0} | data, len(classes), str(file))
    return Evaluation(
        scores=row.scores,
        iou=row.iou,
        boundary_f1=_fraction(data, "mean_boundary_f1", file),
        boundary_iou=_fraction(data, "mean_boundary_iou", file),
        ece=_fraction(calibration, "ece", f"{file}: calibration"),
        class_ece=_fraction(calibration, "mean_class_ece", f"{file}: calibration"),
        bins=tuple(zip(*columns, strict=True)),
        images=_read_images(file.with_name(f"{file.stem}_images.csv")),
        overlays=_read_overlays(overlay_folder(file.parent.parent, file.stem)),
    )


def overlay_folder(run: Path, split: str) -> Path:
    """Return where the pictures of an evaluated split lie in a run folder."""
    return run / "evaluation" / f"{split}_overlays"


def _read_images(file: Path) -> dict[str, float | None]:
    """Read the mIoU of each image; none where the file is missing."""
    if not file.is_file():
        return {}
    rows = list(csv.DictReader(_text(file).splitlines()))
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
        data = _json_object(file)
        pictures = {kind: folder / f"{file.stem}_{kind}.png" for kind in ("image", "target", "prediction")}
        for picture in pictures.values():
            if not picture.is_file():
                raise ValueError(f"{picture}: no such file, but {file.name} names it")
        overlays[file.stem] = Overlay(_field(data, "name", str, file), _fraction(data, "miou", file), **pictures)
    return overlays


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as text ({error})") from error


def _json_object(file: Path) -> dict[str, Any]:
    return _parse(_text(file), str(file))


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{where}: holds a {type(data).__name__}; allowed: a JSON object")
    return data


def _field(data: Mapping[Any, Any], key: Any, kind: type, where: object) -> Any:
    if key not in data:
        raise ValueError(f"{where}: {key!r} is missing")
    value = data[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: {key!r} is {value!r}; allowed: {kind.__name__}")
    return value


def _list(data: Mapping[str, Any], key: str, kind: type, where: object) -> list[Any]:
    values = _field(data, key, list, where)
    return [_field(dict(enumerate(values)), i, kind, f"{where}: {key}") for i in range(len(values))]


def _number(data: Mapping[Any, Any], key: Any, where: object) -> float:
    value = _finite(data, key, where)
    if value is None:
        raise ValueError(f"{where}: {key!r} is {data[key]!r}; allowed: a finite number")
    return value


def _finite(data: Mapping[Any, Any], key: Any, where: object) -> float | None:
    """Return a number, or None for null and for NaN and infinity, which Python writes into JSON too."""
    if key not in data:
        raise ValueError(f"{where}: {key!r} is missing")
    value = data[key]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{where}: {key!r} is {value!r}; allowed: a number or null")
    return float(value) if value is not None and math.isfinite(value) else None


def _fraction(data: Mapping[Any, Any], key: Any, where: object) -> float | None:
    value = _finite(data, key, where)
    if value is not None and not -1e-9 <= value <= 1 + 1e-9:
        raise ValueError(f"{where}: {key!r} is {value}; allowed: a fraction of 0..1 (not per cent) or null")
    return value


def _is_color(color: list[Any]) -> bool:
    return len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color)
