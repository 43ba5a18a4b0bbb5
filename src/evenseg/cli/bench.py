"""`evenseg bench`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evenseg.cli.check import write_json
from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import Debug, JsonFile

_TYPES = ("float32", "bfloat16", "float16")


def bench(
    shape: Annotated[
        list[str] | None, typer.Option("--shape", metavar="N,C,H,W", help="Shape of the logits; may be repeated. C = 1: binary.")
    ] = None,
    loss: Annotated[
        list[str] | None, typer.Option("--loss", metavar="LOSS", help="A loss, a preset or {type: ..., ...}; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")] = "auto",
    dtype: Annotated[str, typer.Option(help=f"Of the logits: {', '.join(_TYPES)}.")] = "float32",
    trained: Annotated[bool, typer.Option("--trained", help="Logits of a trained network instead of an untrained one.")] = False,
    rounds: Annotated[int, typer.Option(min=3, help="Pairs of measurements a loss.")] = 7,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Time losses on this machine, forward and backward, beside torch's cross-entropy.

    Values and gradients of the kernels are compared with the definition first; if one is off, nothing is timed and the exit
    code is 1.
    """
    with one_line_errors(debug):
        shapes = [_shape(text) for text in shape or ["2,19,512,512"]]
        if dtype not in _TYPES:
            raise ValueError(f"--dtype must be one of {', '.join(_TYPES)}, got {dtype!r}")
        import torch

        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"--device must be auto, cpu or cuda, got {device!r}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: this machine has no CUDA device")
        from evenseg.bench import GateError, check_kernels, measure_losses
        from evenseg.losses import build_loss

        chosen = None if loss is None else {text: _section(text) for text in loss}
        kind = getattr(torch, dtype)
        for section in (chosen or {}).values():
            build_loss(section)  # a misspelt loss is told before anything is measured
        try:
            lines = check_kernels(device, kind)
        except GateError as error:
            typer.echo(f"error: {error}; nothing was timed", err=True)
            raise typer.Exit(1) from None
        typer.echo(f"values and gradients agree with the definition in {len(lines)} comparisons")
        costs = [
            cost
            for one in shapes
            for cost in measure_losses(
                one, chosen, device=device, dtype=kind, kind="trained" if trained else "untrained", rounds=rounds, compiled=device == "cuda"
            )
        ]
        _print(costs)
        if json_file is not None:
            write_json(json_file, {"machine": _machine(device), "rows": [c.as_json() for c in costs], "gate": lines})


def _shape(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(x) for x in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or min(numbers) < 1:
        raise ValueError(f"--shape must be N,C,H,W, four whole numbers above 0, got {text!r}")
    return numbers


def _section(text: str) -> dict[str, Any]:
    import yaml

    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--loss {text!r} is neither a name nor a mapping in YAML") from None
    return given if isinstance(given, dict) else {"type": str(given)}


def _machine(device: str) -> dict[str, Any]:
    import os
    import platform

    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def _print(costs: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = "forward + backward beside torch's cross-entropy: median of the ratios (quartiles)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("loss", "x CE", "ms", "ns/pixel", "GB/s", "memory"):
        table.add_column(column, justify="left" if column == "loss" else "right", no_wrap=True)
    shown = None
    for c in costs:
        in_memory = "-" if c.extra_bytes is None else f"{c.extra_bytes / max(1, c.baseline_extra_bytes):.2f}"
        if c.shape != shown:
            shown = c.shape
            table.add_section()
            table.add_row(f"[bold]{c.shape} {c.dtype} on {c.device}[/bold]")
        ratio = f"{c.ratio['median']:.2f} ({c.ratio['q1']:.2f}-{c.ratio['q3']:.2f})"
        speed = f"{c.seconds['median'] * 1e3:.2f}", f"{c.nanoseconds_per_pixel:.2f}", f"{c.gigabytes_per_second:.1f}"
        table.add_row(c.loss, ratio, *speed, in_memory)
    Console().print(table)

