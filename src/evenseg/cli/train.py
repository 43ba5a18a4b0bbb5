"""`evenseg train CONFIG` and `evenseg train --resume RUN`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evenseg._paths import check_run_folder
from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import Debug, Output, Overrides, Overwrite, output_folder, read_config


def train(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML file of the experiment.")] = None,
    loss: Annotated[str | None, typer.Option(help="Which one, where the configuration names several losses.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the configuration's seed.")] = None,
    overrides: Overrides = None,
    output: Output = None,
    overwrite: Overwrite = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run folder that was broken off, in place of CONFIG.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Train one configuration; the run folder is printed last."""
    with one_line_errors(debug):
        if resume is not None:
            if config is not None or output is not None or loss is not None or seed is not None or overwrite:
                raise ValueError(f"--resume {resume} goes on with the run's own configuration; of the rest it takes only --set")
            check_run_folder(resume)
            if (resume / "summary.json").is_file():
                typer.echo(f"{resume} has finished; there is nothing to go on with", err=True)
            from evenseg import engine

            _print_folder(engine.resume(resume, overrides or []))
            return
        if config is None:
            raise ValueError("give a CONFIG to train, or --resume RUN to go on with a run")
        _start(config, loss, seed, overrides or [], output, overwrite)


def _start(
    config: Path, loss: str | None, seed: int | None, overrides: list[str], output: Path | None, overwrite: bool
) -> None:
    from evenseg.config import ConfigError, unknown_name

    seeds = [] if seed is None else [f"seed={seed}"]
    settings = read_config(config, [*overrides, *seeds])
    folder = output_folder(output, settings.output, config)
    if settings.losses is not None:
        if loss is None:
            message = f"choose one with --loss: {', '.join(settings.losses)}"
            raise ConfigError(message, key_path="losses", file=config)
        if loss not in settings.losses:
            raise ConfigError(unknown_name("loss", loss, settings.losses), key_path="losses", file=config)
        from evenseg.study import config_of, run_folder

        # where `evenseg compare` would put it, so that a later comparison finds it
        folder = output or run_folder(folder, loss, settings.seed)
        settings = config_of(settings, loss, settings.seed)
    elif loss is not None:
        message = "--loss chooses among `losses`, but this file has one `loss`"
        raise ConfigError(message, key_path="loss", file=config)
    from evenseg import engine

    _print_folder(engine.train(settings, folder, overwrite=overwrite))


def _print_folder(folder: Path) -> None:
    from evenseg import engine

    if engine.is_first_process():
        typer.echo(str(folder))
