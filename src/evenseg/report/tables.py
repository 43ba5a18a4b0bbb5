"""The numbers of a report: per cent over seeds, paired differences to the baseline, curves on shared steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evenseg.report.records import SCORES, Evaluation, Run, Study
from evenseg.report.statistics import MeanSd, PairedDifference, bootstrap_interval, holm, mean_sd, paired_difference

CONFIDENCE = 0.95
MAX_POINTS = 400
MIN_BOOTSTRAP = 3  # with two differences a bootstrap knows three means


@dataclass(frozen=True)
class Column:
    """One column of the score table: what it shows and its unit; of per cent more is better, of the rest less."""

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
    """A loss against the baseline on the seeds both finished, in percentage points of the study's metric.

    Attributes:
        loss: compared with the baseline.
        seeds: that both finished.
        differences: of each seed.
        result: their mean with interval and p-value; None without a pair.
        p_holm: the p-value after Holm's correction for all losses compared; None for one seed.
        bootstrap: interval over seeds; None for fewer than MIN_BOOTSTRAP.
    """

    loss: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    result: PairedDifference | None
    p_holm: float | None = None
    bootstrap: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """Of the interval, but "uncorrected" where it leaves out 0 and Holm's correction does not."""
        if self.result is None:
            return "no pair"
        shown = self.result.verdict in ("better", "worse")
        if shown and self.p_holm is not None and self.p_holm >= 1 - self.result.confidence:
            return "uncorrected"
        return self.result.verdict


@dataclass(frozen=True)
class ImageComparison:
    """A loss against the baseline image by image, in points of per-image mIoU, each image averaged over the seeds.

    Attributes:
        loss: compared with the baseline.
        differences: image name -> difference.
        mean: over images.
        bootstrap: interval over images, with the trained networks as they are; None for fewer than two images.
        better: images where the loss is higher.
        worse: images where it is lower.
    """

    loss: str
    differences: Mapping[str, float]
    mean: float
    bootstrap: tuple[float, float] | None
    better: int
    worse: int


@dataclass(frozen=True)
class ClassCell:
    """IoU of one class for one loss in per cent, and its paired difference to the baseline in points.

    Attributes:
        summary: mean and sd over the seeds.
        delta: mean difference over the seeds both finished.
        gain: the same with its interval.
    """

    summary: MeanSd | None
    delta: float | None
    gain: PairedDifference | None = None


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
    Column(
        "peak memory, MB",
        "largest memory while training: allocated on the GPU, else of the whole process",
        lambda run: None if run.peak_memory is None else run.peak_memory / 1e6,
        False,
    ),
)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


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
        decimals = 2 if column.percent or not means else 0 if min(means) >= 100 else 2 if min(means) >= 1 else 4
        marked.append([None if s is None else Cell(s, s.mean == lead, decimals) for s in summaries])
    return [
        ScoreRow(loss, len(study.of(loss)), tuple(column[i] for column in marked))
        for i, loss in enumerate(study.losses)
    ]


def compare_to_baseline(study: Study) -> list[Comparison]:
    """Paired differences of every other loss to the first one, in percentage points of what the study is judged by."""
    baseline = study.of(study.losses[0])
    comparisons = []
    for loss in study.losses[1:]:
        pairs = []
        for seed, run in study.of(loss).items():
            ours = study.scores(run)[study.metric]
            theirs = study.scores(baseline[seed])[study.metric] if seed in baseline else None
            if ours is not None and theirs is not None:
                pairs.append((seed, 100 * ours, 100 * theirs))
        result = paired_difference([p[1] for p in pairs], [p[2] for p in pairs], CONFIDENCE) if pairs else None
        differences = tuple(p[1] - p[2] for p in pairs)
        interval = bootstrap_interval(differences, CONFIDENCE) if len(pairs) >= MIN_BOOTSTRAP else None
        comparisons.append(Comparison(loss, tuple(p[0] for p in pairs), differences, result, bootstrap=interval))
    tested = [i for i, c in enumerate(comparisons) if c.result is not None and c.result.p is not None]
    adjusted = holm([comparisons[i].result.p for i in tested])  # type: ignore[union-attr,misc]
    for i, p in zip(tested, adjusted, strict=True):
        comparisons[i] = replace(comparisons[i], p_holm=p)
    return comparisons


def compare_images(study: Study) -> list[ImageComparison]:
    """Image by image differences to the baseline, where every run was evaluated; on the test images, else on validation."""
    if not study.evaluated:
        return []
    split = study.evaluated[0]
    baseline = study.of(study.losses[0])
    comparisons = []
    for loss in study.losses[1:]:
        by_image: dict[str, list[float]] = {}
        for seed, run in study.of(loss).items():
            theirs = baseline[seed].evaluations[split].images if seed in baseline else {}
            for name, ours in run.evaluations[split].images.items():
                other = theirs.get(name)
                if ours is not None and other is not None:
                    by_image.setdefault(name, []).append(100 * (ours - other))
        differences = {name: mean_sd(values).mean for name, values in by_image.items()}
        if not differences:
            continue
        values = list(differences.values())
        interval = bootstrap_interval(values, CONFIDENCE) if len(values) > 1 else None
        better, worse = sum(v > 0 for v in values), sum(v < 0 for v in values)
        comparisons.append(ImageComparison(loss, differences, mean_sd(values).mean, interval, better, worse))
    return comparisons


