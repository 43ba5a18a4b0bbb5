"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from evenseg.config import Config

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the experiment.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value of the configuration; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write, else the config's `output`.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Train finished runs again.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything found to a JSON file.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def read_config(file: Path, overrides: Sequence[str]) -> Config:
    """Reads a configuration for a command that goes on to check it in full.

    Where the fixed form is wrong already, the rest is checked all the same, so that one ConfigError names everything.
    """
    from evenseg.config import Collector, ConfigError, load_config

    try:
        return load_config(file, overrides)
    except ConfigError as error:
        if error.rest is None:
            raise
        from evenseg.engine import cross_check

        found = Collector(ConfigError)
        found.add(error)
        with found:
            cross_check(error.rest)
        raise ConfigError.together(found.errors) from error


def output_folder(given: Path | None, configured: str | None, config_file: Path) -> Path:
    """Returns --output, else the config's `output`, else runs/NAME with the config file's name."""
    if given is not None:
        return given
    return Path(configured) if configured else Path("runs") / config_file.stem


class SeveralNumbers(TyperCommand):
    """Lets `--OPTION 0 1 2` stand for `--OPTION 0 --OPTION 1 --OPTION 2`."""

    option: str

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, self.option))


class SeedsCommand(SeveralNumbers):
    option = "--seeds"


class ScalesCommand(SeveralNumbers):
    option = "--scales"


def spread(args: list[str], option: str) -> list[str]:
    """Repeats an option before every further number that follows it."""
    out: list[str] = []
    reading = False
    for arg in args:
        number = arg.replace(".", "", 1).isdigit()
        if reading and number and out[-1] != option:
            out.append(option)
        else:
            reading = arg == option or (reading and number)
        out.append(arg)
    return out
