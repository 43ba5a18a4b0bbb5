"""The one error class of the configuration, and the paths of its keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evenseg._collect import Collector
from evenseg._names import listed, nearest_name, unknown_name


class ConfigError(ValueError):
    """A configuration that cannot be used; reads `FILE: key.path: message`, one line for each mistake.

    Args:
        message: what was received and what is allowed, one line.
        key_path: where, like `loss.types[0].coef`; empty for the file as a whole.
        file: the configuration file, where known.

    Attributes:
        errors: the mistakes, one error each; this one alone where there is one. Of several, the first gives `message` and
            `key_path`.
        rest: the configuration without what is wrong, for further checks, where there is such a thing.
    """

    def __init__(self, message: str, *, key_path: str = "", file: str | Path | None = None) -> None:
        self.message = message
        self.key_path = key_path
        self.file = None if file is None else str(file)
        self.errors: tuple[ConfigError, ...] = (self,)
        self.rest: Any = None
        super().__init__(": ".join(part for part in (self.file or "", key_path, message) if part))

    @classmethod
    def together(cls, errors: Sequence[ConfigError]) -> ConfigError:
        """Returns one error for several, or the only one itself."""
        if len(errors) == 1:
            return errors[0]
        joined = cls(errors[0].message, key_path=errors[0].key_path, file=errors[0].file)
        joined.errors = tuple(errors)
        joined.args = ("\n".join(map(str, errors)),)
        return joined

    def each(self, change: Callable[[ConfigError], ConfigError]) -> ConfigError:
        """Returns the error with every mistake changed."""
        changed = self.together([change(error) for error in self.errors])
        changed.rest = self.rest
        return changed

    def in_file(self, file: str | Path | None) -> ConfigError:
        """Returns the same error with the file named, unless one is named already."""
        return self.each(lambda error: ConfigError(error.message, key_path=error.key_path, file=error.file or file))


def join_path(*parts: str | int) -> str:
    """Returns `a.b[0].c` for ("a", "b", 0, "c"); empty parts are left out."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part:
            path += f".{part}" if path else part
    return path


def is_below(key_path: str, above: str) -> bool:
    """Tells whether a key path is another one or lies in it; everything lies in the empty one."""
    return not above or key_path == above or key_path.startswith((f"{above}.", f"{above}["))


__all__ = ["Collector", "ConfigError", "is_below", "join_path", "listed", "nearest_name", "unknown_name"]
