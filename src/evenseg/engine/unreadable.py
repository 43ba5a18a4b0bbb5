"""Images that cannot be read in the middle of a run: named, counted and left out, or one clear line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.data import Sample, UnreadableFileError
from evenseg.engine.files import write_json


class UnreadableImages(lightning.Callback):
    """Counts the pairs that samples say were skipped, writes them to `unreadable.json`, and names them at the end.

    The counts go into the checkpoints, so that a resumed run goes on counting.

    Args:
        folder: of the run; None writes nothing.
        title: before the line at the end.
    """

    def __init__(self, folder: Path | None = None, title: str = "") -> None:
        self.folder, self.title = folder, title
        self.counts: dict[str, dict[str, int]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"counts": {message: dict(splits) for message, splits in self.counts.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts = state_dict["counts"]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Sample, batch_idx: int) -> None:
        self._count(batch, "train", trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._count(batch, "val", trainer.global_rank)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.counts:
            times = sum(sum(splits.values()) for splits in self.counts.values())
            pairs = f"{len(self.counts)} unreadable pair{'s' if len(self.counts) > 1 else ''}"
            where = f"; all in {_file(self.folder, trainer.global_rank)}" if self.folder else ""
            listed = "; ".join(list(self.counts)[:3])
            print(f"{self.title}: {pairs} skipped, {times} times in all: {listed}{where}", file=sys.stderr)

    def _count(self, batch: Sample, split: str, rank: int) -> None:
        messages = [line for lines in batch.unreadable for line in lines.splitlines()]
        for message in messages:
            splits = self.counts.setdefault(message, {"train": 0, "val": 0})
            splits[split] += 1
        if messages and self.folder is not None:
            rows = [{"message": message, "skipped": splits} for message, splits in self.counts.items()]
            write_json(_file(self.folder, rank), {"files": rows})


@contextmanager
def clear_data_errors() -> Iterator[None]:
    """Gives errors of data workers their own words back, and says what to do about files that cannot be read.

    Raises:
        UnreadableFileError: with the way to go on.
        ValueError: what a data worker raised, without the traceback that torch puts into its message; or a worker that
            was killed.
    """
    try:
        yield
    except UnreadableFileError as error:
        raise UnreadableFileError(
            f"{_own_words(error)}; `on_unreadable: skip` goes on without images that cannot be read"
        ) from error
    except ValueError as error:
        if (words := _own_words(error)) == str(error):
            raise
        raise ValueError(words) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "exited unexpectedly" not in str(error):
            raise
        raise ValueError(
            f"a data worker was killed ({' '.join(str(error).split())}): most often for lack of memory; "
            "use fewer num_workers, or 0"
        ) from error


def _own_words(error: Exception) -> str:
    """Returns the message that was raised in a worker process, from the traceback that torch makes of it."""
    text = str(error)
    if not text.startswith(f"Caught {type(error).__name__} in DataLoader worker process"):
        return text
    raised = re.findall(rf"^(?:[\w.]+\.)?{type(error).__name__}: (.*)$", text, re.MULTILINE)
    return raised[-1] if raised else text


def _file(folder: Path, rank: int) -> Path:
    """Returns where a process of the run writes: each has its own samples, so each has its own file."""
    return folder / ("unreadable.json" if rank == 0 else f"unreadable-rank{rank}.json")
