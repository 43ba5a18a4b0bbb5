"""docs/losses.md: every loss with its formula, source, cost and properties, from the classes, the guide and a measurement."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from benchmarks.plots import bars
from evenseg.losses import LOSSES
from evenseg.losses.base import StatisticLoss
from evenseg.losses.guide import FAMILIES, GUIDE
from evenseg.losses.table import facts

HEAD = """# Losses

Made by `python -m benchmarks.each_loss`; do not edit. [Which loss to try](choosing_a_loss.md) is a page of its own.

Letters: logits $z$, probabilities $p_{ic}$ of class $c$ at pixel $i$, labels $y$, $n$ valid pixels. Cost is the time of forward and
backward beside `F.cross_entropy` on the same logits: the median over rounds of the ratio, measured turn by turn; memory is the extra
peak over the inputs (the gradient counts) beside that of `F.cross_entropy`. All with default options, in float32, with the default
allocator. Losses that are binary by default get one channel, and `F.binary_cross_entropy_with_logits` in place of the
baseline.

Under `torch.compile` every loss is one graph (`fullgraph=True`), with three exceptions: `OhemCrossEntropyLoss` and
`BootstrappedCrossEntropyLoss` choose a number of pixels on the host, and `ActiveBoundaryLoss` goes on with as many pixels as it finds
boundaries; their graphs may break, their values do not change.

Under data parallelism every loss has `sync=True`, which the trainer sets: value and parameter gradients are then those of the joined batch,
since whatever a loss divides by (pixels, boundary pixels, images, classes) is counted over all ranks. Without it the ranks have the mean of
their own losses, which is another number wherever they divide by different counts. Two ranks are held against one process for all of them.

