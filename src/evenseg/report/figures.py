"""The charts, as plotly figures without colours: the page's script colours them for light or dark.

A trace's `meta` says what it is: `series` counts the losses (-1: plain ink) and `role` is "line", "band" or "dots".
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evenseg.report.tables import Comparison, Curve

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


def _wrap(name: str, width: int = 16) -> str:
    """Break a long name at spaces, so that labels leave room for the chart."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _line(go: Any, series: int, x: Sequence[int], y: Sequence[float | None], role: str, **style: Any) -> Any:
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
