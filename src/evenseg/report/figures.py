"""The charts, as plotly figures without colours: the page's script colours them for light or dark.

A trace's `meta` says what it is: `series` counts the losses (-1: plain ink) and `role` is "line", "band" or "dots".
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evenseg.report.tables import ClassRow, Comparison, Curve, ImageComparison

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def dash_of(series: int) -> str:
    """Line style of a loss: losses differ by more than colour."""
    return DASHES[series % len(DASHES)]


def curve_figure(curves: Mapping[str, tuple[int, Curve]], y_title: str) -> str:
    """Mean lines over the step, with a band from the lowest to the highest seed where there are several.

    Args:
        curves: by loss name, its position among the losses and its curve.
        y_title: axis title, with the unit.

    Returns:
        The figure as JSON that is safe inside a script element.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for series, curve in curves.values():
        if curve.n > 1:
            for y, fill in ((curve.low, None), (curve.high, "tonexty")):
                figure.add_trace(_line(go, series, curve.steps, y, "band", fill=fill, hoverinfo="skip", mode="lines"))
    for name, (series, curve) in curves.items():
        few = len(curve.steps) <= 40
        figure.add_trace(
            _line(
                go,
                series,
                curve.steps,
                curve.mean,
                "line",
                name=html.escape(name),
                mode="lines+markers" if few else "lines",
                line={"width": 2.25, "dash": dash_of(series) if len(curves) > 1 else "solid"},
                marker={"size": 5, "symbol": SYMBOLS[series % len(SYMBOLS)]},
                hovertemplate="%{y:.2f}",
            )
        )
    return finish(figure, 380, y_title)


def loss_figure(series: int, curves: Mapping[str, Curve]) -> str:
    """Training loss of one loss (in its colour, with a band) and its terms (in ink, told apart by dashes)."""
    import plotly.graph_objects as go

    figure = go.Figure()
    total = curves["loss"]
    if total.n > 1:
        for y, fill in ((total.low, None), (total.high, "tonexty")):
            figure.add_trace(_line(go, series, total.steps, y, "band", fill=fill, hoverinfo="skip", mode="lines"))
    for i, (name, curve) in enumerate(curves.items()):
        figure.add_trace(
            _line(
                go,
                series if i == 0 else -1,
                curve.steps,
                curve.mean,
                "line",
                name=html.escape(name),
                mode="lines",
                line={"width": 2 if i == 0 else 1.25, "dash": DASHES[0] if i == 0 else term_dash(i)},
                hovertemplate="%{y:.4f}",
            )
        )
    return finish(figure, 260, "")


def term_dash(i: int) -> str:
    """Line style of the i-th term (from 1)."""
    return DASHES[1:][(i - 1) % (len(DASHES) - 1)]


def difference_figure(comparisons: Sequence[Comparison], metric: str) -> str:
    """Mean paired difference to the baseline with its interval, one dot for each seed, and a line at 0."""
    import plotly.graph_objects as go

    figure = go.Figure()
    shown = [(i + 1, c) for i, c in enumerate(comparisons) if c.result is not None]
    for row, (series, comparison) in enumerate(shown):
        result = comparison.result
        assert result is not None
        label = html.escape(comparison.loss)
        seeds = [f"seed {seed}" for seed in comparison.seeds]
        figure.add_trace(
            go.Scatter(
                x=list(comparison.differences),
                y=[row + 0.22] * len(seeds),
                mode="markers",
                marker={"size": 8, "symbol": "circle-open", "line": {"width": 1.5}},
                text=seeds,
                name=label,
                hovertemplate="%{text}: %{x:+.2f} points",
                meta={"series": series, "role": "line"},
            )
        )
        error = None
        if result.high is not None:
            error = {"type": "data", "array": [result.high - result.mean], "thickness": 2.5, "width": 7}
        figure.add_trace(
            go.Scatter(
                x=[result.mean],
                y=[row],
                mode="markers",
                marker={"size": 11, "symbol": SYMBOLS[series % len(SYMBOLS)]},
                error_x=error,
                name=label,
                hovertemplate="mean %{x:+.2f} points",
                meta={"series": series, "role": "line"},
            )
        )
    names = [html.escape(_wrap(comparison.loss)).replace("\n", "<br>") for _, comparison in shown]
    figure.update_yaxes(
        tickvals=list(range(len(shown))), ticktext=names, range=[len(shown) - 0.4, -0.6], showgrid=False, zeroline=False
    )
    # 0 is always in sight: what matters is on which side of it an interval lies
    values = [0.0]
    for _, comparison in shown:
        values += comparison.differences
        if comparison.result is not None and comparison.result.low is not None and comparison.result.high is not None:
            values += [comparison.result.low, comparison.result.high]
    margin = 0.08 * (max(values) - min(values)) or 1.0
    figure.update_xaxes(zeroline=True, zerolinewidth=2, range=[min(values) - margin, max(values) + margin])
    figure.update_layout(hovermode="closest")
    return finish(figure, 110 + 66 * len(shown), "", f"difference, points of {metric}")


