"""Options that say how a trained run sees an image, shared by `evaluate` and `predict`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class Blend(str, Enum):
    gaussian = "gaussian"
    uniform = "uniform"


RunArgument = typer.Argument(metavar="RUN", help="Run folder.")
Window = Annotated[
    tuple[int, int] | None,
    typer.Option("--window", metavar="HEIGHT WIDTH", help="Cut the image into overlapping windows of this size."),
]
Stride = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--stride", metavar="HEIGHT WIDTH", help="Largest step between windows; default: three quarters of them."
    ),
]
BlendOption = Annotated[Blend | None, typer.Option("--blend", help="Weights where windows overlap.")]
Scales = Annotated[
    list[float] | None,
    typer.Option("--scales", help="Average over the image at these sizes; several after one --scales."),
]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.")]


def as_overrides(
    window: tuple[int, int] | None,
    stride: tuple[int, int] | None,
    blend: Blend | None,
    scales: list[float] | None,
    flip: bool | None,
) -> list[str]:
    """Returns the options as changes to the run's `evaluation` section."""
    changes: list[str] = []
    if window is not None:
        # a stride belongs to its window
        changes += [f"evaluation.window={list(window)}", "evaluation.stride=null"]
    if stride is not None:
        changes.append(f"evaluation.stride={list(stride)}")
    if blend is not None:
        changes.append(f"evaluation.blend={blend.value}")
    if scales:
        changes.append(f"evaluation.scales={scales}")
    if flip is not None:
        changes.append(f"evaluation.flip={str(flip).lower()}")
    return changes
