"""`evenseg train CONFIG`"""

from __future__ import annotations

from typing import Annotated

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Output, Overrides, Overwrite, output_folder


def train(
    config: ConfigFile,
    loss: Annotated[str | None, typer.Option(help="Which one, where the configuration names several losses.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the configuration's seed.")] = None,
    overrides: Overrides = None,
    output: Output = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train one configuration; the run folder is printed last."""
    with one_line_errors(debug):
        from evenseg.config import ConfigError, load_config

        seeds = [] if seed is None else [f"seed={seed}"]
        settings = load_config(config, [*(overrides or []), *seeds])
        folder = output_folder(output, settings.output, config)
        if settings.losses is not None:
            if loss is None:
                message = f"choose one with --loss: {', '.join(settings.losses)}"
                raise ConfigError(message, key_path="losses", file=config)
            from evenseg.study import config_of, run_folder

            # where `evenseg compare` would put it, so that a later comparison finds it
            folder = output or run_folder(folder, loss, settings.seed)
            settings = config_of(settings, loss, settings.seed)
        elif loss is not None:
            message = "--loss chooses among `losses`, but this file has one `loss`"
            raise ConfigError(message, key_path="loss", file=config)
        from evenseg import engine

        typer.echo(str(engine.train(settings, folder, overwrite=overwrite)))
