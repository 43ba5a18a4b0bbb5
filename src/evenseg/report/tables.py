"""The numbers of a report: per cent over seeds, paired differences to the baseline, curves on shared steps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evenseg.report.folders import SCORES, Run, Study
from evenseg.report.statistics import MeanSd, PairedDifference, mean_sd, paired_difference

CONFIDENCE = 0.95
MAX_POINTS = 400


@dataclass(frozen=True)
class Column:
    """One column of the score table: what it shows, its unit and whether more is better."""

    title: str
    note: str
    value: Callable[[Run], float | None]
    percent: bool = True


@dataclass(frozen=True)
class Cell:
    """Mean ± sd of one score over the seeds of one loss; `leads` marks the best mean of its column."""

    summary: MeanSd
    leads: bool = False
    decimals: int = 2


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one loss; None where no run has one."""

    loss: str
    n: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Comparison:
    """A loss against the baseline on the seeds both finished, in percentage points of the study's metric."""

    loss: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    result: PairedDifference | None


@dataclass(frozen=True)
class ClassCell:
    """IoU of one class for one loss in per cent, and its mean paired difference to the baseline in points."""

    summary: MeanSd | None
    delta: float | None


@dataclass(frozen=True)
class ClassRow:
    """One class: name, colour, and a cell for each loss."""

    name: str
    color: tuple[int, int, int]
    cells: tuple[ClassCell, ...]


@dataclass(frozen=True)
class Curve:
    """Mean over runs at the steps they share, with the smallest and the largest value; per cent or plain."""

    steps: tuple[int, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    n: int


def _best(score: str) -> Callable[[Run], float | None]:
    return lambda run: run.best.scores[score]


SCORE_COLUMNS = (
    Column("mIoU, best", "highest validation mIoU of the run", _best("miou")),
    Column("mIoU, last", "validation mIoU after the last step", lambda run: run.last.scores["miou"]),
    Column("per-image mIoU", "mean over images of each image's mIoU, at the best step", _best("per_image_miou")),
    Column("mean accuracy", "mean recall of the classes, at the best step", _best("mean_accuracy")),
    Column("mean Dice", "mean Dice of the classes, at the best step", _best("mean_dice")),
    Column("seconds/step", "wall-clock seconds for one training step", lambda run: run.seconds_per_step, False),
)


def summarise(values: Iterable[float | None], scale: float = 100.0) -> MeanSd | None:
    """Mean and sd of the values that exist, times `scale` (fractions to per cent); None where there is none."""
    known = [scale * value for value in values if value is not None]
    return mean_sd(known) if known else None


def score_table(study: Study) -> list[ScoreRow]:
    """One row for each loss, in the study's order."""
    columns: list[list[MeanSd | None]] = []
    for column in SCORE_COLUMNS:
        scale = 100.0 if column.percent else 1.0
        columns.append([summarise(map(column.value, study.of(loss).values()), scale) for loss in study.losses])
    marked = []
    for column, summaries in zip(SCORE_COLUMNS, columns):
        means = [summary.mean for summary in summaries if summary is not None]
        lead = (max if column.percent else min)(means) if len(set(means)) > 1 else None
        # a second takes as many digits as it needs to tell two losses apart
        decimals = 2 if column.percent or not means or min(means) >= 1 else 4
        marked.append([None if s is None else Cell(s, s.mean == lead, decimals) for s in summaries])
    return [
        ScoreRow(loss, len(study.of(loss)), tuple(column[i] for column in marked))
        for i, loss in enumerate(study.losses)
    ]


def compare_to_baseline(study: Study) -> list[Comparison]:
    """Paired differences of every other loss to the first one, in percentage points of the best validation."""
    baseline = study.of(study.losses[0])
    comparisons = []
    for loss in study.losses[1:]:
        pairs = []
        for seed, run in study.of(loss).items():
            ours = run.best.scores[study.metric]
            theirs = baseline[seed].best.scores[study.metric] if seed in baseline else None
            if ours is not None and theirs is not None:
                pairs.append((seed, 100 * ours, 100 * theirs))
        result = paired_difference([p[1] for p in pairs], [p[2] for p in pairs], CONFIDENCE) if pairs else None
        comparisons.append(Comparison(loss, tuple(p[0] for p in pairs), tuple(p[1] - p[2] for p in pairs), result))
    return comparisons


def class_table(study: Study) -> list[ClassRow]:
    """IoU of each class at the best step of each run."""
    colors = next(iter(study.runs.values())).colors if study.runs else ((128, 128, 128),) * len(study.classes)
    baseline = study.of(study.losses[0])
    rows = []
    for c, name in enumerate(study.classes):
        cells = []
        for i, loss in enumerate(study.losses):
            runs = study.of(loss)
            deltas = []
            for seed, run in runs.items():
                ours, theirs = run.best.iou[c], baseline[seed].best.iou[c] if seed in baseline else None
                if i and ours is not None and theirs is not None:
                    deltas.append(100 * (ours - theirs))
            summary = summarise(run.best.iou[c] for run in runs.values())
            cells.append(ClassCell(summary, mean_sd(deltas).mean if deltas else None))
        rows.append(ClassRow(name, colors[c], tuple(cells)))
    return rows


def score_curve(runs: Sequence[Run], score: str) -> Curve | None:
    """A validation score against the step, in per cent."""
    if score not in SCORES:
        raise ValueError(f"score is {score!r}; allowed: " + ", ".join(map(repr, SCORES)))
    tracks = [{row.step: row.scores[score] for row in run.val} for run in runs]
    return _band(tracks, 100.0)


def loss_curves(runs: Sequence[Run]) -> dict[str, Curve]:
    """The training loss ("loss") and its terms by name; neighbouring log rows are averaged to at most 400 points.

    A loss that is its only term is given once.
    """
    names = list(dict.fromkeys(name for run in runs for row in run.train for name in row.terms))
    tracks = {"loss": [{row.step: row.loss for row in run.train} for run in runs]}
    for name in names:
        tracks[name] = [{row.step: row.terms[name] for row in run.train if name in row.terms} for run in runs]
    if len(names) == 1 and tracks[names[0]] == tracks["loss"]:
        del tracks[names[0]]
    curves = {name: _band([_thin(t) for t in by_run], 1.0) for name, by_run in tracks.items()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def _thin(track: dict[int, float | None]) -> dict[int, float | None]:
    """Average blocks of neighbouring rows, so that the page stays small however long the run was."""
    steps = sorted(track)
    size = -(-len(steps) // MAX_POINTS)
    if size <= 1:
        return track
    thinned = {}
    for start in range(0, len(steps), size):
        block = steps[start : start + size]
        summary = summarise((track[step] for step in block), 1.0)
        thinned[block[-1]] = summary.mean if summary else None
    return thinned


def _band(tracks: Sequence[dict[int, float | None]], scale: float) -> Curve | None:
    """Mean, minimum and maximum at the steps all tracks have; a missing value at a step leaves a gap."""
    tracks = [track for track in tracks if track]
    if not tracks:
        return None
    steps = sorted(set.intersection(*(set(track) for track in tracks)))
    if not steps:
        return None
    mean, low, high = [], [], []
    for step in steps:
        values = [track[step] for track in tracks]
        known = [scale * value for value in values if value is not None]
        whole = len(known) == len(values)
        mean.append(mean_sd(known).mean if whole else None)
        low.append(min(known) if whole else None)
        high.append(max(known) if whole else None)
    return Curve(tuple(steps), tuple(mean), tuple(low), tuple(high), len(tracks))
