"""Files that a loss reads, of which a run folder keeps copies: a run goes on and is evaluated when the originals are gone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evenseg.config import Config

FOLDER = "files"


def with_kept_files(config: Config, section: Any) -> Any:
    """A loss section, with the paths of files replaced by those of the copies beside the configuration, where there are any.

    The configuration itself keeps the paths as they were written, so that it stays that of the run's checkpoints.
    """
    folder = None if config.source is None else config.source.parent / FOLDER
    if folder is None or not folder.is_dir():
        return section
    return _replaced(section, folder)


def keep_files(config: Config, folder: Path) -> None:
    """Copies the files that the loss of a run reads into the run folder."""
    resolved = dict(_named(with_kept_files(config, config.loss)))
    for place, path in _named(config.loss):
        source = Path(resolved[place])
        if source.is_file():
            (folder / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source, folder / FOLDER / copy_name(path))


def copy_name(path: str) -> str:
    """Name of the copy: that of the file, with a mark of its path, since files of several folders may share a name."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:8]}-{Path(path).name}"


def _file_keywords(section: Mapping[str, Any]) -> tuple[str, ...]:
    from evenseg.losses import LOSSES

    loss = LOSSES.get(str(section.get("type")))
    return tuple(getattr(loss, "files", ()))


def _named(section: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yields where in a loss section a file is named, and its path."""
    if isinstance(section, Mapping):
        names = _file_keywords(section)
        for key, value in section.items():
            if key in names and isinstance(value, str):
                yield (*place, key), value
            else:
                yield from _named(value, (*place, key))
    elif isinstance(section, list | tuple):
        for index, value in enumerate(section):
            yield from _named(value, (*place, index))


def _replaced(section: Any, folder: Path) -> Any:
    if isinstance(section, Mapping):
        names = _file_keywords(section)
        return {
            key: _copy_of(value, folder) if key in names and isinstance(value, str) else _replaced(value, folder)
            for key, value in section.items()
        }
    if isinstance(section, list | tuple):
        return [_replaced(value, folder) for value in section]
    return section


def _copy_of(path: str, folder: Path) -> str:
    copy = folder / copy_name(path)
    return str(copy) if copy.is_file() else path
