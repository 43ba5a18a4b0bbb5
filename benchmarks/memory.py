"""Extra peak memory of one forward and backward over its inputs (Linux).

The high-water mark of the resident set is reset through /proc/self/clear_refs just before the call, after free heap pages
were handed back; the extra peak is the mark after the call less the resident set before it. It holds the gradient too.
"""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import peers
from benchmarks.registry import Case, Shape, cases
from evenseg.bench.inputs import LOGITS, Batch, make_batch

METHOD = (
    "VmHWM after the call (reset before it through /proc/self/clear_refs) less VmRSS before it, free heap pages returned first by "
    "malloc_trim; default allocator; the gradient counts"
)
SLOW = 2.0  # seconds; slower rows are measured once
REPEATS = 3
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def supported() -> str | None:
    """Why memory cannot be measured here, or None."""
    if not (_STATUS.exists() and _RESET.exists()):
        return "peak memory is read from /proc, which this system lacks"
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return "the C library has no malloc_trim"
    return None


def resident() -> dict[str, int]:
    """VmRSS and VmHWM in bytes."""
    return {key: int(kb) * 1024 for key, kb in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)}


def extra_peaks(call: Callable[[], Tensor], batch: Batch) -> list[int]:
    """Bytes beyond the inputs that one forward and backward needed at its peak, several times unless it is slow."""
    trim = ctypes.CDLL(None).malloc_trim
    extra: list[int] = []
    while len(extra) < REPEATS:
        batch.logits.grad = None
        gc.collect(1)  # what a pass may leave is young; a full collection walks every imported module
        trim(0)
        before = resident()["VmRSS"]
        _RESET.write_text("5")
        start = time.perf_counter()
        call().backward()
        extra.append(resident()["VmHWM"] - before)
        if time.perf_counter() - start > SLOW:
            break
    return extra


def measure_memory(shape: Shape, providers: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of the providers at one shape, on untrained-like logits."""
    small = make_batch((1, shape[1], 64, 64), LOGITS[0])
    batch = make_batch(shape, LOGITS[0])
    rows = []
    for case in cases(shape, providers):
        row: dict[str, Any] = _row(case)
        try:
            warm_up, call = case.make(small), case.make(batch)
        except peers.UnavailableError as e:
            rows.append(row | {"skipped": str(e)})
            continue
        warm_up().backward()  # compiling and loading are not the loss's memory
        small.logits.grad = None
        extra = extra_peaks(call, batch)
        inputs = batch.logits.numel() * batch.logits.element_size()
        rows.append(row | {"repeats": len(extra), "extra_bytes": sorted(extra)[len(extra) // 2], "logits_bytes": inputs})
    return rows


def _row(case: Case) -> dict[str, Any]:
    return {
        "shape": list(case.shape or ()), "row": case.name, "family": case.family, "provider": case.provider, "label": case.label,
        "repeats": 0, "extra_bytes": None, "logits_bytes": None, "note": case.note, "skipped": None,
    }  # fmt: skip
