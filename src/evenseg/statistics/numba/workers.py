"""Splits pixel blocks among threads and gives each thread accumulators of its own.

The kernels release the GIL, so plain Python threads run them side by side. That needs none of numba's threading layers
(the OpenMP one kills forked data-loader workers, the portable one forbids concurrent callers), and the number of threads
is torch's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from evenseg.statistics.numba.packing import SPREAD

SMALL = 1 << 14  # logits below which a second thread costs more than it saves

_pool: ThreadPoolExecutor | None = None
_pool_key: tuple[int, int] | None = None
_lock = threading.Lock()
_buffers = threading.local()


def count(elements: int) -> int:
    """How many workers a tensor with so many elements deserves."""
    return 1 if elements < SMALL else max(1, torch.get_num_threads())


def run(tasks: Sequence[Callable[[], int]]) -> int:
    """Run the tasks side by side, the first one on the calling thread; the sum of what they return."""
    if len(tasks) == 1:
        return tasks[0]()
    global _pool, _pool_key
    key = (os.getpid(), max(len(tasks) - 1, torch.get_num_threads() - 1))
    with _lock:
        if _pool is None or _pool_key != key:  # also after a fork, which leaves threads behind
            _pool, _pool_key = ThreadPoolExecutor(key[1], thread_name_prefix="evenseg"), key
        futures = [_pool.submit(task) for task in tasks[1:]]
    try:
        own = tasks[0]()
    finally:
        others = [f.result() for f in futures]
    return own + sum(others)


def split(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """Cut a range into at most `parts` ranges of nearly equal length."""
    parts = max(1, min(parts, last - first))
    cuts = [first + (last - first) * k // parts for k in range(parts + 1)]
    return list(zip(cuts[:-1], cuts[1:]))


class PackedTables:
    """Zeroed packed histograms (worker, row, side, bin), kept between calls of one thread: they are large and costly to map.

    Use as a context manager; the kernels' `unpack` clears what it reads, so the memory is zero again on a normal exit. If
    an exception leaves it dirty, it is dropped.
    """

    def __init__(self, parts: int, rows: int, num_bins: int):
        self.shape = (parts, rows, 2, num_bins + 1 + SPREAD)

    def __enter__(self) -> np.ndarray:
        size = int(np.prod(self.shape))
        flat = getattr(_buffers, "flat", None)
        _buffers.flat = None  # taken: a nested or failing use must not see it
        self.flat = flat if flat is not None and flat.size >= size else np.zeros(size, np.int64)
        return self.flat[:size].reshape(self.shape)

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            _buffers.flat = self.flat
