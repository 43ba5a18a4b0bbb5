"""`evenseg demo`"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import Debug

SEEDS = (0, 1, 2)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Study folder to write.")] = Path("runs/demo"),
    debug: Debug = False,
) -> None:
    """Compare two losses on synthetic roads (about three minutes on two cores); the report's path is printed last."""
    with one_line_errors(debug):
        from evenseg import study
        from evenseg.config import load_config

        with as_file(files("evenseg.cli") / "demo.yml") as file:
            settings = load_config(file)
        names = " and ".join(settings.losses or {})
        typer.echo(f"training {names} with seeds {', '.join(map(str, SEEDS))} into {output}", err=True)
        # always afresh: the demo shows what this version does
        report = study.compare(settings, SEEDS, output, overwrite=True, say=lambda line: typer.echo(line, err=True))
        typer.echo(str(report))
