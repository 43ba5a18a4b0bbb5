"""What a finding is, and how it is put into words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """Something found in the data.

    Attributes:
        code: short name, a heading of docs/label_doctor.md.
        severity: "error" stops training or makes its result worthless, "warning" probably is a mistake, "info" is worth
            knowing.
        section: key path of the data set's section.
        message: what was found, with numbers.
        files: names of the pairs it concerns, each with a remark in brackets where there is one to make.
        remedy: what to do, in words.
        line: what to write into the section, where that helps.
        top_level: whether the line belongs at the top of the configuration instead.
    """

    code: str
    severity: Severity
    section: str
    message: str
    files: tuple[str, ...]
    remedy: str
    line: str | None = None
    top_level: bool = False

    def sentence(self, most: int = 5) -> str:
        """Returns message, a few files and remedy as one line, with what to type where the section is known."""
        files = f": {some(self.files, most)}" if self.files else ""
        if not self.line:
            return f"{self.message}{files}; {self.remedy}"
        where = "at the top of the configuration" if self.top_level else "in the data set's section"
        keys = " and ".join(f"`{line}`" for line in self.line.splitlines())
        typed = f", or type {' '.join(self.options)}" if self.section else ""
        return f"{self.message}{files}; set {keys} {where} ({self.remedy}){typed}"

    @property
    def options(self) -> list[str]:
        """What to type on the command line in place of the line, quoted for the shell."""
        section = "" if self.top_level else f"{self.section}."
        settings = [line.partition(": ") for line in (self.line or "").splitlines()]
        return [f"--set {shlex.quote(f'{section}{key}={value}')}" for key, _, value in settings]


def some(names: Sequence[str], most: int = 5) -> str:
    """Returns the first few names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def flow(mapping: Mapping[Any, Any]) -> str:
    """Returns a mapping as YAML on one line."""
    parts = []
    for key, value in mapping.items():
        text = str(key) if isinstance(key, int) else f'"{key}"'
        parts.append(f"{text}: {value}")
    return "{" + ", ".join(parts) + "}"


def pixels(count: int) -> str:
    """Returns `1 pixel`, `12 pixels`."""
    return f"{count} pixel" + ("" if count == 1 else "s")
