"""The one error class of the configuration, and the paths of its keys."""

from __future__ import annotations

from pathlib import Path

from evenseg._names import nearest_name, unknown_name


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


def join_path(*parts: str | int) -> str:
    """Returns `a.b[0].c` for ("a", "b", 0, "c"); empty parts are left out."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part:
            path += f".{part}" if path else part
    return path


__all__ = ["ConfigError", "join_path", "nearest_name", "unknown_name"]