- Machine: {machine}
- Software: {software}
- Measured: {date}, commit {commit}{changed}, load average {load_before} before and {load_after} after
"""


def defaults(loss: type[nn.Module]) -> str:
    """The keywords of a loss with their defaults, those that all losses share left out."""
    shown: list[str] = []
    for cls in loss.__mro__:
        if "__init__" not in cls.__dict__ or cls is nn.Module:
            continue
        for p in inspect.signature(vars(cls)["__init__"]).parameters.values():
            if p.kind is p.KEYWORD_ONLY and p.name not in getattr(loss, "fixed", ()):
                text = p.name if p.default is p.empty else f"{p.name}={p.default!r}"
                if all(text.split("=")[0] != s.split("=")[0] for s in shown):
                    shown.append(text)
    return ", ".join(f"`{s}`" for s in shown) or "-"


def engines(loss: type[nn.Module]) -> str:
    """What computes it."""
    if loss.__name__ == "MixedLoss":
        return "its members'"
    return "eager, numba (CPU), triton (CUDA)" if issubclass(loss, StatisticLoss) else "torch"


def cost(rows: list[dict[str, Any]], name: str) -> str:
    """Cost at every shape, in words."""
    parts = []
    for row in (r for r in rows if r["loss"] == name):
        shape = "(" + ", ".join(map(str, row["shape"])) + ")"
        if row["ratio"] is None:
            parts.append(f"{shape}: not measured ({row['skipped']})")
            continue
        text = f"{shape}: {row['ratio']['median']:.2f} ({row['ratio']['q1']:.2f} to {row['ratio']['q3']:.2f})"
        if row["extra_bytes"] is not None:
            text += f", memory {row['extra_bytes'] / max(1, row['baseline_extra_bytes']):.2f}"
        parts.append(text)
    return "; ".join(parts) if parts else "not measured yet"


def beside(rows: list[dict[str, Any]], name: str) -> str:
    """The same loss of another library, at every shape, in words."""
    parts, title = [], ""
    for row in (r for r in rows if r["loss"] == name and r.get("peer")):
        peer = row["peer"]
        title = peer["name"]
        shape = "(" + ", ".join(map(str, row["shape"])) + ")"
        parts.append(f"{shape}: {peer['ratio']['median']:.3g}" if peer["ratio"] else f"{shape}: {peer['skipped']}")
    return f"{title}: {'; '.join(parts)}" if parts else "-"


def dimensions(loss: type[nn.Module]) -> str:
    """Which numbers of spatial dimensions it takes."""
    allowed = getattr(loss, "dimensions", None)
    return "any" if allowed is None else " or ".join(f"{d}-D" for d in allowed)


def section(name: str, loss: type[nn.Module], rows: list[dict[str, Any]]) -> str:
    """One loss."""
    f, guide = facts(name, loss), GUIDE[name]
    requires = ", ".join(f"`{r}`" for r in getattr(loss, "requires", ())) or "logits and target only"
    lines = [
        f"### {name}", "", f.summary + ".", "", f"$${guide.formula}$$", "", f"**When.** {guide.when}", "",
        "| | |", "|---|---|", f"| source | {f.source or '-'} |", f"| range | {f.range or '-'} |",
        f"| cost, x `F.cross_entropy` | {cost(rows, name)} |", f"| the same elsewhere, x `F.cross_entropy` | {beside(rows, name)} |",
        f"| needs | {requires} |", f"| soft labels | {f.soft_labels} |",
        f"| spatial dimensions | {dimensions(loss)} |", f"| engines | {engines(loss)} |", f"| keywords | {defaults(loss)} |", "",
    ]  # fmt: skip
    return "\n".join(lines)


def overview(rows: list[dict[str, Any]]) -> str:
    """One line per loss, cheapest first, at the first shape."""
    first = rows[0]["shape"] if rows else []
    same_pixels = [r for r in rows if r["shape"][2:] == first[2:] and r["ratio"]]
    found = sorted(same_pixels, key=lambda r: r["ratio"]["median"])
    lines = [
        f"At ({', '.join(map(str, first))}), cheapest first:",
        "",
        "| loss | family | time, x CE | memory, x CE |",
        "|---|---|---|---|",
    ]
    for r in found:
        in_memory = "-" if r["extra_bytes"] is None else f"{r['extra_bytes'] / max(1, r['baseline_extra_bytes']):.2f}"
        lines.append(f"| [{r['loss']}](#{r['loss'].lower()}) | {GUIDE[r['loss']].family} | {r['ratio']['median']:.2f} | {in_memory} |")
    return "\n".join(lines) + "\n"


def chart(result: dict[str, Any]) -> str:
    """Cost of every loss at the first shape, coloured by family, as SVG."""
    rows = [r for r in result["rows"] if r["shape"][2:] == result["rows"][0]["shape"][2:] and r["ratio"]]
    rows.sort(key=lambda r: r["ratio"]["median"])
    values = {r["loss"]: r["ratio"]["median"] for r in rows}
    shape = ", ".join(map(str, result["rows"][0]["shape"]))
    return bars(f"Forward + backward beside F.cross_entropy at ({shape})", values, {name: GUIDE[name].family for name in values})


def render(result: dict[str, Any]) -> str:
    """The whole page."""
    m, git = result["machine"], result["git"]
    versions = result["versions"]
    head = HEAD.replace("{machine}", f"{m['cpu']}, {m['cores']} cores, {m['torch_threads']} torch threads, {m['system']} {m['machine']}")
    head = head.replace(
        "{software}", ", ".join(f"{k} {v}" for k, v in versions.items() if v and k in ("python", "torch", "numpy", "numba"))
    )
    head = head.replace("{date}", result["date"]).replace("{commit}", (git["commit"] or "unknown")[:10])
    head = head.replace("{changed}", " with uncommitted changes" if git["changed"] else "")
    head = head.replace("{load_before}", str((result["load_before"] or ["?"])[0])).replace(
        "{load_after}", str((result["load_after"] or ["?"])[0])
    )
    parts = [head, "![cost of every loss](losses.svg)\n", overview(result["rows"])]
    for family in FAMILIES:
        names = [name for name in LOSSES if GUIDE[name].family == family]
        if names:
            parts += [f"## {family[0].upper() + family[1:]}\n", *(section(name, LOSSES[name], result["rows"]) for name in names)]
    return "\n".join(parts).rstrip() + "\n"
