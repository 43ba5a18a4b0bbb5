"""What the project promises about speed and memory, and whether a result keeps it."""

from __future__ import annotations

import dataclasses
from typing import Any

LARGE = ([2, 19, 512, 1024], [1, 150, 512, 512])
TWO_CLASSES = ([4, 2, 512, 512], [8, 1, 512, 512])


@dataclasses.dataclass(frozen=True)
class RatioTarget:
    """Time of a row of ours, at most `limits[regime]` times the baseline's."""

    row: str
    shapes: tuple[list[int], ...]
    limits: dict[str, float]


RATIOS = (
    RatioTarget("lovasz", LARGE, {"default": 0.7, "kept": 1.0}),
    RatioTarget("mix", LARGE, {"default": 1.0, "kept": 1.3}),
    RatioTarget("lovasz", TWO_CLASSES, {"default": 1.0, "kept": 1.0}),
    RatioTarget("mix", TWO_CLASSES, {"default": 1.5, "kept": 1.5}),
)
# (our row, other library's row): what, at more than two classes and at two or one
FASTER = {
    ("lovasz", "smp_lovasz"): ("times faster than segmentation-models-pytorch", 30.0, 20.0),
    ("mix", "smp_mix"): ("times faster than torch's CE with segmentation-models-pytorch's losses", 8.0, 8.0),
}
MEMORY_ROWS = ("ce", "lovasz", "mix")
MEMORY = 1.0  # times the baseline's
FLATNESS = 1.3


def judge(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets that a result can decide, one entry per measured case."""
    speed = {(tuple(r["shape"]), r["row"], r["regime"], r["logits"]): r for r in result["speed"] if r["ratio"]}
    out = []
    for target in RATIOS:
        for (shape, row, regime, kind), r in speed.items():
            if row == target.row and list(shape) in target.shapes:
                out.append(_entry("time beside the baseline", row, "at most", target.limits[regime], r["ratio"]["median"],
                                  shape=list(shape), regime=regime, logits=kind))  # fmt: skip
    for (own, other), (what, many, few) in FASTER.items():
        for (shape, row, regime, kind), r in speed.items():
            ours = speed.get((shape, own, regime, kind))
            if row == other and ours and list(shape) in (*LARGE, *TWO_CLASSES):
                # both were timed beside the baseline: the quotient of the ratios is free of drift between the two
                times = r["ratio"]["median"] / ours["ratio"]["median"]
                out.append(_entry(what, own, "at least", many if shape[1] > 2 else few, times,
                                  shape=list(shape), regime=regime, logits=kind))  # fmt: skip
    memory = {(tuple(r["shape"]), r["row"]): r["extra_bytes"] for r in result["memory"] if r["extra_bytes"]}
    for (shape, row), extra in memory.items():
        base = memory.get((shape, "baseline"))
        if row in MEMORY_ROWS and base and list(shape) in (*LARGE, *TWO_CLASSES):
            out.append(_entry("extra peak memory beside the baseline", row, "at most", MEMORY, extra / base, shape=list(shape)))
    if not result["quick"]:
        for r in result["sizes"]:
            if r["row"] == "lovasz":
                out.append(_entry("time per pixel, largest by smallest", "lovasz", "at most", FLATNESS, r["flatness"],
                                  channels=r["channels"], regime=r["regime"]))  # fmt: skip
    return out


def _entry(what: str, row: str, sense: str, limit: float, measured: float, **where: Any) -> dict[str, Any]:
    met = measured <= limit if sense == "at most" else measured >= limit
    place = {"shape": None, "channels": None, "regime": None, "logits": None} | where
    return {"what": what, "row": row, **place, "sense": sense, "limit": limit, "measured": measured, "met": met}
