"""The callback that writes a run's metrics and checkpoints and shows where it stands."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.engine.run_folder import RunFolder


class Recorder(lightning.Callback):
    """Writes training rows as means over `log_interval` steps, validation rows, the best and the last checkpoint.

    Args:
        folder: of the run, made already.
        iters: steps of the run.
        log_interval: steps between two training rows.
        title: shown beside the progress bar.
    """

    def __init__(self, folder: RunFolder, iters: int, log_interval: int, title: str) -> None:
        self.folder, self.iters, self.log_interval = folder, iters, log_interval
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.steps = 0
        self.seconds = 0.0
        self.validation_seconds = 0.0
        self._start = self._validation_start = 0.0
        self._since_log: list[dict[str, Tensor]] = []
        self._rate = 0.0
        self._phase: int | None = None
        self._progress = StepProgress(iters, title)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._start = time.perf_counter()
        self._progress.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.phase != self._phase:
            self._change_phase(pl_module)
        self.steps = trainer.global_step
        self._rate = float(outputs["lr"])
        values = {"loss": outputs["loss"].detach()} | {f"term {k}": v.detach() for k, v in outputs["terms"].items()}
        self._since_log.append(values)
        if self.steps % self.log_interval == 0 or self.steps == self.iters:
            self._write_training_row()
        self._progress.advance(self.steps)
        if self.steps == self.iters:
            # Lightning validates once more when asked to stop: the last step is evaluated whatever the interval
            trainer.should_stop = True

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        # behind the last step the validation may be asked for twice: by the interval and by should_stop
        row = self._row("val") | pl_module.validation_row()
        self.last = row
        self.folder.add_row(row)
        self.folder.write_csv(pl_module.classes.names)
        if self.best is None or _score(row) > _score(self.best):
            from safetensors.torch import save_file

            self.best = row
            weights = {name: value.contiguous() for name, value in pl_module.model.state_dict().items()}
            save_file(weights, self.folder.checkpoints / "best.safetensors")
        trainer.save_checkpoint(self.folder.checkpoints / "last.ckpt")
        self.validation_seconds += time.perf_counter() - self._validation_start
        self._progress.evaluated(self.steps, row)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds = self._elapsed()
        self._progress.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._progress.stop()

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._start, 3)

    def _row(self, split: str) -> dict[str, Any]:
        row = {"step": self.steps, "time": self._elapsed(), "split": split}
        return row if self._phase is None else row | {"phase": self._phase}

    def _change_phase(self, pl_module: Any) -> None:
        """Closes the row of the phase before, so that no row mixes two losses."""
        if self._since_log:
            self._write_training_row()
        if self._phase is not None:
            types = ", ".join(dict.fromkeys(type(loss).__name__ for loss in pl_module.loss.active.losses))
            self._progress.say(f"step {self.steps}: phase {pl_module.phase} of the loss begins ({types})")
        self._phase = pl_module.phase

    def _write_training_row(self) -> None:
        names = self._since_log[-1].keys()
        means = {name: float(torch.stack([row[name].float() for row in self._since_log]).mean()) for name in names}
        self._since_log = []
        loss = means.pop("loss")
        terms = {name.removeprefix("term "): value for name, value in means.items()}
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} before step {self.steps} (terms: {terms}); a lower learning rate may help"
            )
        row = self._row("train") | {"loss": loss, "terms": terms, "lr": self._rate}
        self._progress.loss = loss
        self.folder.add_row(row)


class StepProgress:
    """A bar with the time left on a terminal; one line per evaluation elsewhere. Both on stderr."""

    def __init__(self, iters: int, title: str) -> None:
        self.iters, self.title = iters, title
        self.loss = math.nan
        self._miou = ""
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._start = 0.0

    def start(self) -> None:
        self._start = time.perf_counter()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(self.title, total=self.iters, state="")
            self._bar.start()

    def advance(self, step: int) -> None:
        if self._bar is not None:
            state = f"loss {self.loss:.4f}{self._miou}" if math.isfinite(self.loss) else ""
            self._bar.update(self._task, completed=step, state=state)

    def evaluated(self, step: int, row: dict[str, Any]) -> None:
        self._miou = f" mIoU {_score(row):.4f}"
        self.advance(step)
        if self._bar is None:
            spent = time.perf_counter() - self._start
            left = spent / step * (self.iters - step)
            state = f"step {step}/{self.iters} loss {self.loss:.4f}{self._miou}"
            self.say(f"{state} ({spent:.0f} s, {left:.0f} s left)")

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(f"{self.title}: {text}", soft_wrap=True, highlight=False, markup=False)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _score(row: dict[str, Any]) -> float:
    return -1.0 if row["miou"] is None else row["miou"]
