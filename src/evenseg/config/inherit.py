"""`_base_`: a YAML file that builds on others. Mappings merge, everything else is replaced, `_delete_: true` starts anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenseg.config.errors import ConfigError, join_path, nearest_name

BASE, DELETE = "_base_", "_delete_"


@dataclass(frozen=True)
class Leaf:
    """A value or a list, with the file it is written in."""

    value: Any
    file: Path


Tree = dict[Any, Any]  # key -> Tree or Leaf


def read_inherited(file: Path) -> tuple[dict[Any, Any], dict[str, Path]]:
    """Reads a file with all its bases.

    Bases are laid over each other in their order and the file itself on top. Their paths are relative to the file that
    names them.

    Returns:
        The merged content, interpolations still as text, and for every key path the file that its value is written in.

    Raises:
        ConfigError: a file is missing or no YAML mapping, bases that lead back to a file that is being read, or a
            `_base_` or `_delete_` of the wrong form.
    """
    tree = _read(file, ())
    return _content(tree), dict(_origins(tree, ""))


def read_mapping(file: Path) -> dict[Any, Any]:
    """Reads one YAML file safely; ConfigError when it is missing, no YAML, or no mapping."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if file.exists() and not file.is_file():
        raise ConfigError("is a folder; name a YAML file", file=file)
    if not file.exists():
        near = _nearest_file(file)
        raise ConfigError(f"no such file; did you mean {near!r} there?" if near else "no such file", file=file)
    try:
        raw = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"is no valid YAML: {' '.join(str(error).split())}", file=file) from error
    if not isinstance(raw, DictConfig):
        raise ConfigError(f"the top level must be a mapping, got a {type(raw).__name__}", file=file)
    plain = OmegaConf.to_container(raw, resolve=False)
    assert isinstance(plain, dict)
    return plain


def _read(file: Path, readers: tuple[Path, ...]) -> Tree:
    own = read_mapping(file)
    bases = own.pop(BASE, None)
    listed = bases if isinstance(bases, list) else [] if bases is None else [bases]
    merged: Tree = {}
    for index, base in enumerate(listed):
        key_path = join_path(BASE, index) if isinstance(bases, list) else BASE
        if not isinstance(base, str) or not base:
            raise ConfigError(f"must be the path of a file or a list of them, got {base!r}", key_path=key_path, file=file)
        path = _tidy(file.parent / base)
        if not path.is_file():
            raise ConfigError(_no_such_base(base, path), key_path=key_path, file=file)
        chain = (*readers, file)
        if any(path.samefile(reader) for reader in chain):
            way = " -> ".join(str(step) for step in (*chain, path))
            raise ConfigError(f"the bases lead back to where they started: {way}", key_path=key_path, file=file)
        merged = _merge(merged, _read(path, chain))
    return _merge(merged, _leaves(own, file, ""))


def _leaves(content: dict[Any, Any], file: Path, key_path: str) -> Tree:
    """Returns the mapping with its values as leaves; `_delete_` stays, checked."""
    tree: Tree = {}
    for key, value in content.items():
        path = join_path(key_path, str(key))
        if key == DELETE:
            if not isinstance(value, bool):
                raise ConfigError(f"must be true or false, got {value!r}", key_path=path, file=file)
            tree[key] = value
        elif isinstance(value, dict):
            tree[key] = _leaves(value, file, path)
        else:
            _refuse_delete(value, file, path)
            tree[key] = Leaf(value, file)
    return tree


def _refuse_delete(value: Any, file: Path, key_path: str) -> None:
    """A list is replaced as a whole, so there is nothing inherited in it to delete."""
    if isinstance(value, dict) and DELETE in value:
        message = "has no meaning inside a list, which replaces the inherited one as a whole"
        raise ConfigError(message, key_path=join_path(key_path, DELETE), file=file)
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        _refuse_delete(entry, file, join_path(key_path, key if isinstance(value, list) else str(key)))


def _merge(below: Tree, above: Tree) -> Tree:
    """Returns `above` laid over `below`."""
    merged = {} if above.get(DELETE) else dict(below)
    for key, value in above.items():
        if key == DELETE:
            continue
        under = merged.get(key)
        # merged with nothing too, which takes the marks inside it out
        merged[key] = _merge(under if isinstance(under, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _content(tree: Tree) -> dict[Any, Any]:
    return {key: _content(value) if isinstance(value, dict) else value.value for key, value in tree.items()}


def _origins(tree: Tree, key_path: str) -> Iterator[tuple[str, Path]]:
    for key, value in tree.items():
        path = join_path(key_path, str(key))
        if isinstance(value, dict):
            yield from _origins(value, path)
        else:
            yield path, value.file


def _tidy(path: Path) -> Path:
    """Returns the path without `..`, where that names the same file."""
    short = Path(os.path.normpath(path))
    return short if path.exists() and short.exists() and short.samefile(path) else path


def _no_such_base(base: str, path: Path) -> str:
    message = f"there is no file {base!r} (looked for {path})"
    near = _nearest_file(path)
    return f"{message}; did you mean {near!r} there?" if near else message


def _nearest_file(path: Path) -> str | None:
    """Returns the name in the same folder that was probably meant."""
    if not path.parent.is_dir():
        return None
    # by the stems, since all endings are alike
    files = {entry.stem: entry.name for entry in sorted(path.parent.iterdir()) if entry.suffix in (".yml", ".yaml")}
    near = nearest_name(path.stem, files)
    return None if near is None else files[near]
