"""What a search leaves: the trials as facts and as a table, the best one as a loss section."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg.study.search_space import Space

FACTS = "search.json"
CSV = "search.csv"
LOSS = "best_loss.yml"
_STATES = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


def facts_of(trials: Mapping[int, Any], space: Space) -> list[dict[str, Any]]:
    """Returns a row for every trial: number, state, value, seconds, the values tried, the settings they stand for, the reason."""
    rows = []
    for number, trial in sorted(trials.items()):
        state = _STATES[trial.state.name]
        rows.append(
            {
                "number": number,
                "state": state,
                "value": trial.value if state == "finished" else None,
                "seconds": trial.user_attrs.get("seconds"),
                "values": dict(trial.params),
                "settings": space.settings(trial.params),
                "reason": trial.user_attrs.get("reason", "") if state in ("failed", "pruned") else "",
            }
        )
    return rows


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Writes one line per trial, with a column for every number that is searched (of a curve: its shares)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", "state", "value", "seconds", *names, "reason"])
    for row in rows:
        cells = [row["number"], row["state"], row["value"], row["seconds"], *(row["values"][name] for name in names), row["reason"]]
        writer.writerow(["" if cell is None else cell for cell in cells])
    _replace(file, text.getvalue())


def write_loss(file: Path, loss: Mapping[str, Any], facts: Mapping[str, Any], best: Mapping[str, Any]) -> None:
    """Writes the loss section of the best trial, ready to paste, with a comment that says how it was found."""
    import yaml

    rows = facts["rows"]
    first = rows[0]["value"]
    finished = sum(row["value"] is not None for row in rows)
    found = f"{facts['metric']} {100 * best['value']:.2f} % after {facts['iters']} proxy steps"
    before = "" if first is None else f", {100 * first:.2f} % as it was written (trial 0)"
    comment = f"# evenseg search | {found}\n# (trial {best['number']}, the best of {finished} by {facts['sampler']}){before}\n"
    text = comment + yaml.safe_dump({"loss": _plain(loss)}, sort_keys=False, default_flow_style=None, width=100)
    _replace(file, text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)
