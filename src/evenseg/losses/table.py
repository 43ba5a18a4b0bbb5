"""The table of all losses, read off the classes themselves: README and `evenseg losses` print it."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from torch import nn

from evenseg.losses import LOSSES


@dataclass(frozen=True)
class LossFacts:
    """What the docstring and the class say of a loss."""

    name: str
    summary: str
    range: str
    soft_labels: str
    source: str


def facts(name: str, loss: type[nn.Module]) -> LossFacts:
    """Facts of one loss; ValueError if its docstring lacks the summary."""
    text = inspect.getdoc(loss) or ""
    if not text:
        raise ValueError(f"{name} has no docstring")
    paragraphs = {p.split(":", 1)[0]: " ".join(p.split(":", 1)[1].split()) for p in text.split("\n\n") if ":" in p}
    summary = " ".join(text.split("\n\n")[0].split()).rstrip(".")
    source = re.split(r"\. (?=[A-Z])", paragraphs.get("Source", "").rstrip("."))[0]
    soft = "yes" if getattr(loss, "soft_labels", False) else "no"
    soft, range_ = ("its members'", "its members") if name == "MixedLoss" else (soft, paragraphs.get("Range", "").split(";")[0].rstrip("."))
    return LossFacts(name, summary, range_, soft, source)


def markdown_table() -> str:
    """One row per loss of LOSSES."""
    rows = [facts(name, loss) for name, loss in LOSSES.items()]
    lines = ["| loss | what it is | range | soft labels | source |", "|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| `{r.name}` | {r.summary} | {r.range} | {r.soft_labels} | {r.source or '-'} |")
    return "\n".join(lines)
