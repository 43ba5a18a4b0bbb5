"""A search as a page that needs nothing else: what was found, at what cost, its curves and all its trials."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg.report import figures, wording
from evenseg.report.folders import SCORES
from evenseg.report.page import write_page

_SHOWN = 12  # trials in the table
_STEPS = 40  # points of a drawn piece
_CURVES = {1: ("AND",), 2: ("AND", "OR"), 4: ("h1", "h2", "h3", "h4")}
_COUNT = {"mIoU": 2, "FWIoU": 2, "BIoU": 2, "mAcc": 1, "gAcc": 1, "BF1": 4}  # curves of each metric


def write_search_report(folder: str | Path) -> Path:
    """Writes FOLDER/search.html from what `evenseg search` left there.

    Args:
        folder: of the search, finished or not.

    Returns:
        The path of the page.

    Raises:
        ValueError: search.json is missing or malformed.
    """
    folder = Path(folder)
    facts = _read(folder / "search.json")
    rows: Sequence[Mapping[str, Any]] = facts["rows"]
    scored = [row for row in rows if row["value"] is not None]
    ranked = sorted(scored, key=lambda row: (-row["value"], row["number"]))
    best = ranked[0] if ranked else None
    start = next((row for row in scored if row["number"] == 0), None)
    metric = metric_name(facts["metric"])
    seconds = sum(row["seconds"] or 0.0 for row in rows)
    loss = folder / "best_loss.yml"
    context = {
        "title": f"Search for {metric}",
        "metric": metric,
        "facts": [
            f"{len(rows)} of {wording.counted(facts['trials'], 'trial')}",
            f"{facts['iters']} steps each" + (f", {len(facts['seeds'])} seeds" if len(facts["seeds"]) > 1 else ""),
            facts["sampler"],
            facts["device"],
            wording.duration(seconds),
        ],
        "headline": headline(metric, best, start, len(scored), facts["iters"]),
        "caveats": caveats(rows, facts),
        "missing": [row for row in rows if row["state"] in ("failed", "pruned")],
        "by_trial": trial_figure(scored, metric, facts["samples"]) if scored else "",
        "rounds": facts["samples"],
        "by_cost": cost_figure(rows, metric) if scored else "",
        "panels": [panel for curves in facts["curves"] for panel in curve_panels(curves, best)] if best else [],
        "ranked": [
            {
                "number": row["number"],
                "value": wording.number(100 * row["value"]),
                "gain": "" if start is None else wording.signed(100 * (row["value"] - start["value"])),
                "seconds": wording.duration(row["seconds"] or 0.0),
                "settings": [f"{key}: {as_text(value)}" for key, value in row["settings"].items()],
            }
            for row in ranked[:_SHOWN]
        ],
        "scored": len(scored),
        "loss": loss.read_text("utf-8") if loss.is_file() else "",
        "folded": [{"title": "Config of the search", "text": (folder / "config.yaml").read_text("utf-8").rstrip()}],
    }
    return write_page("search.html", context, folder / "search.html")


def metric_name(metric: str) -> str:
    """Returns how the report calls a metric: `mIoU`, `IoU of road`."""
    return f"IoU of {metric.partition('.')[2]}" if metric.startswith("iou.") else SCORES[metric]


def headline(metric: str, best: Mapping[str, Any] | None, start: Mapping[str, Any] | None, scored: int, iters: int) -> str:
    """Says in one sentence what was found."""
    if best is None:
        return "No trial has a result yet."
    found = f"{wording.number(100 * best['value'])} % {metric} after {iters} steps"
    if start is not None and best["number"] == start["number"]:
        return f"The loss as it was written is the best of {wording.counted(scored, 'trial')}: {found}."
    text = f"Trial {best['number']} is the best of {wording.counted(scored, 'trial')}: {found}"
    return text + (f", against {wording.number(100 * start['value'])} % of the loss as it was written." if start else ".")


def caveats(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """Says what the number of the best trial does not tell."""
    runs = wording.counted(len(facts["seeds"]), "short run")
    notes = [
        f"That is the highest of many measurements of {runs} each, on the images that chose it: part of its lead is chance. Whether it "
        "holds, evenseg compare tells, with best_loss.yml and the loss as it was written, at full length and over several seeds."
    ]
    failed = sum(row["state"] == "failed" for row in rows)
    if failed:
        notes.append(f"{wording.counted(failed, 'trial')} failed; the reasons are below.")
    if len(rows) < facts["trials"]:
        notes.append("The search has not come to its end; the same command goes on with it.")
    return notes


def trial_figure(scored: Sequence[Mapping[str, Any]], metric: str, samples: int | None) -> str:
    """Draws the value of every trial and the best so far; the means of the rounds where there are rounds."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_trace(_dots(go, [row["number"] for row in scored], scored, 0, figures.SYMBOLS[0]))
    if samples:
        means = [row for row in scored if row["number"] % samples == 0]
        figure.add_trace(_dots(go, [row["number"] for row in means], means, 2, figures.SYMBOLS[2], 11))
    figure.add_trace(_best_so_far(go, [row["number"] for row in scored], scored))
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(zeroline=False)
    return figures.finish(figure, 340, f"{metric}, %", "trial")


