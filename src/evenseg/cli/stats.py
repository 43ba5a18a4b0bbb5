"""`evenseg stats CONFIG`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenseg.cli.check import write_json
from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, JsonFile, Overrides

if TYPE_CHECKING:
    from rich.console import Console

    from evenseg.engine.examine import Statistics

_MOST_SIZES = 6


def stats(
    config: ConfigFile,
    overrides: Overrides = None,
    json_file: JsonFile = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts, complete in itself.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Count pixels, images and objects of every class; suggest class weights and a loss section to begin with."""
    with one_line_errors(debug):
        from evenseg.config import load_config

        settings = load_config(config, overrides or [])
        from rich.console import Console

        from evenseg.cli.progress import reading
        from evenseg.engine.examine import statistics

        with reading() as progress:
            found = statistics(settings, progress)
        suggestion = suggestion_yaml(found)
        _print(found, suggestion, Console())
        if json_file is not None:
            write_json(json_file, {"config": str(config)} | found.as_json())
        if html_file is not None:
            from evenseg.report import write_data_page

            html_file.parent.mkdir(parents=True, exist_ok=True)
            typer.echo(str(write_data_page(found.as_json(), config.stem, suggestion, html_file)))


def suggestion_yaml(found: Statistics) -> str:
    """Returns the suggested sections as they stand in a configuration."""
    import yaml

    sections: dict[str, Any] = {"loss": found.suggestion.loss}
    if found.suggestion.sampler is not None:
        sections["sampler"] = found.suggestion.sampler
    return yaml.safe_dump(sections, sort_keys=False, default_flow_style=None)


def _print(found: Statistics, suggestion: str, console: Console) -> None:
    from dataclasses import asdict

    from rich.table import Table

    from evenseg.data.class_statistics import order_of_size
    from evenseg.report.data_page import class_cells, percent, weight_cell

    for split in found.splits:
        title = f"{split.section}: {split.images} images, {percent(split.ignored_share)} % of the pixels ignored"
        table = Table("class", title=title, title_justify="left")
        for heading in ("pixels %", "images %", "objects", "median area", "small objects %"):
            table.add_column(heading, justify="right")
        for entry in split.classes:
            table.add_row(*class_cells(asdict(entry)))
        console.print(table)
        sizes = order_of_size(split.sizes)
        listed = ", ".join(f"{h}x{w} ({n})" for (h, w), n in sizes[:_MOST_SIZES])
        more = f" and {len(sizes) - _MOST_SIZES} more" if len(sizes) > _MOST_SIZES else ""
        console.print(f"image sizes, height x width: {listed}{more}", highlight=False)
    table = Table("class", title="class weights, from the training masks", title_justify="left")
    for rule in found.weights:
        table.add_column(rule, justify="right")
    for i, entry in enumerate(found.splits[0].classes):
        table.add_row(entry.name, *[weight_cell(weights[i]) for weights in found.weights.values()])
    console.print(table)
    console.print("a loss to begin with; compare it with cross-entropy alone:", style="bold")
    console.print(found.suggestion.reason, highlight=False)
    console.print(suggestion, highlight=False, markup=False, soft_wrap=True)
