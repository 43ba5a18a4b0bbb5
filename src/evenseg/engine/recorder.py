"""The callback that writes a run's rows and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip
from lightning.pytorch.loggers import Logger  # isort: skip

from evenseg.engine.distributed import mean_over_processes
from evenseg.engine.loggers import flat_metrics
from evenseg.engine.progress import StepProgress
from evenseg.engine.run_folder import RunFolder


class Recorder(lightning.Callback):
    """Writes training rows as means over `log_interval` steps, validation rows, the best weights and the checkpoints.

    Its state goes into the checkpoints, so that a resumed run writes the rows that the uninterrupted one would have
    written, to the last bit.

    Args:
        folder: of the run, made already.
        progress: shows where the run stands.
        iters: steps of the run.
        log_interval: steps between two training rows.
        eval_interval: steps between two evaluations; a checkpoint follows each.
        checkpoint_interval: steps between further checkpoints.
    `loggers` get every row, too. Of several processes only the first writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        progress: StepProgress,
        *,
        iters: int,
        log_interval: int,
        eval_interval: int,
        checkpoint_interval: int | None = None,
    ) -> None:
        self.folder, self.progress = folder, progress
        self.loggers: Sequence[Logger] = ()
        self._writes = True
        self._class_names: tuple[str, ...] = ()
        self.iters, self.log_interval = iters, log_interval
        self.eval_interval, self.checkpoint_interval = eval_interval, checkpoint_interval
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.steps = 0
        self.seconds = 0.0
        self.validation_seconds = 0.0
        self._start = self._validation_start = 0.0
        self._seconds_before = 0.0
        self._kept_rows = 0
        self._since_log: list[dict[str, Tensor]] = []
        self._rate = 0.0
        self._phase: int | None = None
        self.stopped_early = False

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "rows": len(self.folder.rows),
            "best": self.best,
            "last": self.last,
            "seconds": self._elapsed(),
            "validation_seconds": self.validation_seconds,
            "since_log": [dict(values) for values in self._since_log],
            "rate": self._rate,
            "phase": self._phase,
            "stopped_early": self.stopped_early,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self._kept_rows = state_dict["steps"], state_dict["rows"]
        self.best, self.last = state_dict["best"], state_dict["last"]
        self.seconds = self._seconds_before = state_dict["seconds"]
        self.validation_seconds = state_dict["validation_seconds"]
        self._since_log, self._rate, self._phase = state_dict["since_log"], state_dict["rate"], state_dict["phase"]
        self.stopped_early = state_dict["stopped_early"]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._writes = trainer.is_global_zero
        if self._writes:
            self.folder.keep_rows(self._kept_rows)
        if self.best is not None and self.folder.best_step() != self.best["step"]:
            # the weights on disk are of a later step that is now trained again: the next evaluation replaces them
            self.best = None
        # killed between the last evaluation of a run that stopped early and its summary
        trainer.should_stop = self.stopped_early
        self._start = time.perf_counter()
        self.progress.start(self.steps)
        self._class_names = pl_module.classes.names

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.phase != self._phase:
            self._change_phase(pl_module)
        self.steps = trainer.global_step
        self._rate = float(outputs["lr"])
        values = {"loss": outputs["loss"].detach()} | {f"term {k}": v.detach() for k, v in outputs["terms"].items()}
        self._since_log.append(values)
        if self.steps % self.log_interval == 0 or self.steps == self.iters:
            self._write_training_row()
        self.progress.advance(self.steps)
        evaluated = self.steps % self.eval_interval == 0 or self.steps == self.iters
        if self.checkpoint_interval and self.steps % self.checkpoint_interval == 0 and not evaluated:
            self._save_checkpoint(trainer)
        if self.steps == self.iters:
            # Lightning validates once more when asked to stop: the last step is evaluated whatever the interval
            trainer.should_stop = True

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        row = self._row("val") | pl_module.validation_row()
        self.last = row
        self._add_row(row)
        better = self.best is None or _score(row) > _score(self.best)
        self.best = row if better else self.best
        if self._writes:
            self.folder.write_csv(pl_module.classes.names)
            if better:
                self.folder.save_best(pl_module.evaluated.state_dict(), self.steps)
        self.validation_seconds += time.perf_counter() - self._validation_start
        self.stopped_early = trainer.should_stop and self.steps < self.iters
        # behind the evaluation, not before it: a run resumed from here has no evaluation to make up for
        self._save_checkpoint(trainer)
        self.progress.evaluated(self.steps, _score(row))
        if self.stopped_early:
            self.progress.say(f"step {self.steps}: the evaluations no longer improve (early_stop)")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds = self._elapsed()
        self.progress.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.progress.stop()

    def _elapsed(self) -> float:
        return round(self._seconds_before + time.perf_counter() - self._start, 3)

    def _save_checkpoint(self, trainer: Any) -> None:
        # the rows first: a checkpoint counts them
        if self._writes:
            self.folder.rows_to_disk()
        trainer.save_checkpoint(self.folder.checkpoints / f"step-{self.steps}")

    def _row(self, split: str) -> dict[str, Any]:
        row = {"step": self.steps, "split": split}
        return row if self._phase is None else row | {"phase": self._phase}

    def _add_row(self, row: dict[str, Any]) -> None:
        if not self._writes:
            return
        self.folder.add_row(row, self._elapsed())
        for logger in self.loggers:
            logger.log_metrics(flat_metrics(row, self._class_names), row["step"])

    def _change_phase(self, pl_module: Any) -> None:
        """Closes the row of the phase before, so that no row mixes two losses."""
        if self._since_log:
            self._write_training_row()
        if self._phase is not None:
            types = ", ".join(dict.fromkeys(type(loss).__name__ for loss in pl_module.loss.active.losses))
            self.progress.say(f"step {self.steps}: phase {pl_module.phase} of the loss begins ({types})")
        self._phase = pl_module.phase

    def _write_training_row(self) -> None:
        device = self._since_log[-1]["loss"].device  # those from a checkpoint come back on the CPU
        names = list(self._since_log[-1])
        table = torch.stack([torch.stack([values[name].to(device).float() for name in names]) for values in self._since_log])
        # summed exactly, and after one transfer for all
        means = dict(zip(names, mean_over_processes([fmean(column) for column in table.T.tolist()]), strict=True))
        self._since_log = []
        loss = means.pop("loss")
        terms = {name.removeprefix("term "): value for name, value in means.items()}
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} before step {self.steps} (terms: {terms}); a lower learning rate may help"
            )
        self.progress.loss = loss
        self._add_row(self._row("train") | {"loss": loss, "terms": terms, "lr": self._rate})


def _score(row: dict[str, Any]) -> float:
    return -1.0 if row["miou"] is None else row["miou"]