def class_gain_figure(rows: Sequence[ClassRow], losses: Sequence[str]) -> str:
    """Mean paired difference of each class to the baseline with its interval, one mark for each other loss."""
    import plotly.graph_objects as go

    figure = go.Figure()
    others = len(losses) - 1
    values = [0.0]
    for series in range(1, len(losses)):
        shown = [(place, row.cells[series].gain) for place, row in enumerate(rows) if row.cells[series].gain is not None]
        known = [(place, gain) for place, gain in shown if gain is not None]
        # side by side within the line of a class
        shift = 0.6 * ((series - 0.5) / others - 0.5)
        halves = [0.0 if gain.high is None else gain.high - gain.mean for _, gain in known]
        values += [value for (_, gain), half in zip(known, halves) for value in (gain.mean - half, gain.mean + half)]
        figure.add_trace(
            go.Scatter(
                x=[gain.mean for _, gain in known],
                y=[place + shift for place, _ in known],
                mode="markers",
                marker={"size": 9, "symbol": SYMBOLS[series % len(SYMBOLS)]},
                error_x={"type": "data", "array": halves, "thickness": 2, "width": 4} if any(halves) else None,
                text=[html.escape(rows[place].name) for place, _ in known],
                name=html.escape(losses[series]),
                hovertemplate="%{text}: %{x:+.2f} points",
                meta={"series": series, "role": "line"},
            )
        )
    names = [html.escape(_wrap(row.name)).replace("\n", "<br>") for row in rows]
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False
    )
    margin = 0.05 * (max(values) - min(values)) or 1.0
    figure.update_xaxes(zeroline=True, zerolinewidth=2, range=[min(values) - margin, max(values) + margin])
    figure.update_layout(hovermode="closest")
    return finish(figure, 90 + len(rows) * max(30, 14 * others + 12), "", "difference, points of IoU")


def image_figure(comparisons: Sequence[ImageComparison], losses: Sequence[str]) -> str:
    """Differences of all images to the baseline, sorted, one line for each other loss."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for comparison in comparisons:
        series = losses.index(comparison.loss)
        ordered = sorted(comparison.differences.items(), key=lambda item: item[1])
        figure.add_trace(
            go.Scatter(
                x=[(i + 0.5) / len(ordered) * 100 for i in range(len(ordered))],
                y=[value for _, value in ordered],
                mode="lines+markers" if len(ordered) <= 60 else "lines",
                line={"width": 2, "dash": dash_of(series)},
                marker={"size": 6, "symbol": SYMBOLS[series % len(SYMBOLS)]},
                text=[html.escape(name) for name, _ in ordered],
                name=html.escape(comparison.loss),
                hovertemplate="%{text}: %{y:+.2f} points",
                meta={"series": series, "role": "line"},
            )
        )
    figure.update_yaxes(zeroline=True, zerolinewidth=2)
    figure.update_xaxes(zeroline=False)
    figure.update_layout(hovermode="closest")
    return finish(figure, 300, "points of per-image mIoU", "share of the images, %")


def reliability_figure(curves: Mapping[str, tuple[int, Sequence[tuple[float, float, int]]]]) -> str:
    """Accuracy against confidence of the predicted class, with the diagonal of perfect calibration."""
    import plotly.graph_objects as go

    figure = go.Figure()
    ends = [point[0] for _, points in curves.values() for point in points]
    low = min([*ends, 50.0])
    figure.add_trace(_line(go, -1, [low, 100.0], [low, 100.0], "line", mode="lines", line={"width": 1}, hoverinfo="skip"))
    for name, (series, points) in curves.items():
        figure.add_trace(
            go.Scatter(
                x=[point[0] for point in points],
                y=[point[1] for point in points],
                mode="lines+markers",
                line={"width": 2, "dash": dash_of(series)},
                marker={"size": 6, "symbol": SYMBOLS[series % len(SYMBOLS)]},
                text=[f"{point[2]:,} pixels" for point in points],
                name=html.escape(name),
                hovertemplate="%{text}: confidence %{x:.1f} %, accuracy %{y:.1f} %",
                meta={"series": series, "role": "line"},
            )
        )
    figure.update_layout(hovermode="closest")
    return finish(figure, 360, "accuracy, %", "confidence, %")


def _wrap(name: str, width: int = 16) -> str:
    """Break a long name at spaces, so that labels leave room for the chart."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _line(go: Any, series: int, x: Sequence[float], y: Sequence[float | None], role: str, **style: Any) -> Any:
    if role == "band":
        style["line"] = {"width": 0}
    return go.Scatter(x=list(x), y=list(y), meta={"series": series, "role": role}, **style)


def finish(figure: Any, height: int, y_title: str, x_title: str = "step") -> str:
    """Lay a figure out like all others and return it as JSON that is safe inside a script element."""
    figure.update_layout(
        height=height,
        showlegend=False,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        hoverlabel={"namelength": -1},
    )
    if figure.layout.hovermode is None:
        figure.update_layout(hovermode="x unified")
    for update, title in ((figure.update_xaxes, x_title), (figure.update_yaxes, y_title or None)):
        update(title={"text": title, "standoff": 8, "font": {"size": 13}}, automargin=True)
    figure.layout.template = None
    data = figure.to_plotly_json()
    # "<" could end the script element; NaN would not be JSON
    return json.dumps({"data": data["data"], "layout": data["layout"]}, allow_nan=False).replace("<", "\\u003c")


def plotly_js() -> str:
    """The text of plotly.js, safe inside a script element."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")
