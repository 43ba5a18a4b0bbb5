"""Seconds of one forward and backward, and the memory it needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from evenseg.bench.inputs import Batch

Call = Callable[[], Tensor]


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(np.asarray(list(values), dtype=np.float64), (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "q1": q1, "q3": q3}


def timed(call: Call, batch: Batch, calls: int = 1) -> tuple[float, float]:
    """(seconds, value) of one forward and backward, the gradient being allocated anew; on a GPU between two of its own events."""
    if batch.logits.device.type == "cuda":
        return _timed_on_gpu(call, batch, calls)
    total, value = 0.0, math.nan
    for _ in range(calls):
        batch.logits.grad = None
        start = time.perf_counter()
        loss = call()
        loss.backward()
        total += time.perf_counter() - start
        value = loss.item()
        del loss
    return total / calls, value


def _timed_on_gpu(call: Call, batch: Batch, calls: int) -> tuple[float, float]:
    total, value = 0.0, math.nan
    for _ in range(calls):
        batch.logits.grad = None
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        loss = call()
        loss.backward()
        end.record()
        torch.cuda.synchronize()
        total += start.elapsed_time(end) / 1e3
        value = loss.item()
        del loss
    return total / calls, value


def gpu_extra_peak(call: Call, batch: Batch) -> int:
    """Bytes beyond the inputs that one forward and backward needed at its peak; the gradient counts."""
    batch.logits.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call().backward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
