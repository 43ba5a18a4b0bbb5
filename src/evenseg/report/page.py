"""From a folder to one HTML page that needs nothing else: numbers, charts, pictures, set-up."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg import __version__
from evenseg.report import figures, overlays, tables, wording
from evenseg.report.csv_tables import write_tables
from evenseg.report.folders import read_run, read_study
from evenseg.report.records import SCORES, SPLITS, Run, Study


def write_study_report(study_folder: str | Path) -> Path:
    """Write STUDY/report.html, the comparison of losses as one self-contained page, and STUDY/tables/*.csv.

    Args:
        study_folder: what `evenseg compare` wrote; runs that did not finish are named on the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: a missing or malformed file, by name.
    """
    study = read_study(study_folder)
    comparisons = tables.compare_to_baseline(study)
    metric = SCORES[study.metric]
    curves = {
        loss: (series, curve)
        for series, loss in enumerate(study.losses)
        if (curve := tables.score_curve(list(study.of(loss).values()), study.metric)) is not None
    }
    rows = tables.class_table(study)
    steps = sorted({run.steps for run in study.runs.values()})
    facts = [
        wording.counted(len(study.losses), "loss"),
        wording.counted(len(study.seeds), "seed") + f" ({', '.join(map(str, study.seeds))})",
        *(["–".join(map(str, dict.fromkeys([steps[0], steps[-1]]))) + " steps"] if steps else []),
        study.device,
        wording.duration(study.seconds),
    ]
    judged = "test images" if study.judged_on_test else "best validation step"
    images = tables.compare_images(study)
    measured = [
        {
            "split": SPLITS[split],
            "rows": tables.measure_table(study, split),
            "images": max((len(run.evaluations[split].images) for run in study.runs.values()), default=0),
        }
        for split in study.evaluated
    ]
    reliable = {
        loss: (series, points)
        for series, loss in enumerate(study.losses)
        if study.evaluated and (points := tables.reliability(study, loss, study.evaluated[0]))
    }
    picture_seed, pictures, picture_note = _pictures(study)
    context = {
        "title": " ".join(_title_parts(study.losses)),
        "title_parts": _title_parts(study.losses),
        "facts": facts,
        "headline": wording.study_headline(study, comparisons),
        "caveats": wording.study_caveats(study, comparisons),
        "missing": study.missing,
        "expected": len(study.losses) * len(study.seeds),
        "metric": metric,
        "baseline": study.losses[0],
        "seeds": len(study.seeds),
        "losses": [{"name": loss, "series": i, "dash": figures.dash_of(i)} for i, loss in enumerate(study.losses)],
        "curve": figures.curve_figure(curves, f"{metric}, %") if curves else "",
        "curve_note": _curve_note(curves),
        "columns": tables.SCORE_COLUMNS,
        "scores": tables.score_table(study),
        "confidence": f"{100 * tables.CONFIDENCE:.0f}",
        "differences": figures.difference_figure(comparisons, metric) if any(c.result for c in comparisons) else "",
        "comparisons": [_comparison(comparison, study.losses[0]) for comparison in comparisons],
        "class_rows": [_class_row(row, study) for row in rows],
        "class_keys": [{"name": row.name, "color": row.color} for row in rows],
        "judged": judged,
        "class_gains": figures.class_gain_figure(rows, study.losses) if _has_gains(rows) else "",
        "images": [_image_comparison(c) | {"series": study.losses.index(c.loss)} for c in images],
        "image_curves": figures.image_figure(images, study.losses) if images else "",
        "image_split": SPLITS[study.evaluated[0]] if study.evaluated else "",
        "measures": [(title, note) for title, note, _, _ in tables.MEASURES],
        "measured": measured,
        "reliability": figures.reliability_figure(reliable) if reliable else "",
        "pictures": pictures,
        "picture_note": picture_note,
        "picture_seed": picture_seed,
        "tables": sorted(file.name for file in write_tables(study)),
        "panels": _panels({loss: list(study.of(loss).values()) for loss in study.losses}),
        "environment_note": _environment_note(study),
        "folded": _study_setup(study),
    }
    return write_page("study.html", context, study.folder / "report.html")


def write_run_report(run_folder: str | Path) -> Path:
    """Write RUN/report.html, one finished run as one self-contained page.

    Args:
        run_folder: what a training run wrote.

    Returns:
        The path of the page.

    Raises:
        ValueError: a missing or malformed file, by name; without summary.json the run has not finished.
    """
    run = read_run(run_folder)
    curve = tables.score_curve([run], "miou")
    context = {
        "title": f"{run.name}, seed {run.seed}",
        "facts": [f"{run.steps} steps", wording.duration(run.seconds), f"{run.parameters:,} parameters"],
        "headline": wording.run_headline(run),
        "curve": figures.curve_figure({run.name: (1, curve)}, "mIoU, %") if curve else "",
        "best_step": run.best.step,
        "last_step": run.last.step,
        "scores": [
            {"name": label, "best": _percent(run.best.scores[score]), "last": _percent(run.last.scores[score])}
            for score, label in SCORES.items()
        ],
        "class_rows": [
            {
                "name": name,
                "color": run.colors[c],
                "best": _percent(run.best.iou[c], "absent"),
                "last": _percent(run.last.iou[c], "absent"),
            }
            for c, name in enumerate(run.classes)
        ],
        "class_keys": [{"name": n, "color": c} for n, c in zip(run.classes, run.colors)],
        "pictures": overlays.choose({run.name: run}),
        "panels": _panels({run.name: [run]}, first_series=1),
        "folded": [_block("Resolved config", run.config), _block("Environment", _pretty(run.environment))],
    }
    return write_page("run.html", context, run.folder / "report.html")


def write_page(template: str, context: Mapping[str, Any], path: Path) -> Path:
    """Fill a template of this folder and write the page, replacing an older one at once; returns its path."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=wording.number, counted=wording.counted)
    page = environment.get_template(template).render(**context, version=__version__, plotly_js=figures.plotly_js())
    # a reader never sees half a page, also when this process is stopped
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def _title_parts(losses: Sequence[str]) -> list[str]:
    """`A`, `against B,`, `C`, `and D`: pieces that a line break should not cut."""
    first, others = losses[0], list(losses[1:])
    if not others:
        return [first]
    if len(others) == 1:
        return [first, f"against {others[0]}"]
    middle = [*(f"{loss}," for loss in others[:-2]), others[-2]]
    middle[0] = f"against {middle[0]}"
    return [first, *middle, f"and {others[-1]}"]


def _curve_note(curves: Mapping[str, tuple[int, tables.Curve]]) -> str:
    if any(curve.n > 1 for _, curve in curves.values()):
        return "Line: mean over the finished seeds. Band: from the lowest to the highest seed."
    return "One seed: a line without a band, since there is no spread to show."


def _comparison(comparison: tables.Comparison, baseline: str) -> dict[str, Any]:
    result = comparison.result
    return {
        "loss": comparison.loss,
        "mean": wording.signed(result.mean) if result else "",
        "interval": wording.interval(comparison),
        "bootstrap": wording.span(comparison.bootstrap),
        "p": wording.p_value(result.p if result else None),
        "p_holm": wording.p_value(comparison.p_holm),
        "pairs": len(comparison.seeds),
        "verdict": wording.verdict(comparison, baseline),
    }


def _class_row(row: tables.ClassRow, study: Study) -> dict[str, Any]:
    cells = []
    for loss, cell in zip(study.losses, row.cells):
        delta = cell.delta
        text = "" if delta is None else wording.signed(delta)
        direction = "" if delta is None or text == "0.00" else "up" if delta > 0 else "down"
        cells.append(
            {
                "summary": cell.summary,
                "delta": delta,
                "text": text,
                "direction": direction,
                "arrow": {"up": "▲ ", "down": "▼ ", "": ""}[direction],
                # 10 points and more have the full tint; the sign and the arrow say the same without colour
                "strength": 0 if delta is None else round(12 + 38 * min(1.0, abs(delta) / 10)),
                "why": "absent" if study.of(loss) else "no run",
            }
        )
    return {"name": row.name, "color": row.color, "cells": cells}


def _panels(runs_by_loss: Mapping[str, list[Run]], first_series: int = 0) -> list[dict[str, Any]]:
    panels = []
    for series, (loss, runs) in enumerate(runs_by_loss.items(), start=first_series):
        curves = tables.loss_curves(runs)
        if "loss" not in curves:
            continue
        terms = [
            {"name": "training loss" if i == 0 else name, "dash": "solid" if i == 0 else figures.term_dash(i)}
            for i, name in enumerate(curves)
        ]
        json_text = figures.loss_figure(series, curves)
        panels.append({"name": loss, "series": series, "id": f"loss-{series}", "terms": terms, "json": json_text})
    return panels


def _pictures(study: Study) -> tuple[int, list[overlays.Row], str]:
    """Return the seed, the rows and the note of the pictures: the most telling images where runs were evaluated."""
    seed, runs = tables.runs_to_show(study)
    if study.evaluated:
        split = study.evaluated[0]
        kept = {loss: run.evaluations[split].overlays if run else None for loss, run in runs.items()}
        why = {image.name: image.why for image in tables.telling_images(study)}
        rows = overlays.show(kept, why)
        if rows:
            note = f"The {SPLITS[split]} images where the losses differ most, then the worst and the best"
            return seed, rows, f"{note}, by per-image mIoU. Predictions are of seed {seed}."
    note = (
        "Validation images with the lowest and the highest per-image mIoU, averaged over the losses, among those every run "
        f"keeps. Predictions are of seed {seed}."
    )
    return seed, overlays.choose(runs), note


def _has_gains(rows: Sequence[tables.ClassRow]) -> bool:
    return any(cell.gain is not None for row in rows for cell in row.cells)


def _image_comparison(comparison: tables.ImageComparison) -> dict[str, Any]:
    return {
        "loss": comparison.loss,
        "mean": wording.signed(comparison.mean),
        "bootstrap": wording.span(comparison.bootstrap),
        "better": comparison.better,
        "worse": comparison.worse,
        "images": len(comparison.differences),
    }


def _without_seed(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environment.items() if key != "seed"}


def _environment_note(study: Study) -> str:
    environments = [_without_seed(run.environment) for run in study.runs.values()]
    if len(environments) < 2:
        return ""
    keys = list(dict.fromkeys(key for environment in environments for key in environment))
    differing = [key for key in keys if any(e.get(key) != environments[0].get(key) for e in environments)]
    if not differing:
        return "All runs were made in the same environment."
    return f"The runs were not all made in the same environment; they differ in: {', '.join(differing)}."


def _study_setup(study: Study) -> list[dict[str, str]]:
    blocks = [_block("Config of the study", study.config)]
    for loss in study.losses:
        for seed, run in list(study.of(loss).items())[:1]:
            blocks.append(_block(f"Resolved config of {loss}, seed {seed}", run.config))
    for (loss, seed), run in list(study.runs.items())[:1]:
        blocks.append(_block(f"Environment ({loss}, seed {seed})", _pretty(run.environment)))
    return blocks


def _block(title: str, text: str) -> dict[str, str]:
    return {"title": title, "text": text.rstrip()}


def _pretty(environment: Mapping[str, Any]) -> str:
    return json.dumps(environment, indent=2, ensure_ascii=False)


def _percent(value: float | None, missing: str = "n/a") -> str:
    return missing if value is None else wording.number(100 * value)
