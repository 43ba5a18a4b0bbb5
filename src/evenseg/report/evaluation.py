"""One evaluation as a page that needs nothing else: the table of classes, the confusion matrix, the reliability curve."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evenseg.report import figures, wording
from evenseg.report.page import write_page

# key in the row of an evaluation -> heading of its column
CLASS_COLUMNS = {
    "iou": "IoU",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "boundary_f1": "boundary F1",
    "boundary_iou": "boundary IoU",
}
# headings of the means, and where they stand in the row
SUMMARY = {
    "mIoU over the data set": "miou",
    "mIoU per image": "per_image_miou",
    "frequency-weighted IoU": "frequency_weighted_iou",
    "mean Dice": "mean_dice",
    "pixel accuracy": "accuracy",
    "mean recall": "mean_accuracy",
    "mean boundary F1": "mean_boundary_f1",
    "boundary F1 per image": "per_image_boundary_f1",
    "mean boundary IoU": "mean_boundary_iou",
    "boundary IoU per image": "per_image_boundary_iou",
}


def write_evaluation_report(file: str | Path) -> Path:
    """Write an evaluation's page beside its JSON.

    Args:
        file: SPLIT.json, as `evenseg evaluate` writes it.

    Returns:
        The path of SPLIT.html.

    Raises:
        ValueError: the file is not such JSON.
    """
    file = Path(file)
    try:
        row: dict[str, Any] = json.loads(file.read_text("utf-8"))
        context = _context(row, file)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: no evaluation of this version ({type(error).__name__}: {error})") from error
    return write_page("evaluation.html", context, file.with_suffix(".html"))


def _context(row: dict[str, Any], file: Path) -> dict[str, Any]:
    calibration = row["calibration"]
    return {
        "title": f"{file.parent.parent.name}, {row['split']}",
        "facts": [wording.counted(row["images"], "image"), row["checkpoint"], seen_how(row["settings"])],
        "headline": (
            f"mIoU {percent(row['miou'])} % over the data set, {percent(row['per_image_miou'])} % per image; "
            f"boundary F1 {percent(row['mean_boundary_f1'])} %; calibration error {percent(calibration['ece'])} %."
        ),
        "summary": [{"name": name, "value": percent(row[key])} for name, key in SUMMARY.items()],
        "columns": [*CLASS_COLUMNS.values(), "calibration error"],
        "class_rows": [
            {
                "name": name,
                "color": row["colors"][c],
                "cells": [
                    *(percent(row[key][c], without_score(row, c)) for key in CLASS_COLUMNS),
                    percent(calibration["class_ece"][c], without_score(row, c)),
                ],
            }
            for c, name in enumerate(row["classes"])
        ],
        "without_score": "; ".join(words_used(row)),
        "tolerance": size_of(row["settings"]["boundary_tolerance"]),
        "width": size_of(row["settings"]["boundary_width"]),
        "confusion": confusion_figure(row["confusion"], row["classes"]),
        "reliability": reliability_figure(calibration["bins"]),
        "shares": share_figure(calibration["bins"]["pixels"]),
        "ece": percent(calibration["ece"]),
        "mce": percent(calibration["mce"]),
        "mean_class_ece": percent(calibration["mean_class_ece"]),
        "bins": len(calibration["bins"]["pixels"]),
    }


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """The confusion matrix as a map, each row in per cent of the class's labelled pixels."""
    import plotly.graph_objects as go

    names = [html.escape(name) for name in classes]
    shares = [[100 * count / sum(row) if sum(row) else None for count in row] for row in confusion]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=names,
            y=names,
            customdata=confusion,
            zmin=0,
            zmax=100,
            xgap=1,
            ygap=1,
            showscale=False,
            texttemplate="%{z:.1f}" if len(names) <= 12 else None,
            hovertemplate="%{y} predicted as %{x}: %{z:.2f} %, %{customdata:,} pixels<extra></extra>",
            meta={"series": 1, "role": "map"},
        )
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, side="bottom")
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, max(260, min(900, 110 + 34 * len(names))), "labelled", "predicted")


def reliability_figure(bins: dict[str, Any]) -> str:
    """Accuracy against mean confidence, one point per bin, beside the line of perfect calibration."""
    import plotly.graph_objects as go

    filled = [i for i, pixels in enumerate(bins["pixels"]) if pixels]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, 100],
            y=[0, 100],
            mode="lines",
            line={"width": 1.5, "dash": "dash"},
            hoverinfo="skip",
            meta={"series": -1, "role": "line"},
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[100 * bins["confidence"][i] for i in filled],
            y=[100 * bins["accuracy"][i] for i in filled],
            customdata=[bins["pixels"][i] for i in filled],
            mode="lines+markers",
            line={"width": 2.25},
            marker={"size": 8},
            hovertemplate="confidence %{x:.1f} %: right in %{y:.1f} % of %{customdata:,} pixels<extra></extra>",
            meta={"series": 1, "role": "line"},
        )
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(range=[0, 102], zeroline=False)
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, 380, "accuracy, %", "confidence, %")


def share_figure(pixels: Sequence[int]) -> str:
    """The share of the pixels in each bin of confidence."""
    import plotly.graph_objects as go

    total, width = sum(pixels) or 1, 100 / len(pixels)
    figure = go.Figure(
        go.Bar(
            x=[width * (i + 0.5) for i in range(len(pixels))],
            y=[100 * count / total for count in pixels],
            width=0.92 * width,
            hovertemplate="%{y:.2f} % of the pixels<extra></extra>",
            marker={"opacity": 0.85},
            meta={"series": 1, "role": "dots"},
        )
    )
    figure.update_xaxes(range=[0, 102], zeroline=False)
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, 190, "pixels, %", "confidence, %")


def seen_how(settings: dict[str, Any]) -> str:
    """Says in a few words how the images were seen."""
    window = settings["window"]
    parts = [f"windows of {window[1]} x {window[0]}, {settings['blend']} blending" if window else "whole images"]
    if settings["scales"] != [1.0]:
        parts.append("scales " + ", ".join(f"{scale:g}" for scale in settings["scales"]))
    if settings["flip"]:
        parts.append("mirrored too")
    return ", ".join(parts)


def size_of(value: float) -> str:
    """Says a length that is in pixels from 1 on, and a share of the diagonal below."""
    return f"{value:g} px" if value >= 1 else f"{100 * value:g} % of the image's diagonal"


def without_score(row: dict[str, Any], c: int) -> str:
    """Says in a word or two why a class may lack a score: whether the labels or the predictions lack it."""
    labelled = sum(row["confusion"][c])
    predicted = sum(counts[c] for counts in row["confusion"])
    if labelled and predicted:
        return "undefined"
    if labelled:
        return "never predicted"
    return "not labelled" if predicted else "absent"


WITHOUT_SCORE = {
    "absent": "neither labelled nor predicted, and left out of the means",
    "never predicted": "it is in the labels, so its IoU is 0",
    "not labelled": "predicted, but in no label",
    "undefined": "nothing to measure, such as a class without a boundary",
}


def words_used(row: dict[str, Any]) -> list[str]:
    """Explains the words that stand for scores in the table of classes, each once."""
    scores = [row[key] for key in CLASS_COLUMNS] + [row["calibration"]["class_ece"]]
    said = {without_score(row, c) for c in range(len(row["classes"])) if any(values[c] is None for values in scores)}
    return [f"“{word}”: {meaning}" for word, meaning in WITHOUT_SCORE.items() if word in said]


def percent(value: float | None, missing: str = "n/a") -> str:
    """A fraction in per cent with two decimals."""
    return missing if value is None else wording.number(100 * value)
