"""Where a run stands, on stderr."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StepProgress:
    """A bar with the time left on a terminal; one line per evaluation elsewhere. Both on stderr.

    Args:
        iters: steps of the run.
        title: what stands before every line.
        silent: show nothing (ranks other than the first).
    """

    def __init__(self, iters: int, title: str, *, silent: bool = False) -> None:
        self.iters, self.title = iters, title
        self.loss = math.nan
        self._miou = ""
        self._console = Console(stderr=True, quiet=silent)
        self._bar: Progress | None = None
        self._start, self._first = 0.0, 0

    def start(self, step: int = 0) -> None:
        """Begins at `step`: what an earlier part of the run did is no measure of this one's speed."""
        self._start, self._first = time.perf_counter(), step
        if self._console.is_terminal and not self._console.quiet:
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
            self._task = self._bar.add_task(self.title, total=self.iters, completed=step, state="")
            self._bar.start()

    def advance(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, state=self._state())

    def evaluated(self, step: int, miou: float) -> None:
        self._miou = f" mIoU {miou:.4f}"
        self.advance(step)
        if self._bar is None:
            spent = time.perf_counter() - self._start
            left = spent / max(1, step - self._first) * (self.iters - step)
            self.say(f"step {step}/{self.iters} {self._state()} ({spent:.0f} s, {left:.0f} s left)")

    def _state(self) -> str:
        """The last loss and mIoU; before the first row of training there is no loss."""
        loss = f"loss {self.loss:.4f}" if math.isfinite(self.loss) else ""
        return f"{loss}{self._miou}".strip()

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(f"{self.title}: {text}", soft_wrap=True, highlight=False, markup=False)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