def cost_figure(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Draws the best so far against the training time spent, that of pruned and failed trials included."""
    import plotly.graph_objects as go

    spent, total = {}, 0.0
    for row in rows:
        total += row["seconds"] or 0.0
        spent[row["number"]] = total / 60
    scored = [row for row in rows if row["value"] is not None]
    figure = go.Figure()
    figure.add_trace(_dots(go, [spent[row["number"]] for row in scored], scored, 0, figures.SYMBOLS[0]))
    figure.add_trace(_best_so_far(go, [spent[row["number"]] for row in scored], scored))
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(zeroline=False)
    return figures.finish(figure, 300, f"{metric}, %", "minutes of training, all workers together")


def curve_panels(curves: Mapping[str, Any], best: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a chart for every curve of a metric: as it was written, as it was found, and the identity."""
    key, metric = curves["key"], curves["metric"]
    found = best["settings"][key]
    found = found[metric] if isinstance(found, Mapping) else found
    count = _COUNT[metric]
    each = len(found) // count
    panels = []
    for i, name in enumerate(_CURVES[count]):
        part = slice(i * each, (i + 1) * each)
        identifier = f"curve-{html.escape(key)}-{metric}-{i}".replace("[", "-").replace("]", "").replace(".", "-")
        panels.append({"name": f"{metric}: {name}", "id": identifier, "json": curve_figure(curves["start"][part], found[part])})
    return panels


def curve_figure(start: Sequence[float], found: Sequence[float]) -> str:
    """Draws one curve before and after the search, over the thin diagonal."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"width": 1, "dash": "dot"}, hoverinfo="skip", meta={"series": -1, "role": "line"}
        )
    )  # fmt: skip
    for series, numbers, name in ((0, start, "as written"), (1, found, "found")):
        points = bezier(numbers)
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                mode="lines",
                name=name,
                line={"width": 2, "dash": figures.dash_of(series)},
                hovertemplate=f"{name}: %{{x:.3f}} becomes %{{y:.3f}}",
                meta={"series": series, "role": "line"},
            )
        )
    figure.update_layout(hovermode="closest")
    return figures.finish(figure, 260, "bent", "probability")


def bezier(numbers: Sequence[float]) -> list[tuple[float, float]]:
    """Returns points along the curve of inner control points x1, y1, x2, y2, ... between (0, 0) and (1, 1)."""
    control = [(0.0, 0.0), *zip(numbers[::2], numbers[1::2], strict=True), (1.0, 1.0)]
    points = [control[0]]
    for (x0, y0), (x1, y1), (x2, y2) in zip(control[::2], control[1::2], control[2::2], strict=False):
        for k in range(1, _STEPS + 1):
            t = k / _STEPS
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            points.append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
    return points


def as_text(value: Any) -> str:
    """Returns a value with few digits."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {as_text(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(as_text(entry) for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _dots(go: Any, x: Sequence[float], rows: Sequence[Mapping[str, Any]], series: int, symbol: str, size: int = 7) -> Any:
    return go.Scatter(
        x=list(x),
        y=[100 * row["value"] for row in rows],
        mode="markers",
        marker={"size": size, "symbol": symbol},
        text=[f"trial {row['number']}" for row in rows],
        hovertemplate="%{text}: %{y:.2f} %",
        meta={"series": series, "role": "dots"},
    )


def _best_so_far(go: Any, x: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> Any:
    best, y = 0.0, []
    for row in rows:
        best = max(best, 100 * row["value"])
        y.append(best)
    return go.Scatter(
        x=list(x), y=y, mode="lines", line={"width": 2, "shape": "hv"}, hovertemplate="best so far: %{y:.2f} %",
        meta={"series": 1, "role": "line"},
    )  # fmt: skip


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file} is missing: {file.parent} holds no search")
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error