@dataclass(frozen=True)
class TellingImage:
    """An image worth looking at, and why."""

    name: str
    why: str


def runs_to_show(study: Study) -> tuple[int, dict[str, Run | None]]:
    """Return the first of the seeds with which the most losses finished, and its runs by loss."""
    seed = max(study.seeds, key=lambda seed: sum((loss, seed) in study.runs for loss in study.losses))
    return seed, {loss: study.runs.get((loss, seed)) for loss in study.losses}


def telling_images(study: Study, losses: int = 3) -> list[TellingImage]:
    """The images, of the seed that the report shows, where a loss gains and loses most, then the worst and the best one.

    Args:
        study: whose runs were evaluated; without evaluations there are none.
        losses: how many losses beside the baseline are looked at.
    """
    if not study.evaluated:
        return []
    split = study.evaluated[0]
    _, runs = runs_to_show(study)
    scores = {loss: run.evaluations[split].images for loss, run in runs.items() if run is not None}
    found: dict[str, str] = {}
    baseline = scores.get(study.losses[0], {})
    for loss in [loss for loss in study.losses[1:] if loss in scores][:losses]:
        gains = [
            (100 * (ours - theirs), name)
            for name, ours in scores[loss].items()
            if ours is not None and (theirs := baseline.get(name)) is not None
        ]
        if not gains:
            continue
        for gain, name, verb in ((*max(gains), "gains"), (*min(gains), "loses")):
            if gain > 0 if verb == "gains" else gain < 0:
                found.setdefault(name, f"where {loss} {verb} most on {study.losses[0]}: {_signed(gain)} points")
    names = [name for name in next(iter(scores.values()), {}) if all(name in images for images in scores.values())]
    means = sorted(
        (summary.mean, name) for name in names if (summary := summarise(images[name] for images in scores.values()))
    )
    if means:
        found.setdefault(means[0][1], "the worst of all, averaged over the losses")
        found.setdefault(means[-1][1], "the best of all, averaged over the losses")
    return [TellingImage(name, why) for name, why in found.items()]


@dataclass(frozen=True)
class MeasureRow:
    """What `evenseg evaluate` measured of one loss on one split, over its seeds."""

    loss: str
    n: int
    cells: tuple[Cell | None, ...]


MEASURES: tuple[tuple[str, str, Callable[[Evaluation], float | None], bool], ...] = (
    ("mIoU", "over all pixels of the split", lambda e: e.scores["miou"], True),
    ("per-image mIoU", "mean over images of each image's mIoU", lambda e: e.scores["per_image_miou"], True),
    ("boundary F1", "mean over classes, of boundary pixels matched within a tolerance", lambda e: e.boundary_f1, True),
    ("boundary IoU", "mean over classes, of bands along the boundaries", lambda e: e.boundary_iou, True),
    ("ECE", "expected calibration error of the predicted class; lower is better", lambda e: e.ece, False),
    ("class ECE", "mean over classes of the calibration error; lower is better", lambda e: e.class_ece, False),
)


def measure_table(study: Study, split: str) -> list[MeasureRow]:
    """One row for each loss, of MEASURES in per cent; every finished run must have been evaluated on `split`."""
    columns = [
        [summarise(measure(run.evaluations[split]) for run in study.of(loss).values()) for loss in study.losses]
        for _, _, measure, _ in MEASURES
    ]
    marked = []
    for (_, _, _, more_is_better), summaries in zip(MEASURES, columns):
        means = [summary.mean for summary in summaries if summary is not None]
        lead = (max if more_is_better else min)(means) if len(set(means)) > 1 else None
        marked.append([None if s is None else Cell(s, s.mean == lead) for s in summaries])
    return [
        MeasureRow(loss, len(study.of(loss)), tuple(column[i] for column in marked))
        for i, loss in enumerate(study.losses)
    ]


def reliability(study: Study, loss: str, split: str) -> list[tuple[float, float, int]]:
    """Confidence and accuracy in per cent and pixels of each filled bin, over all runs of a loss."""
    sums: dict[int, list[float]] = {}
    for run in study.of(loss).values():
        for k, (pixels, confidence, accuracy) in enumerate(run.evaluations[split].bins):
            if pixels and confidence is not None and accuracy is not None:
                total = sums.setdefault(k, [0.0, 0.0, 0.0])
                for place, value in enumerate((pixels, pixels * confidence, pixels * accuracy)):
                    total[place] += value
    return [(100 * c / n, 100 * a / n, int(n)) for _, (n, c, a) in sorted(sums.items())]


def class_table(study: Study) -> list[ClassRow]:
    """IoU of each class: on the test images where every run was evaluated on them, else at the best step of each run."""
    colors = next(iter(study.runs.values())).colors if study.runs else ((128, 128, 128),) * len(study.classes)
    baseline = study.of(study.losses[0])
    rows = []
    for c, name in enumerate(study.classes):
        cells = []
        for i, loss in enumerate(study.losses):
            runs = study.of(loss)
            deltas = []
            for seed, run in runs.items():
                ours = study.class_iou(run)[c]
                theirs = study.class_iou(baseline[seed])[c] if seed in baseline else None
                if i and ours is not None and theirs is not None:
                    deltas.append(100 * (ours - theirs))
            summary = summarise(study.class_iou(run)[c] for run in runs.values())
            gain = paired_difference(deltas, [0.0] * len(deltas), CONFIDENCE) if deltas else None
            cells.append(ClassCell(summary, gain.mean if gain else None, gain))
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
