"""`evenseg check CONFIG`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, JsonFile, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from evenseg.engine.examine import Examination

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_MOST_VALUES = 32
_MOST_FILES = 4


def check(
    config: ConfigFile,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Look for mistakes in masks and images and say what to write to put them right; exit code 1 if there are errors."""
    with one_line_errors(debug):
        from evenseg.config import load_config

        settings = load_config(config, overrides or [])
        from rich.console import Console

        from evenseg.cli.progress import reading
        from evenseg.engine.examine import examine

        with reading() as progress:
            found = examine(settings, progress)
        print_examination(found, Console())
        if json_file is not None:
            write_json(json_file, {"config": str(config)} | found.as_json())
    raise typer.Exit(1 if found.count("error") else 0)


def print_examination(found: Examination, console: Console) -> None:
    """Prints the values of all masks, the findings, and the lines for the configuration."""
    from rich.table import Table
    from rich.text import Text

    from evenseg.engine.examine import value_rows

    for seen in found.scans:
        # not the table's title, which would break paths at the table's width
        heading = f"{seen.section}: {len(seen.records)} pairs, {seen.dataset.where}"
        console.print(Text(heading, style="italic"), soft_wrap=True)
        table = Table("value", "means")
        for column in ("pixels", "share", "masks"):
            table.add_column(column, justify="right")
        rows = value_rows(seen)
        total = sum(row["pixels"] for row in rows)
        for row in rows[:_MOST_VALUES]:
            style = "red" if row["meaning"].startswith("outside") else None
            share = f"{100 * row['pixels'] / total:.3f} %"
            table.add_row(str(row["value"]), row["meaning"], str(row["pixels"]), share, str(row["masks"]), style=style)
        if len(rows) > _MOST_VALUES:
            table.add_row("...", f"{len(rows) - _MOST_VALUES} more values", "", "", "")
        console.print(table)
    if not found.findings:
        console.print("nothing found: masks and images are fit for training", style="green")
        return
    table = Table("", "severity", "finding", title="findings", title_justify="left", show_lines=True)
    for number, finding in enumerate(found.findings, start=1):
        text = Text(f"{finding.section}: ", style="bold")
        text.append(f"{finding.message}.", style="not bold")
        if finding.files:
            text.append("\n" + _files(finding.files), style="not bold dim")
        text.append(f"\n{finding.remedy}", style="not bold italic")
        table.add_row(str(number), Text(finding.severity, style=_STYLES[finding.severity]), text)
    console.print(table)
    _print_lines(found, console)
    errors, warnings = found.count("error"), found.count("warning")
    console.print(f"{errors} error{'' if errors == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}", highlight=False)


def _print_lines(found: Examination, console: Console) -> None:
    """Prints what to put into the configuration, as YAML by section, the top level first."""
    from rich.text import Text

    # section -> line -> numbers of the findings
    lines: dict[str, dict[str, list[int]]] = {"": {}}
    for number, finding in enumerate(found.findings, start=1):
        for line in (finding.line or "").splitlines():
            section = "" if finding.top_level else finding.section
            lines.setdefault(section, {}).setdefault(line, []).append(number)
    if not any(lines.values()):
        return
    console.print("put into the configuration (the number is that of the finding):", style="bold")
    for section, by_line in lines.items():
        if section:
            console.print(f"{section}:", highlight=False)
        for line, numbers in by_line.items():
            # one line however long, so that it can be copied
            text = f"{'  ' if section else ''}{line}  # {', '.join(map(str, numbers))}"
            console.print(Text(text), soft_wrap=True)


def write_json(file: Path, content: object) -> None:
    """Writes JSON, and makes the folder it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _files(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_FILES} more" if len(names) > _MOST_FILES else ""
    return ", ".join(names[:_MOST_FILES]) + more
