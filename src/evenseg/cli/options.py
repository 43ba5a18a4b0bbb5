"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the experiment.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change one value of the configuration; may be repeated."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write, else the config's `output`.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Train finished runs again.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything found to a JSON file.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def output_folder(given: Path | None, configured: str | None, config_file: Path) -> Path:
    """Returns --output, else the config's `output`, else runs/NAME with the config file's name."""
    if given is not None:
        return given
    return Path(configured) if configured else Path("runs") / config_file.stem
