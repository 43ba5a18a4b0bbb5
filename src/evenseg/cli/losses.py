"""`evenseg losses`"""

from __future__ import annotations

from typing import Annotated

import typer


def losses(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the tables of the documentation.")] = False,
    presets: Annotated[bool, typer.Option("--presets", help="Other libraries' losses instead, by library.")] = False,
) -> None:
    """List the losses: what each is, its range, whether it takes soft labels, and its source."""
    if presets:
        _presets(markdown)
        return
    from evenseg.losses import LOSSES
    from evenseg.losses.table import facts, markdown_table

    if markdown:
        typer.echo(markdown_table())
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console()
    for name, loss in LOSSES.items():
        f = facts(name, loss)
        console.print(Text(f.name, style="bold"))
        console.print(Padding(Text(f.summary), (0, 0, 0, 4)))
        details = [f"range {f.range}", f"soft labels: {f.soft_labels}", *([f.source] if f.source else [])]
        console.print(Padding(Text("; ".join(details), style="dim"), (0, 0, 0, 4)))


def _presets(markdown: bool) -> None:
    from evenseg.losses.presets.table import OURS, TITLES, of_project, preset_tables

    if markdown:
        typer.echo(preset_tables())
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console()
    for project, title in TITLES.items():
        console.print(Text(title, style="bold"))
        for name, one in of_project(project).items():
            console.print(Padding(Text(f"{name}: {one.theirs}"), (0, 0, 0, 4)))
            console.print(Padding(Text(", ".join(one.keywords), style="dim"), (0, 0, 0, 8)))
    console.print(f"all of them: {', '.join(OURS)}", highlight=False)
