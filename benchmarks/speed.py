"""Forward + backward, timed turn by turn with the baseline; and the time per pixel over sizes.

Every round of a row is a pair (baseline, row) with its own ratio, so that a machine that slows down slows both.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from benchmarks import peers
from benchmarks.registry import BASELINE, Case, Shape, baseline, cases, lovasz
from evenseg.bench.inputs import LOGITS, Batch, make_batch
from evenseg.bench.timing import spread, timed

Call = Callable[[], Tensor]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long rows may take.

    A heavy row gets as many rounds as fit into `seconds`, at least `fewest`; one whose first call takes longer than `slow`
    is not repeated at all, and not run on trained-like logits; longer than `very_slow`, not in the second regime either.
    A row whose parts take longer than `very_slow` together is their sum.
    """

    rounds: int = 7
    fewest: int = 3
    seconds: float = 1.0
    slow: float = 2.0
    very_slow: float = 6.0


@dataclasses.dataclass
class _Running:
    case: Case
    call: Call
    rounds: int
    value: float
    pairs: list[tuple[float, float]]  # (baseline, row) seconds


def _row(case: Case, regime: str, kind: str) -> dict[str, Any]:
    return {
        "shape": list(case.shape or ()), "logits": kind, "regime": regime, "row": case.name, "family": case.family,
        "provider": case.provider, "label": case.label, "rounds": 0, "ratio": None, "seconds": None, "baseline_seconds": None,
        "value": None, "note": case.note, "skipped": None,
    }  # fmt: skip


def _prepare(case: Case, batch: Batch, reference: Call, plan: Plan) -> _Running:
    """Build the row and call it once; this warm-up becomes the only round of a slow row."""
    call = case.make(batch)
    before, _ = timed(reference, batch)
    first, value = timed(call, batch)
    if not case.heavy:
        return _Running(case, call, plan.rounds, value, [])
    if first > plan.slow:
        # much can change within seconds: the baseline of this one round is taken on both sides of it
        return _Running(case, call, 0, value, [((before + timed(reference, batch)[0]) / 2, first)])
    return _Running(case, call, min(plan.rounds, max(plan.fewest, int(plan.seconds / first))), value, [])


def _sum_of_parts(row: dict[str, Any], case: Case, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    parts = [done[name] for name in case.parts]
    base = spread([r["baseline_seconds"]["median"] for r in parts])
    seconds = sum(r["seconds"]["median"] for r in parts)
    single = {key: seconds for key in ("median", "q1", "q3")}
    ratio = {key: seconds / base["median"] for key in single}
    note = "not run as one: the sum of its parts' medians"
    value = sum(r["value"] for r in parts)
    return row | {"rounds": 1, "ratio": ratio, "seconds": single, "baseline_seconds": base, "value": value, "note": note}


def _too_slow(seconds: float, kind: str, plan: Plan) -> str | None:
    """Why a row that took so long when it was measured first is not measured again, or None."""
    if seconds > plan.very_slow:
        return f"{seconds:.0f} s per call: measured once, with the default allocator on untrained-like logits"
    if seconds > plan.slow and kind != LOGITS[0]:
        return f"{seconds:.1f} s per call: measured on untrained-like logits only"
    return None


def measure_shape(
    shape: Shape, regime: str, kind: str, providers: Iterable[str], plan: Plan, earlier: dict[str, float]
) -> list[dict[str, Any]]:
    """All rows at one shape on one kind of logits; `earlier` holds seconds of heavy rows measured before and is filled."""
    batch = make_batch(shape, kind)
    reference = baseline(batch)
    timed(reference, batch)
    done: dict[str, dict[str, Any]] = {}
    order: list[str] = []
    selected = cases(shape, providers)
    # ours first: what the others leave in the heap does not touch it
    for group in ([c for c in selected if not c.heavy], [c for c in selected if c.heavy]):
        running: list[_Running] = []
        for case in group:
            order.append(case.name)
            done[case.name] = _row(case, regime, kind)
            if reason := _too_slow(earlier.get(case.name, 0.0), kind, plan):
                done[case.name]["skipped"] = reason
                continue
            if case.parts and any(earlier.get(name, 0.0) > plan.very_slow for name in case.parts):
                continue
            try:
                running.append(_prepare(case, batch, reference, plan))
            except peers.UnavailableError as e:
                done[case.name]["skipped"] = str(e)
                continue
            if case.heavy and running[-1].pairs:
                earlier.setdefault(case.name, running[-1].pairs[0][1])
        gc.collect(1)
        for i in range(max((r.rounds for r in running), default=0)):
            for r in running:
                if i < r.rounds:
                    r.pairs.append((timed(reference, batch)[0], timed(r.call, batch)[0]))
        for r in running:
            done[r.case.name] |= {
                "rounds": len(r.pairs), "ratio": spread(b / a for a, b in r.pairs), "seconds": spread(b for _, b in r.pairs),
                "baseline_seconds": spread(a for a, _ in r.pairs), "value": r.value,
            }  # fmt: skip
    for case in selected:
        row = done[case.name]
        if case.parts and row["ratio"] is None and row["skipped"] is None:
            if all(done.get(name, {}).get("ratio") for name in case.parts):
                done[case.name] = _sum_of_parts(row, case, done)
                earlier[case.name] = done[case.name]["seconds"]["median"]
            else:
                row["skipped"] = "its parts were not all measured here"
    return [done[name] for name in order]


def measure_sizes(channels: int, pixels: Iterable[int], regime: str, rounds: int) -> list[dict[str, Any]]:
    """Nanoseconds per pixel of Lovász and of the baseline, from small to large images, sizes taking turns."""
    batches = [make_batch((1, channels, *_sides(p)), LOGITS[0]) for p in pixels]
    calls = {BASELINE: [baseline(b) for b in batches], "lovasz": [lovasz(b) for b in batches]}
    count = [b.target.numel() for b in batches]
    # small images are repeated within one measurement, lest the clock and the scheduler be measured
    repeats = [min(10, max(1, round(1e6 / n))) for n in count]
    times: dict[str, list[list[float]]] = {name: [[] for _ in batches] for name in calls}
    for round_ in range(-1, rounds):
        for i, batch in enumerate(batches):
            for name, of_size in calls.items():
                seconds, _ = timed(of_size[i], batch, repeats[i])
                batch.logits.grad = None
                if round_ >= 0:
                    times[name][i].append(seconds / count[i] * 1e9)
    rows = []
    for name, of_sizes in times.items():
        spreads = [spread(t) for t in of_sizes]
        sizes = [{"pixels": n, "rounds": rounds, "ns_per_pixel": s} for n, s in zip(count, spreads)]
        medians = [s["median"] for s in spreads]
        rows.append({
            "channels": channels, "logits": LOGITS[0], "regime": regime, "row": name, "sizes": sizes,
            "flatness": max(medians) / min(medians),
        })  # fmt: skip
    return rows


def _sides(pixels: int) -> tuple[int, int]:
    """A height and width, multiples of 16, with about that many pixels."""
    side = max(1, round(math.sqrt(pixels) / 16)) * 16
    return side, side
