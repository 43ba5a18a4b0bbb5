"""`evenseg export RUN`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from evenseg._paths import check_run_folder
from evenseg.cli.errors import one_line_errors
from evenseg.cli.inference import RunArgument
from evenseg.cli.options import Debug, Overrides


class Format(str, Enum):
    onnx = "onnx"
    torchscript = "torchscript"


def export(
    run: Annotated[Path, RunArgument],
    format: Annotated[Format, typer.Option("--format", help="onnx needs the extra `export`.")] = Format.onnx,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: RUN/export/model.*.")
    ] = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Export the best weights of a run for any image size, checked against PyTorch; the file is printed last."""
    with one_line_errors(debug):
        check_run_folder(run, weights=True)
        from evenseg import engine

        file, difference = engine.export(run, format.value, output, overrides=overrides or [])
        typer.echo(f"largest difference from PyTorch: {difference:.1e} of the largest logit", err=True)
        typer.echo(str(file))
