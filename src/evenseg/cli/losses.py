"""`evenseg losses`"""

from __future__ import annotations

from typing import Annotated

import typer


def losses(markdown: Annotated[bool, typer.Option("--markdown", help="The README's table.")] = False) -> None:
    """List the losses: what each is, its range, whether it takes soft labels, and its source."""
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
