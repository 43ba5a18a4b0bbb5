"""The form of a result file; `check` says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.registry import PROVIDERS, ROWS
from benchmarks.worker import REGIMES
from evenseg.bench.inputs import LOGITS

FORMAT = 1
ROUNDS = 7  # heavy rows may have fewer
_NUMBER = (int, float)
_TOP: dict[str, tuple[type, ...]] = {
    "format": (int,), "quick": (bool,), "date": (str,), "seconds": _NUMBER, "git": (dict,), "machine": (dict,),
    "versions": (dict,), "regimes": (dict,), "load_before": (list, type(None)), "load_after": (list, type(None)),
    "gate": (list,), "plan": (dict,), "memory_method": (str, type(None)), "memory_skipped": (str, type(None)),
    "speed": (list,), "memory": (list,), "sizes": (list,), "targets": (list,),
}  # fmt: skip
_MACHINE = ("cpu", "cores", "torch_threads", "system", "machine", "libc", "memory_bytes")
_SPEED = (
    "shape", "logits", "regime", "row", "family", "provider", "label", "rounds", "ratio", "seconds", "baseline_seconds", "value",
    "note", "skipped",
)  # fmt: skip
_MEMORY = ("shape", "row", "family", "provider", "label", "repeats", "extra_bytes", "logits_bytes", "note", "skipped")
_SIZES = ("channels", "logits", "regime", "row", "sizes", "flatness")
_TARGETS = ("what", "row", "shape", "channels", "regime", "logits", "sense", "limit", "measured", "met")
_NAMES = {row.name for row in ROWS}
_HEAVY = {row.name for row in ROWS if row.heavy}


def check(result: Any) -> None:
    """ValueError listing everything that does not fit the form of a result."""
    wrong = list(_problems(result))
    if wrong:
        raise ValueError("not a benchmark result: " + "; ".join(wrong))


def _problems(result: Any):
    if not isinstance(result, Mapping):
        yield f"expected a mapping, got {type(result).__name__}"
        return
    for key, types in _TOP.items():
        if key not in result:
            yield f"{key} is missing"
        elif not isinstance(result[key], types):
            yield f"{key} is {type(result[key]).__name__}"
    if set(result) != set(_TOP):
        yield from (f"{key} is not known" for key in set(result) - set(_TOP))
    if any(not isinstance(result.get(key), types) for key, types in _TOP.items()):
        return
    if result["format"] != FORMAT:
        yield f"format {result['format']}, this version reads {FORMAT}"
    yield from _keys("machine", result["machine"], _MACHINE)
    if not result["gate"]:
        yield "gate is empty: speed without a check of the values"
    for part, keys in (("speed", _SPEED), ("memory", _MEMORY), ("sizes", _SIZES), ("targets", _TARGETS)):
        for i, row in enumerate(result[part]):
            yield from _keys(f"{part}[{i}]", row, keys)
    for i, row in enumerate(result["speed"]):
        yield from _speed_row(f"speed[{i}]", row, result["quick"])
    for i, row in enumerate(result["memory"]):
        if (row.get("extra_bytes") is None) == (row.get("skipped") is None):
            yield f"memory[{i}] must be measured or say why not"
    for i, row in enumerate(result["sizes"]):
        if not row.get("sizes") or any(s["ns_per_pixel"]["median"] <= 0 for s in row["sizes"]):
            yield f"sizes[{i}] holds no times"


def _keys(where: str, row: Any, keys: tuple[str, ...]):
    if not isinstance(row, Mapping):
        yield f"{where} is {type(row).__name__}"
    elif set(row) != set(keys):
        yield f"{where} has the wrong keys: {', '.join(sorted(set(row) ^ set(keys)))}"


def _speed_row(where: str, row: Mapping[str, Any], quick: bool):
    allowed = {"row": _NAMES, "provider": set(PROVIDERS), "regime": set(REGIMES), "logits": set(LOGITS)}
    for key, values in allowed.items():
        if row.get(key) not in values:
            yield f"{where}: {key} is {row.get(key)!r}"
    if (row.get("ratio") is None) == (row.get("skipped") is None):
        yield f"{where} must be measured or say why not"
    elif row["ratio"] is not None:
        for key in ("ratio", "seconds", "baseline_seconds"):
            q = row[key]
            if not (0 < q["q1"] <= q["median"] <= q["q3"]):
                yield f"{where}: {key} {q} is not a median between its quartiles"
        if row["rounds"] < (1 if quick or row["row"] in _HEAVY else ROUNDS):
            yield f"{where}: {row['rounds']} rounds of {row['row']!r}"
