"""One process of a study: takes runs from the queue until none is left."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.config import Config, dump_config, load_config
from evenseg.engine import Experiment, check_signatures, evaluate, is_finished, is_resumable, resolve, run
from evenseg.engine.identity import deciding_settings
from evenseg.engine.recorder import Recorder
from evenseg.study.plan import PlannedRun, Variant
from evenseg.study.queue import Claim, Entry, Queue, State


@dataclass(frozen=True)
class Job:
    """What every process of a study needs to know; travels to worker processes.

    Attributes:
        study: the study folder.
        variants: the first is the baseline.
        seeds: of every variant.
        plan: the runs, in their order.
        storage: Optuna's, see `evenseg.study.queue`.
        name: of the Optuna study.
        folder_id: of the study folder.
        grid: key path -> values.
        prune: stop runs that lag behind.
        splits: to measure the best weights of every run on.
    """

    study: Path
    variants: Sequence[Variant]
    seeds: Sequence[int]
    plan: Sequence[PlannedRun]
    storage: str
    name: str
    folder_id: str
    grid: Mapping[str, Sequence[Any]]
    prune: bool
    splits: Sequence[str]

    def queue(self) -> Queue:
        """Opens the queue."""
        choices = {"loss": list(dict.fromkeys(variant.loss for variant in self.variants)), **self.grid}
        entries = [
            Entry(one.key, one.folder, {"loss": one.variant.loss, "seed": one.seed, **one.variant.settings})
            for one in self.plan
        ]
        return Queue(self.storage, self.name, entries, choices, self.folder_id, self._pruner() if self.prune else None)

    def title(self, one: PlannedRun) -> str:
        """Returns how a run is called on the screen."""
        return f"[{self.plan.index(one) + 1}/{len(self.plan)}] {one.variant.name}, seed {one.seed}"

    def _pruner(self) -> Any:
        import optuna

        # hopeless: after a third of the steps still in the lowest quarter of at least four finished runs at that step
        iters = max(variant.config.iters for variant in self.variants)
        return optuna.pruners.PercentilePruner(75.0, n_startup_trials=4, n_warmup_steps=iters // 3)


class Experiments:
    """The checked experiments of the variants; the masks are read again only where the data or the model differ."""

    def __init__(self) -> None:
        self._resolved: dict[str, Experiment] = {}
        self._checked: list[Config] = []

    def of(self, variant: Variant) -> Experiment:
        """Returns the experiment of a variant; raises ConfigError as `resolve` does."""
        point = variant.point
        key = dump_config(point.model_copy(update={"loss": None, "losses": None, "optimizer": None, "lr_scheduler": None, "iters": 1}))
        if key not in self._resolved:
            self._resolved[key] = resolve(point)
            self._checked.append(point)
        elif point not in self._checked:
            check_signatures(point)
            self._checked.append(point)
        return replace(self._resolved[key], config=variant.config)


def work(
    job: Job,
    queue: Queue,
    experiments: Experiments,
    say: Callable[[str], None],
    after_each: Callable[[Queue], None],
) -> None:
    """Trains runs of the queue until there is none left that this process could take.

    A run that fails is recorded with its reason and the next one is taken; an interrupt puts the run back.

    Args:
        job: the study.
        queue: of this job.
        experiments: of this process.
        say: takes one line about each run.
        after_each: called behind every run.
    """
    planned = {one.key: one for one in job.plan}
    while True:
        with queue.claim() as claim:
            if claim is None:
                return
            one = planned[claim.entry.key]
            _train(job, one, claim, experiments, say)
        after_each(queue)


def measure(one: PlannedRun, splits: Sequence[str]) -> None:
    """Measures the run's best weights on the splits it has not been measured on."""
    for split in splits:
        if not (one.folder / "evaluation" / f"{split}.json").is_file():
            evaluate(one.folder, split)  # type: ignore[arg-type]


