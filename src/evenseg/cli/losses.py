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
    from rich.table import Table

    table = Table("loss", "what it is", "range", "source")
    for name, loss in LOSSES.items():
        f = facts(name, loss)
        table.add_row(f.name, f.summary, f.range, f.source)
    Console().print(table)
