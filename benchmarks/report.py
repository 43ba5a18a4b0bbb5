"""Result file -> docs/performance.md. Every figure and every verdict comes from the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import schema
from benchmarks.machine import ROOT, git
from benchmarks.peers import DISTRIBUTIONS
from benchmarks.plots import bars, curves
from benchmarks.registry import baseline_name
from evenseg.bench.inputs import LOGITS

REGIME_NAMES = {"default": "default allocator", "kept": "blocks kept"}
SLOWER = "▼"  # ours, slower than torch's baseline
BEATEN = "●"  # another library's, faster than ours of the same family
_MIB = 1 << 20
Row = dict[str, Any]


def load(file: Path) -> dict[str, Any]:
    """A checked result; ValueError if it is none."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        schema.check(result)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from e
    return result


def newest(folder: Path) -> Path:
    """The newest committed result of a folder by its date; outside a git checkout, the newest there is."""
    listed = git("ls-files", "-z", "--", str(folder)) if folder.is_relative_to(ROOT) else None
    names = [ROOT / name for name in listed.split("\0") if name] if listed is not None else list(folder.glob("*.json"))
    files = [file for file in names if file.suffix == ".json" and file.exists()]
    if not files:
        raise ValueError(f"no {'committed ' if listed is not None else ''}result in {folder}; run `make bench` and commit its file")
    return max(files, key=lambda file: json.loads(file.read_text(encoding="utf-8"))["date"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, then an empty line."""
    line = "| " + " | ".join(head) + " |"
    return [line, "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows), ""]


def number(value: float) -> str:
    """Three significant digits, without exponents."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(seconds: float) -> str:
    return f"{number(seconds * 1e3)} ms" if seconds < 10 else f"{seconds:.0f} s"


def dims(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def render(result: dict[str, Any]) -> str:
    """The page."""
    parts = [_head(result), _charts(result), _targets(result), _speed(result), _memory(result), _sizes(result), _skipped(result)]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def plots(result: dict[str, Any]) -> dict[str, str]:
    """The page's charts as SVG by file name: against other libraries at every shape, and time per pixel by size."""
    charts: dict[str, str] = {}
    for shape in _unique(r["shape"] for r in result["speed"]):
        rows = [
            r
            for r in result["speed"]
            if r["shape"] == shape and r["regime"] == "default" and r["logits"] == LOGITS[0] and r["ratio"] and r["row"] != "baseline"
        ]
        rows.sort(key=lambda r: r["ratio"]["median"])
        labels = [f"{r['provider']}: {r['label']}" for r in rows]
        labels = [text if len(text) <= 46 else text[:45] + "…" for text in labels]
        values = dict(zip(labels, (r["ratio"]["median"] for r in rows)))
        groups = dict(zip(labels, ("evenseg" if r["provider"] == "evenseg" else "others" for r in rows)))
        if values:
            title = f"Time beside {baseline_name((0, shape[1], 0, 0))} at {dims(shape)}, untrained-like, default allocator"
            charts[f"peers_{'x'.join(map(str, shape))}.svg"] = bars(title, values, groups)
    series = {}
    for r in result["sizes"]:
        if r["regime"] == "default":
            name = baseline_name((0, r["channels"], 0, 0)).removeprefix("F.") if r["row"] == "baseline" else "Lovász"
            name = name.replace("binary_cross_entropy_with_logits", "BCE").replace("cross_entropy", "CE")
            series[f"{name}, {r['channels']} ch."] = [(s["pixels"] / 1e6, s["ns_per_pixel"]["median"]) for s in r["sizes"]]
    if series:
        ordered = dict(sorted(series.items(), key=lambda item: (item[0].split(", ")[1], item[0])))
        charts["sizes.svg"] = curves("Time per pixel by size, default allocator", "million pixels", "nanoseconds per pixel", ordered)
    return charts


def _charts(result: dict[str, Any]) -> list[str]:
    names = list(plots(result))
    shown = [line for name in names for line in (f"![{name.removesuffix('.svg')}](performance/{name})", "")]
    return ["## At a glance", "", *shown] if names else []


def _head(result: dict[str, Any]) -> list[str]:
    m, v, commit = result["machine"], result["versions"], result["git"]
    others = ", ".join(f"{name} {version}" for name, version in v.items() if name not in ("python",) and version)
    missing = [name for name, version in v.items() if version is None]
    met, total = sum(t["met"] for t in result["targets"]), len(result["targets"])
    state = " with uncommitted changes" if commit["changed"] else ""
    kept = " ".join(f"`{k}={x}`" for k, x in result["regimes"]["kept"].items())
    lines = [
        "# Performance",
        "",
        "Made by `python -m benchmarks report` from a file in `benchmarks/results/` that `make bench` wrote; do not edit.",
        "",
        f"- Machine: {m['cpu']}, {m['cores']} cores, {m['torch_threads']} torch threads, {m['memory_bytes'] / 2**30:.0f} GiB, "
        f"{m['system']} {m['machine']}, {m['libc'] or 'unknown C library'}",
        f"- Software: Python {v['python']}, {others}" + (f"; not installed: {', '.join(missing)}" if missing else ""),
        f"- Measured: {result['date']}, commit {(commit['commit'] or 'unknown')[:10]}{state}, "
        f"{result['seconds'] / 60:.1f} minutes, "
        f"load average {_load(result['load_before'])} before and {_load(result['load_after'])} after",
        f"- Before any time was taken, values and gradients agreed in {len(result['gate'])} comparisons (histogram with sort, "
        "cross-entropy with torch's, mix with its terms).",
        f'- Allocator: "{REGIME_NAMES["default"]}" is glibc as it comes, "{REGIME_NAMES["kept"]}" runs with {kept}, so that '
        "big blocks are not given back to the system and not faulted in again.",
        "",
        "Times are forward + backward in float32. A ratio is the median over rounds of (time of the row) / (time of the baseline "
        "just before it); the quartiles stand in brackets. The baseline is `F.cross_entropy`, for one channel "
        "`F.binary_cross_entropy_with_logits` on float targets.",
        "",
    ]
    if result["quick"]:
        lines += ["**A quick run: it shows that the benchmark works, not how fast the losses are.**", ""]
    if total:
        lines += [f"**{met} of {total} targets are met{'' if met == total else f', {total - met} missed'}.**", ""]
    return lines


def _load(values: list[float] | None) -> str:
    return "unknown" if values is None else f"{values[0]:.2f}"


def _targets(result: dict[str, Any]) -> list[str]:
    if not result["targets"]:
        return []
    rows = []
    for t in result["targets"]:
        place = dims(t["shape"]) if t["shape"] else f"{t['channels']} channels"
        how = ", ".join([*([REGIME_NAMES[t["regime"]]] if t["regime"] else []), *([f"{t['logits']}-like"] if t["logits"] else [])])
        limit = f"{'≤' if t['sense'] == 'at most' else '≥'} {t['limit']:g}"
        rows.append([t["what"], t["row"], place, how or "-", limit, number(t["measured"]), "met" if t["met"] else "**missed**"])
    return ["## Targets", "", *table(["target", "row", "shape", "regime, logits", "limit", "measured", ""], rows)]


def _speed(result: dict[str, Any]) -> list[str]:
    columns = [(regime, kind) for regime in result["regimes"] for kind in LOGITS]
    lines = ["## Time", ""]
    lines += [
        f"{SLOWER} ours, slower than the baseline. {BEATEN} another library's, faster than ours of the same family. Value is the "
        "loss on untrained-like logits: rows of one name need not mean the same loss. n: rounds where they are fewer than "
        f"{schema.ROUNDS}, because the row is slow; n=1: its first call.",
        "",
    ]
    for shape in _unique(r["shape"] for r in result["speed"]):
        here = {(r["row"], r["regime"], r["logits"]): r for r in result["speed"] if r["shape"] == shape}
        fastest: dict[tuple[str, str, str], float] = {}
        for r in here.values():
            if r["provider"] == "evenseg" and r["ratio"]:
                key = (r["family"], r["regime"], r["logits"])
                fastest[key] = min(r["ratio"]["median"], fastest.get(key, r["ratio"]["median"]))
        rows = []
        for name in _unique(r["row"] for r in here.values()):
            of_row = [here.get((name, *column)) for column in columns]
            first = next(r for r in of_row if r)
            measured = next((r for r in of_row if r and r["ratio"]), None)
            rows.append([
                _provider(first["provider"]), first["label"], *(_ratio(r, fastest) for r in of_row),
                milliseconds(measured["seconds"]["median"]) if measured else "-", f"{measured['value']:.4f}" if measured else "-",
            ])  # fmt: skip
        head = [f"{REGIME_NAMES[regime]}, {kind}-like" for regime, kind in columns]
        lines += [f"### {dims(shape)}", "", f"x {baseline_name((0, shape[1], 0, 0))}", ""]
        lines += table(["library", "loss", *head, f"time ({head[0]})", "value"], rows)
        notes = _unique(f"- {r['label']} ({_provider(r['provider'])}; {REGIME_NAMES[r['regime']]}, {r['logits']}-like): {r['note']}"
                        if not _everywhere(here.values(), r) else f"- {r['label']} ({_provider(r['provider'])}): {r['note']}"
                        for r in here.values() if r["note"])  # fmt: skip
        lines += [*notes, ""] if notes else []
    return lines


def _everywhere(rows: Iterable[Row], row: Row) -> bool:
    """Whether every measured row of that name carries the same note."""
    return all(r["note"] == row["note"] for r in rows if r["row"] == row["row"] and not r["skipped"])


def _ratio(row: Row | None, fastest: dict[tuple[str, str, str], float]) -> str:
    if row is None or row["ratio"] is None:
        return "-"
    q = row["ratio"]
    mark = ""
    if row["provider"] == "evenseg":
        mark = f" {SLOWER}" if q["median"] > 1 else ""
    elif row["provider"] != "torch":
        ours = fastest.get((row["family"], row["regime"], row["logits"]))
        mark = f" {BEATEN}" if ours is not None and q["median"] < ours else ""
    between = f" [{number(q['q1'])}, {number(q['q3'])}]" if row["rounds"] > 1 else ""
    few = f", n={row['rounds']}" if row["rounds"] < schema.ROUNDS else ""
    return f"{number(q['median'])}{between}{few}{mark}"


def _memory(result: dict[str, Any]) -> list[str]:
    lines = ["## Extra peak memory", ""]
    if result["memory_skipped"]:
        return [*lines, f"Not measured: {result['memory_skipped']}.", ""]
    lines += [f"{result['memory_method']}.", ""]
    for shape in _unique(r["shape"] for r in result["memory"]):
        here = [r for r in result["memory"] if r["shape"] == shape and not r["skipped"]]
        base = next((r["extra_bytes"] for r in here if r["row"] == "baseline"), None)
        rows = []
        for r in here:
            times = "-" if not base else number(r["extra_bytes"] / base)
            mark = f" {SLOWER}" if base and r["provider"] == "evenseg" and r["extra_bytes"] > base else ""
            label = baseline_name((0, shape[1], 0, 0)) if r["row"] == "baseline" else r["label"]
            rows.append([_provider(r["provider"]), label, f"{r['extra_bytes'] / _MIB:.0f} MiB", times + mark,
                         number(r["extra_bytes"] / r["logits_bytes"])])  # fmt: skip
        lines += [f"### {dims(shape)}", "", *table(["library", "loss", "extra", "x baseline", "x logits"], rows)]
    return lines


def _sizes(result: dict[str, Any]) -> list[str]:
    lines = ["## Time per pixel", "", "Nanoseconds per pixel, untrained-like logits, one image.", ""]
    for channels in _unique(r["channels"] for r in result["sizes"]):
        here = [r for r in result["sizes"] if r["channels"] == channels]
        counts = [s["pixels"] for s in here[0]["sizes"]]
        rows = [[REGIME_NAMES[r["regime"]], baseline_name((0, channels, 0, 0)) if r["row"] == "baseline" else "Lovász",
                 *(number(s["ns_per_pixel"]["median"]) for s in r["sizes"]), number(r["flatness"])] for r in here]  # fmt: skip
        head = [f"{n / 1e6:.2g} million pixels" for n in counts]
        lines += [f"### {channels} channels" if channels > 1 else "### 1 channel", ""]
        lines += table(["allocator", "loss", *head, "largest by smallest"], rows)
    return lines


def _skipped(result: dict[str, Any]) -> list[str]:
    where: dict[tuple[str, str, str], list[str]] = {}
    for r in result["speed"]:
        if r["skipped"]:
            place = f"{dims(r['shape'])} {REGIME_NAMES[r['regime']]}, {r['logits']}-like"
            where.setdefault((r["provider"], r["label"], r["skipped"]), []).append(place)
    for r in result["memory"]:
        if r["skipped"]:
            where.setdefault((r["provider"], r["label"], r["skipped"]), []).append(f"{dims(r['shape'])} memory")
    if not where:
        return []
    rows = [[_provider(p), label, reason, "; ".join(places)] for (p, label, reason), places in where.items()]
    return ["## Not measured", "", *table(["library", "loss", "why", "where"], rows)]


def _provider(name: str) -> str:
    return DISTRIBUTIONS.get(name, name)


def _unique(items: Iterable[Any]) -> list[Any]:
    """The items without repetitions, in order."""
    out: list[Any] = []
    for item in items:
        if item not in out:
            out.append(item)
    return out