def _train(job: Job, one: PlannedRun, claim: Claim, experiments: Experiments, say: Callable[[str], None]) -> None:
    title = job.title(one)

    def train() -> float | None:
        if is_finished(one.folder) and not claim.overwrite:
            check_same(one.folder, one.config)
            say(f"{title}: finished before, kept")
        else:
            report = ReportScores(claim.live_trial(), prunable=job.prune and one.variant.name != job.variants[0].name)
            experiment = replace(experiments.of(one.variant), config=one.config)
            train_or_go_on(experiment, one.folder, title, [report], overwrite=claim.overwrite)
        measure(one, job.splits)
        return read_score(one.folder)

    settle(claim, title, say, train)


def train_or_go_on(experiment: Experiment, folder: Path, title: str, callbacks: Sequence[Any], *, overwrite: bool = False) -> None:
    """Trains a run, from its last checkpoint where it was broken off."""
    going_on = not overwrite and is_resumable(folder)
    if going_on:
        check_same(folder, experiment.config)
    run(experiment, folder, overwrite=overwrite, title=title, going_on=going_on, callbacks=callbacks)


def settle(claim: Claim, title: str, say: Callable[[str], None], train: Callable[[], float | None]) -> None:
    """Trains what was claimed and ends its trial with the score, or with the reason why there is none."""
    try:
        score = train()
    except PrunedError as pruned:
        claim.prune(str(pruned))
        say(f"{title}: {pruned}")
    except Exception as error:
        # whatever ends one run must not end the others; the reason is kept and the report shows it
        reason = " ".join(str(error).split()) or "no message"
        if not isinstance(error, ValueError):
            # no mistake of the user's: whoever looks into it needs to know where it was raised
            reason = f"{type(error).__name__}: {reason}"
            say(traceback.format_exc().rstrip())
        claim.fail(reason)
        say(f"{title}: failed: {reason}")
    else:
        claim.finish(score)


class PrunedError(Exception):
    """A run was stopped because it lagged behind."""


class ReportScores(lightning.Callback):
    """Tells Optuna every validation score, and stops the run where its pruner says so.

    Args:
        trial: Optuna's handle.
        prunable: whether the run may be stopped.
        score: of a validation row; None where it is undefined.
        name: of the score, for the reason.
        lagging: what the pruner stops, for the reason.
    """

    def __init__(
        self,
        trial: Any,
        *,
        prunable: bool,
        score: Callable[[Mapping[str, Any]], float | None] = itemgetter("miou"),
        name: str = "mIoU",
        lagging: str = "in the lowest quarter",
    ) -> None:
        self._trial, self._prunable = trial, prunable
        self._score, self._name, self._lagging = score, name, lagging
        self._reported: set[int] = set()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        recorder = next(callback for callback in trainer.callbacks if isinstance(callback, Recorder))
        row = recorder.last
        score = None if row is None else self._score(row)
        # behind the last step the validation may run twice
        if row is None or score is None or row["step"] in self._reported:
            return
        self._reported.add(row["step"])
        self._trial.report(score, row["step"])
        if self._prunable and row["step"] < recorder.iters and self._trial.should_prune():
            raise PrunedError(
                f"pruned at step {row['step']} of {recorder.iters} with {self._name} {100 * score:.2f} %: "
                f"{self._lagging} of the runs at that step"
            )


def check_same(folder: Path, config: Config) -> None:
    """Raises ValueError when a run in the way was made from another configuration."""
    before = deciding_settings(load_config(folder / "config.yaml"))
    now = deciding_settings(config)
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise ValueError(
            f"{folder} holds a run of another configuration (differs in {', '.join(changed)}); "
            "choose another --output or pass --overwrite"
        )


def read_score(folder: Path) -> float | None:
    """Returns the best validation mIoU of a finished run."""
    best = json.loads((folder / "summary.json").read_text("utf-8"))["best"]
    return None if best["miou"] is None else float(best["miou"])


def why_not_finished(state: State) -> str:
    """Returns what the report says about a run without a result; empty where the run folder tells more."""
    if state.state == "failed":
        return f"failed: {state.reason}"
    if state.state == "pruned":
        return state.reason
    return ""
