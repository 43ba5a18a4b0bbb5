"""`evenseg fit-edges CONFIG`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Overrides


def fit_edges(
    config: ConfigFile,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write, else runs/NAME.edges.safetensors.")
    ] = None,
    iters: Annotated[int, typer.Option(min=1, help="Steps.")] = 500,
    hidden: Annotated[int, typer.Option(min=1, help="Channels within the network; the loss costs more with more.")] = 64,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    debug: Debug = False,
) -> None:
    """Fit the edge network of SemanticEdgeAwareLoss to the masks of train_dataset; its file is printed last."""
    with one_line_errors(debug):
        from evenseg.config import load_config

        settings = load_config(config, overrides or [])
        file = output or Path("runs") / f"{config.stem}.edges.safetensors"

        def progress(step: int, loss: float) -> None:
            if step % max(1, iters // 10) == 0 or step == iters:
                typer.echo(f"step {step} of {iters}: loss {loss:.4f}", err=True)

        from evenseg import engine

        fitted = engine.fit_edges(settings, file, iters=iters, hidden=hidden, overwrite=overwrite, progress=progress)
        scores = ", ".join(f"{name} {'-' if f1 is None else f'{f1:.3f}'}" for name, f1 in zip(fitted.classes, fitted.f1, strict=True))
        mean = "-" if fitted.mean_f1 is None else f"{fitted.mean_f1:.3f}"
        typer.echo(f"loss {fitted.first_loss:.4f} -> {fitted.last_loss:.4f}; F1 of edge pixels on val_dataset {mean} ({scores})")
        typer.echo(f"in a loss: {{type: SemanticEdgeAwareLoss, edges: {fitted.file}}}")
        typer.echo(str(fitted.file))
