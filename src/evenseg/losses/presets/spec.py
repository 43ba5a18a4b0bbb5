"""What a preset is: a function from another library's keywords to a loss section of ours, and what to know about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Section = dict[str, Any]

IGNORE_NAMES = ("ignore_index", "ignore", "ignore_label")
"""What the libraries call the ignored label; `ignore_index` is understood by every preset."""


@dataclass(frozen=True)
class Preset:
    """One loss of another library.

    Attributes:
        section: from its keywords to a loss section of ours.
        theirs: what it is called there.
        instead: what we would train with in its place.
        why: how that differs, and why.
    """

    section: Callable[..., Section]
    theirs: str
    instead: str
    why: str

    @property
    def keywords(self) -> list[str]:
        return list(inspect.signature(self.section).parameters)

    @property
    def ignore_name(self) -> str | None:
        """The keyword for the ignored label."""
        return next((name for name in IGNORE_NAMES if name in self.keywords), None)


def section(type: str, **keywords: Any) -> Section:
    """A loss section without the keywords that are None, but for `ignore_index`, whose None has a meaning."""
    return {"type": type} | {k: v for k, v in keywords.items() if v is not None or k == "ignore_index"}


def adapted(loss: Section, **conventions: Any) -> Section:
    """The section of a loss behind conventions that are no options of it."""
    return {"type": "evenseg.losses.presets.adapted.Adapted", "loss": loss, **conventions}


def mean_only(reduction: str) -> None:
    """ValueError for a reduction other than "mean"."""
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean' in a preset, which stands for a training loss; got {reduction!r}")


def must_be(name: str, value: Any, only: Any, why: str) -> None:
    """ValueError for a keyword of theirs that has no counterpart here."""
    if value != only:
        raise ValueError(f"{name} must be {only!r}, got {value!r}: {why}")


def from_logits_only(from_logits: bool) -> None:
    must_be("from_logits", from_logits, True, "losses here take logits")
