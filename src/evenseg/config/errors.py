"""The one error class of the configuration, and the wording for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class ConfigError(ValueError):
    """A configuration that cannot be used; reads `FILE: key.path: message`.

    Args:
        message: what was received and what is allowed, one line.
        key_path: where, like `loss.types[0].coef`; empty for the file as a whole.
        file: the configuration file, where known.
    """

    def __init__(self, message: str, *, key_path: str = "", file: str | Path | None = None) -> None:
        self.message = message
        self.key_path = key_path
        self.file = None if file is None else str(file)
        super().__init__(": ".join(part for part in (self.file or "", key_path, message) if part))

    def in_file(self, file: str | Path | None) -> ConfigError:
        """Returns the same error with the file named, unless one is named already."""
        return ConfigError(self.message, key_path=self.key_path, file=self.file or file)


def nearest_name(name: str, allowed: Iterable[str]) -> str | None:
    """Returns the name in `allowed` that `name` was probably meant to be, or None when nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in allowed}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[close[0]] if close else None


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Returns the message for a name that is not in `allowed`: the list, then the nearest one."""
    names = list(allowed)
    message = f"unknown {kind} {str(name)!r}; allowed: {', '.join(names) or 'none'}"
    nearest = nearest_name(str(name), names)
    return f"{message}; did you mean {nearest!r}?" if nearest else message


def join_path(*parts: str | int) -> str:
    """Returns `a.b[0].c` for ("a", "b", 0, "c"); empty parts are left out."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part:
            path += f".{part}" if path else part
    return path
