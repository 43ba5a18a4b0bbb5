"""What a report is made of: frozen records of runs, their evaluations, and the study they belong to."""

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
        labelled: pixels of each class; None in evaluations of earlier versions.
        predicted: pixels predicted as each class, likewise.
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
    labelled: tuple[int, ...] | None = None
    predicted: tuple[int, ...] | None = None


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
