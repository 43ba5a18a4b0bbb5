"""Objects by dotted path, `package.module.Name`: how a configuration names what is not in one of our tables."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from evenseg._names import nearest_name


def import_dotted(path: str, base: type | None = None) -> Any:
    """Returns the class or function at a dotted import path.

    Args:
        path: like `mypackage.losses.MyLoss`; the working folder is looked through too, where Python's path has it.
        base: the class it must derive from, if it must.

    Raises:
        ValueError: one line: no such module, no such name in it (with the nearest one), an error while importing it, or
            an object of the wrong kind.
    """
    module_name, _, name = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")) or not module_name:
        raise ValueError(f"{path!r} is no import path; write package.module.Name")
    module = _import_module(module_name, path)
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        near = nearest_name(name, public)
        raise ValueError(f"the module {module_name} has no {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    found = getattr(module, name)
    if not callable(found):
        raise ValueError(f"{path} is a {type(found).__name__}; it must be a class or a function that builds the part")
    if base is not None and not (inspect.isclass(found) and issubclass(found, base)):
        raise ValueError(f"{path} must be a class derived from {base.__module__.partition('.')[0]}'s {base.__name__}")
    return found


def _import_module(name: str, path: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name != missing and not name.startswith(f"{missing}."):
            raise ValueError(f"importing {name} failed: it needs the module {missing!r}, which is not installed") from error
        raise ValueError(
            f"cannot import {path}: there is no module {missing!r} among the installed packages or in {Path.cwd()}"
        ) from error
    except Exception as error:
        # whatever a user's module raises while it is imported
        raise ValueError(f"importing {name} failed: {type(error).__name__}: {' '.join(str(error).split())}") from error
