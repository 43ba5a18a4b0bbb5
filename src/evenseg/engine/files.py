"""Writing files so that a killed process leaves the old one or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SaveError(ValueError):
    """A file of a run that could not be written: the disk is full."""


@contextlib.contextmanager
def naming_full_disks(folder: Path) -> Iterator[None]:
    """Turns "no space left" into a SaveError of one line that says how to go on; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SaveError(
            f"{folder}: {error.strerror} while saving; what was saved before is intact: free some space, then go on with "
            f"`evenseg train --resume {folder}`"
        ) from error


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `file`, which it replaces once the block has ended and every byte lies on the disk."""
    temporary = temporary_of(file)
    try:
        with temporary.open("wb") as stream:
            yield stream
            to_disk(stream)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder_to_disk(file.parent)


@contextlib.contextmanager
def replacing_path(file: Path) -> Iterator[Path]:
    """As `replacing`, for writers that want a path."""
    temporary = temporary_of(file)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            to_disk(stream)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder_to_disk(file.parent)


def temporary_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.tmp")


def remove_temporaries(folder: Path) -> None:
    """Takes away what a killed process was writing."""
    for file in folder.glob(".*.tmp"):
        file.unlink()


def to_disk(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def folder_to_disk(folder: Path) -> None:
    """Makes the names in a folder as durable as the files; where the system cannot, the rename is still atomic."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(file: Path, text: str) -> None:
    with replacing(file) as stream:
        stream.write(text.encode("utf-8"))


def write_json(file: Path, content: Any) -> None:
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
