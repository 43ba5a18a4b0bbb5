"""Checkpoints of a run: `step-STEP-CHECKSUM.ckpt`, each written whole before it gets its name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

from lightning.pytorch.plugins.io import CheckpointIO  # isort: skip

from evenseg.engine.files import folder_to_disk, temporary_of, to_disk

# as torch.hub does it: with the checksum in the name, one rename publishes the file and its proof together
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")


class CheckpointFiles(CheckpointIO):
    """Lightning's checkpoints written atomically; of `step-N` only the newest `keep` stay.

    Args:
        keep: how many checkpoints stay; at least 2, so that a damaged one has one before it.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes `PATH-CHECKSUM.ckpt`."""
        path = Path(path)
        temporary = temporary_of(path)
        try:
            with temporary.open("wb") as stream:
                writer = _HashingWriter(stream)
                writer.save(checkpoint)
                to_disk(stream)
            os.replace(temporary, path.with_name(f"{path.name}-{writer.checksum()}.ckpt"))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder_to_disk(path.parent)
        for old in list_checkpoints(path.parent)[self.keep :]:
            old.unlink()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads data only, never code, whatever is asked for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class _HashingWriter:
    """A stream that hashes what passes through, so that the file need not be read again."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._hash = stream, hashlib.sha256()
        self._error: OSError | None = None

    def save(self, content: Any) -> None:
        try:
            torch.save(content, self)  # type: ignore[arg-type]
        except RuntimeError:
            # torch reports a failed write as its own broken zip file
            if self._error is not None:
                raise self._error from None
            raise

    def write(self, data: Any) -> int:
        try:
            written = self._stream.write(data)
        except OSError as error:
            self._error = error
            raise
        self._hash.update(data)
        return written

    def flush(self) -> None:
        self._stream.flush()

    def checksum(self) -> str:
        return self._hash.hexdigest()[:16]


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, the newest first."""
    found = [(match, file) for file in folder.glob("step-*.ckpt") if (match := _NAME.fullmatch(file.name))]
    return [file for match, file in sorted(found, key=lambda pair: int(pair[0][1]), reverse=True)]


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def step_of(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def latest_checkpoint(folder: Path, say: Callable[[str], None] = lambda line: None) -> Path | None:
    """Returns the newest checkpoint whose content has the checksum of its name; None where there is none at all.

    Args:
        folder: the run's checkpoints.
        say: takes one line about each damaged checkpoint.

    Raises:
        ValueError: there are checkpoints, and all of them are damaged.
    """
    found = list_checkpoints(folder)
    for file in found:
        checksum = _checksum(file)
        if file.name.endswith(f"-{checksum}.ckpt"):
            return file
        say(f"{file} is damaged (its content has the checksum {checksum}); going back to the checkpoint before it")
    if found:
        raise ValueError(f"{folder}: every checkpoint is damaged ({', '.join(file.name for file in found)}); train the run again")
    return None
