"""`evenseg evaluate RUN`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import Debug, Overrides


class Split(str, Enum):
    val = "val"
    test = "test"
    train = "train"


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    split: Annotated[Split, typer.Option(help="Which data set of the run's configuration.")] = Split.val,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Measure the best weights of a run per class; writes RUN/evaluation.json."""
    with one_line_errors(debug):
        from evenseg import engine

        _print_table(engine.evaluate(run, split.value, overrides or []))
        typer.echo(str(run / "evaluation.json"))


def _print_table(row: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{row['split']}, {row['images']} images, {row['checkpoint']}", caption="per cent")
    table.add_column("class")
    columns = {"IoU": "iou", "Dice": "dice", "precision": "precision", "recall": "recall"}
    for heading in columns:
        table.add_column(heading, justify="right")
    for index, name in enumerate(row["classes"]):
        table.add_row(name, *[_percent(row[key][index]) for key in columns.values()])
    table.add_section()
    table.add_row("mean", _percent(row["miou"]), _percent(row["mean_dice"]), "", _percent(row["mean_accuracy"]))
    console = Console()
    console.print(table)
    console.print(
        f"mean IoU per image {_percent(row['per_image_miou'])}, pixel accuracy {_percent(row['accuracy'])}, "
        f"frequency-weighted IoU {_percent(row['frequency_weighted_iou'])}",
        highlight=False,
    )


def _percent(value: float | None) -> str:
    return "absent" if value is None else f"{100 * value:.2f}"
