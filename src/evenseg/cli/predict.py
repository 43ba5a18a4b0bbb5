"""`evenseg predict RUN IMAGES...`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from evenseg._paths import check_run_folder, find_images
from evenseg.cli.errors import one_line_errors
from evenseg.cli.inference import BlendOption, Flip, RunArgument, Scales, Stride, Window, as_overrides
from evenseg.cli.options import Debug, Overrides


class Probabilities(str, Enum):
    none = "none"
    npy = "npy"
    png = "png"


def predict(
    run: Annotated[Path, RunArgument],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Files, folders and glob patterns.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; default: RUN/predictions.")
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Also write the image in the classes' colours.")
    ] = True,
    probabilities: Annotated[
        Probabilities,
        typer.Option(help="Also write them: npy (classes, height, width) float16, or one grey PNG per class."),
    ] = Probabilities.none,
    window: Window = None,
    stride: Stride = None,
    blend: BlendOption = None,
    scales: Scales = None,
    flip: Flip = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Predict image files with the best weights of a run; the folder of the results is printed last.

    Exit code 1: some images could not be read and were skipped; each is named.
    """
    with one_line_errors(debug):
        check_run_folder(run, weights=True)
        find_images(images)
        from rich.console import Console
        from rich.progress import track

        from evenseg import engine

        console = Console(stderr=True)
        result = engine.predict(
            run,
            images,
            output,
            overlay=overlay,
            probabilities=probabilities.value,
            overrides=[*(overrides or []), *as_overrides(window, stride, blend, scales, flip)],
            say=lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False),
            track=lambda files: track(files, "predicting", console=console, disable=not console.is_terminal),
        )
        typer.echo(str(result.folder))
        if result.skipped:
            typer.echo(f"{len(result.skipped)} of {len(result.skipped) + len(result.written)} images skipped", err=True)
            raise typer.Exit(1)
