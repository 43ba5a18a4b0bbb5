"""The classes of a data set as a page that needs nothing else: shares, objects, image sizes, weights, a suggestion."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg.report import figures
from evenseg.report.page import write_page

_MOST_SIZES = 12


def write_data_page(statistics: Mapping[str, Any], title: str, suggestion: str, file: str | Path) -> Path:
    """Writes the page of `evenseg stats`.

    Args:
        statistics: as `evenseg stats --json` holds them.
        title: what the page is about, such as the configuration's name.
        suggestion: the suggested sections as YAML.
        file: to write.

    Returns:
        The path of the page.
    """
    splits = statistics["splits"]
    names = [row["name"] for row in splits[0]["classes"]]
    context = {
        "title": title,
        "splits": [
            {"name": split["section"], "series": i, "images": split["images"], "ignored": percent(split["ignored_share"])}
            for i, split in enumerate(splits)
        ],
        "shares": dot_figure(splits, "share", "share of the labelled pixels, %", log=True),
        "images": dot_figure(splits, "image_share", "share of the images that hold the class, %"),
        "areas": area_figure(splits[0]),
        "area_legend": [
            {"name": name, "series": i, "dash": figures.dash_of(i)}
            for i, name in enumerate(names)
            if splits[0]["classes"][i]["area_quantiles"]
        ],
        "training": splits[0]["section"],
        "tables": [{"name": split["section"], "rows": [class_cells(row) for row in split["classes"]]} for split in splits],
        "sizes": [
            {
                "name": split["section"],
                "rows": [(f"{s['height']} x {s['width']}", s["images"]) for s in split["sizes"][:_MOST_SIZES]],
                "more": max(0, len(split["sizes"]) - _MOST_SIZES),
            }
            for split in splits
        ],
        "rules": list(statistics["weights"]),
        "weights": [
            {"name": name, "cells": [weight_cell(weights[i]) for weights in statistics["weights"].values()]}
            for i, name in enumerate(names)
        ],
        "reason": statistics["suggestion"]["reason"],
        "suggestion": suggestion,
    }
    return write_page("data.html", context, Path(file))


def class_cells(row: Mapping[str, Any]) -> list[str]:
    """Returns name, pixel share, image share, objects, their median area and the share of small ones, as text."""
    return [
        row["name"],
        percent(row["share"]),
        percent(row["image_share"]),
        str(row["objects"]),
        "absent" if row["median_area"] is None else f"{row['median_area']:.0f}",
        "absent" if row["small_objects"] is None else percent(row["small_objects"]),
    ]


def percent(share: float) -> str:
    """Returns a share as per cent with at least two digits, without the sign."""
    value = 100 * share
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def weight_cell(weight: float | None) -> str:
    """Returns a class weight as text."""
    return "absent" if weight is None else f"{weight:.4g}"


def dot_figure(splits: Sequence[Mapping[str, Any]], key: str, x_title: str, log: bool = False) -> str:
    """One row per class, one dot per split: a logarithmic axis has no 0 that bars could begin at."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = [row["name"] for row in splits[0]["classes"]]
    for series, split in enumerate(splits):
        values = [100 * row[key] for row in split["classes"]]
        figure.add_trace(
            go.Scatter(
                x=[value if value > 0 or not log else None for value in values],
                # where the splits agree, their dots would hide each other
                y=[place + 0.16 * (series - (len(splits) - 1) / 2) for place in range(len(names))],
                mode="markers",
                marker={"size": 10, "symbol": figures.SYMBOLS[series % len(figures.SYMBOLS)]},
                text=[html.escape(name) for name in names],
                name=split["section"],
                hovertemplate="%{text}: %{x:.3g} %",
                meta={"series": series, "role": "line"},
            )
        )
    ticks = [html.escape(name) for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=ticks, range=[len(names) - 0.4, -0.6], showgrid=False, zeroline=False
    )
    figure.update_xaxes(type="log" if log else "linear")
    if log:
        figure.update_xaxes(dtick=1)
    else:
        figure.update_xaxes(range=[-2, 102])
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, 90 + 32 * len(names), "", x_title)


def area_figure(split: Mapping[str, Any]) -> str:
    """Quantiles of the areas of every class's objects: the part of them that is at most so large."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for series, row in enumerate(split["classes"]):
        areas = row["area_quantiles"]
        if not areas:
            continue
        figure.add_trace(
            go.Scatter(
                x=areas,
                y=[100 * i / (len(areas) - 1) for i in range(len(areas))],
                mode="lines",
                line={"width": 2.25, "dash": figures.dash_of(series)},
                name=html.escape(row["name"]),
                hovertemplate="%{y:.0f} % of the objects have at most %{x:.3g} pixels",
                meta={"series": series, "role": "line"},
            )
        )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, 360, "part of the objects, %", "area of an object, pixels")
