"""`evenseg compare CONFIG --seeds 0 1 2`"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Output, Overrides, Overwrite, output_folder


class SeedsCommand(TyperCommand):
    """Lets `--seeds 0 1 2` stand for `--seeds 0 --seeds 1 --seeds 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread_seeds(args))


def spread_seeds(args: list[str]) -> list[str]:
    """Repeats `--seeds` before every further whole number that follows it."""
    spread: list[str] = []
    reading = False
    for arg in args:
        if reading and arg.isdigit() and spread[-1] != "--seeds":
            spread.append("--seeds")
        else:
            reading = arg == "--seeds" or (reading and arg.isdigit())
        spread.append(arg)
    return spread


def compare(
    config: ConfigFile,
    seeds: Annotated[list[int] | None, typer.Option(help="Several after one --seeds; the config's otherwise.")] = None,
    overrides: Overrides = None,
    output: Output = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train every named loss with every seed and write one report; its path is printed last."""
    with one_line_errors(debug):
        from evenseg.config import load_config

        settings = load_config(config, overrides or [])
        from evenseg import study

        report = study.compare(
            settings,
            seeds or [settings.seed],
            output_folder(output, settings.output, config),
            overwrite=overwrite,
            say=lambda line: typer.echo(line, err=True),
        )
        typer.echo(str(report))
