"""Options that say how a trained run sees an image, shared by `evaluate` and `predict`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


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


class ScalesCommand(TyperCommand):
    """Lets `--scales 0.75 1 1.25` stand for `--scales 0.75 --scales 1 --scales 1.25`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, "--scales"))


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
