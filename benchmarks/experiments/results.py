"""A study's folder as a section of docs/results.md: every run is in it, whatever it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evenseg.report.statistics import holm, mean_sd, paired_difference

Score = dict[str, Any]
SCORES = ["mIoU", "mIoU per image", "mean accuracy", "boundary F1", "calibration error", "val mIoU, best", "val mIoU, last"]


def read(folder: Path) -> dict[str, list[Score]]:
    """Scores of every run by loss, in the order of the study: seed, best and last validation mIoU, and the test split.

    Raises:
        ValueError: no study, or runs that are not finished or not measured on the test split.
    """
    try:
        study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{folder} is no study: it has no study.json") from None
    found: dict[str, list[Score]] = {}
    for loss in study["losses"]:
        for seed in study["seeds"]:
            run = folder / "runs" / loss / f"seed-{seed}"
            files = run / "summary.json", run / "evaluation" / "test.json"
            for file in files:
                if not file.is_file():
                    raise ValueError(f"{run}: {file.name} is missing; finish the study with --evaluate test")
            summary, test = (json.loads(file.read_text(encoding="utf-8")) for file in files)
            found.setdefault(loss, []).append({"seed": seed, "summary": summary, "test": test})
    return found


def _percent(values: list[float]) -> str:
    m = mean_sd([100 * v for v in values])
    return f"{m.mean:.2f}" + (f" ± {m.sd:.2f}" if m.sd is not None else "")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def _scores(runs: list[Score]) -> list[str]:
    of = [r["test"] for r in runs]
    return [
        _percent([t["miou"] for t in of]), _percent([t["per_image_miou"] for t in of]), _percent([t["mean_accuracy"] for t in of]),
        _percent([t["mean_boundary_f1"] for t in of]), _percent([t["calibration"]["ece"] for t in of]),
        _percent([r["summary"]["best"]["miou"] for r in runs]), _percent([r["summary"]["last"]["miou"] for r in runs]),
    ]  # fmt: skip


def _differences(found: dict[str, list[Score]]) -> list[list[str]]:
    baseline, *others = found
    base = {r["seed"]: r["test"]["miou"] for r in found[baseline]}
    pairs = {
        name: paired_difference([100 * r["test"]["miou"] for r in found[name]], [100 * base[r["seed"]] for r in found[name]])
        for name in others
    }
    p_values = [d.p if d.p is not None else 1.0 for d in pairs.values()]
    corrected = dict(zip(pairs, holm(p_values))) if p_values else {}
    rows = []
    for name, d in pairs.items():
        interval = "-" if d.low is None or d.high is None else f"{d.low:+.2f} to {d.high:+.2f}"
        rows.append([name, f"{d.mean:+.2f}", interval, f"{d.wins} of {d.n}", f"{corrected[name]:.3f}"])
    return rows


def _classes(found: dict[str, list[Score]]) -> list[str]:
    names = next(iter(found.values()))[0]["test"]["classes"]
    rows = []
    for loss, runs in found.items():
        cells = []
        for c in range(len(names)):
            values = [r["test"]["iou"][c] for r in runs if r["test"]["iou"][c] is not None]
            cells.append(f"{100 * sum(values) / len(values):.1f}" if values else "-")
        rows.append([loss, *cells])
    return _table(["loss", *names], rows)


def section(folder: Path, title: str, text: str) -> str:
    """The section of one study.

    Args:
        folder: of the study.
        title: heading.
        text: what was run, on which machine, and what it shows: written by who ran it.
    """
    found = read(folder)
    baseline = next(iter(found))
    seeds = len(found[baseline])
    scores = [[loss, *_scores(runs)] for loss, runs in found.items()]
    every = [
        [
            loss, str(r["seed"]), f"{100 * r['test']['miou']:.2f}", f"{100 * r['test']['per_image_miou']:.2f}",
            f"{100 * r['summary']['best']['miou']:.2f}", str(r["summary"]["best"]["step"]), f"{r['summary']['seconds']:.0f}",
        ]
        for loss, runs in found.items() for r in runs
    ]  # fmt: skip
    lines = [
        f"## {title}", "", text.strip(), "", f"Test images, per cent, mean ± standard deviation over {seeds} seeds:", "",
        *_table(["loss", *SCORES], scores),
        f"Difference of the test mIoU to {baseline} with the same seeds, with Student's 95 % interval; p after Holm's correction:", "",
        *_table(["loss", "difference", "95 % interval", "seeds won", "p"], _differences(found)),
        "IoU of every class on the test images, mean over seeds:", "", *_classes(found),
        "<details><summary>every run</summary>", "",
        *_table(["loss", "seed", "test mIoU", "per image", "val mIoU, best", "at step", "seconds"], every), "</details>", "",
    ]  # fmt: skip
    return "\n".join(lines)


def merge(page: str, name: str, text: str) -> str:
    """The page with the section of that name replaced, or appended where it has none."""
    begin, end = f"<!-- study {name}: begin -->", f"<!-- study {name}: end -->"
    block = f"{begin}\n{text.rstrip()}\n{end}\n"
    if begin in page and end in page:
        head, rest = page.split(begin, 1)
        return head + block + rest.split(end, 1)[1].removeprefix("\n")
    return page.rstrip() + "\n\n" + block
