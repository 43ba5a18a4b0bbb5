"""`evenseg search CONFIG`"""

from __future__ import annotations

from typing import Annotated

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Output, Overrides, output_folder


def search(
    config: ConfigFile,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="Which of the config's `losses` to search.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many sets of values are tried; the config's otherwise.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage shared by all workers: a database URL or a journal file; default: in the search's folder."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that train at the same time.")] = None,
    overrides: Overrides = None,
    output: Output = None,
    debug: Debug = False,
) -> None:
    """Search the numbers of a loss on short runs, as the `search` section says; the report's path is printed last.

    The best loss section is written to best_loss.yml, all trials to search.csv. A search that was broken off goes on, also
    to more trials; started several times on one folder or storage, the processes share the work.
    """
    with one_line_errors(debug):
        from evenseg.config import load_config

        settings = load_config(config, overrides or [])
        from evenseg import study

        report = study.search(
            settings,
            output_folder(output, settings.output, config),
            loss=loss,
            trials=trials,
            storage=storage,
            workers=workers,
            say=lambda line: typer.echo(line, err=True),
        )
        typer.echo(str(report))
