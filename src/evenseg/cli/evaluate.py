"""`evenseg evaluate RUN`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer

from evenseg._names import unknown_name
from evenseg._paths import check_run_folder
from evenseg.cli.errors import one_line_errors
from evenseg.cli.inference import BlendOption, Flip, RunArgument, Scales, Stride, Window, as_overrides
from evenseg.cli.options import Debug, Overrides

Split = Literal["train", "val", "test"]


def evaluate(
    run: Annotated[Path, RunArgument],
    split: Annotated[str, typer.Option(help="Which data set of the run's configuration: train, val or test.")] = "val",
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="ROOT", help="Where that data set lies now; short for --set SPLIT_dataset.root."
        ),
    ] = None,
    window: Window = None,
    stride: Stride = None,
    blend: BlendOption = None,
    scales: Scales = None,
    flip: Flip = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Measure the best weights of a run: scores per class, boundaries, calibration; the path of the page is printed last.

    Writes RUN/evaluation/SPLIT.json, .csv (classes), _images.csv and .html. How images are seen (windows, scales, flip) comes
    from the run's `evaluation` section unless given here.
    """
    with one_line_errors(debug):
        check_run_folder(run, weights=True)
        if split not in get_args(Split):
            raise ValueError(unknown_name("--split", split, get_args(Split)))
        from evenseg import engine

        changes = [] if data is None else [f"{split}_dataset.root={data}"]
        changes += as_overrides(window, stride, blend, scales, flip)
        row = engine.evaluate(run, cast(Split, split), [*(overrides or []), *changes])
        from evenseg.engine.placement import is_first_process

        if not is_first_process():
            return
        _print_table(row)
        typer.echo(str(run / "evaluation" / f"{split}.html"))


def _print_table(row: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from evenseg.report.evaluation import CLASS_COLUMNS, percent, seen_how, without_score, words_used

    settings = seen_how(row["settings"])
    table = Table(
        title=f"{row['split']}, {row['images']} images, {settings}", caption="per cent; recall = class accuracy"
    )
    table.add_column("class")
    for heading in CLASS_COLUMNS.values():
        table.add_column(heading, justify="right")
    for index, name in enumerate(row["classes"]):
        table.add_row(name, *[percent(row[key][index], without_score(row, index)) for key in CLASS_COLUMNS])
    table.add_section()
    means = ("miou", "mean_dice", None, "mean_accuracy", "mean_boundary_f1", "mean_boundary_iou")
    table.add_row("mean", *["" if key is None else percent(row[key]) for key in means])
    console = Console()
    console.print(table)
    for line in words_used(row):
        console.print(line, highlight=False)
    console.print(
        f"mean IoU per image {percent(row['per_image_miou'])}, pixel accuracy {percent(row['accuracy'])}, "
        f"frequency-weighted IoU {percent(row['frequency_weighted_iou'])}, "
        f"expected calibration error {percent(row['calibration']['ece'])}",
        highlight=False,
    )
