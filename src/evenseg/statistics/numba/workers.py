"""Splits pixel blocks among threads and gives each thread accumulators of its own.

The kernels release the GIL, so plain Python threads run them side by side. That needs none of numba's threading layers
(the OpenMP one kills forked data-loader workers, the portable one forbids concurrent callers), and the number of threads
is torch's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

from evenseg.statistics.numba.packing import SPREAD

PIECES = 8  # per worker
SMALL = 1 << 14  # logits below which a second thread costs more than it saves

_pool: ThreadPoolExecutor | None = None
_pool_key: tuple[int, int] | None = None
_lock = threading.Lock()
_buffers = threading.local()


def count(elements: int) -> int:
    """How many workers a tensor with so many elements deserves."""
    return 1 if elements < SMALL else max(1, torch.get_num_threads())


def share(task: Callable[[int, int, int], int], first: int, last: int, parts: int) -> int:
    """Call task(worker, a, b) on pieces of the range first..last-1, side by side; the sum of what it returns.

    There are more pieces than workers, so that a core that is busy elsewhere does not hold up the others. Worker 0 is the
    calling thread. The pieces of one worker run one after another and may use accumulators of its own.
    """
    parts = max(1, min(parts, last - first))
    if parts == 1:
        return task(0, first, last)
    pieces = split(first, last, PIECES * parts)[::-1]

    def work(worker: int) -> int:
        total = 0
        while True:
            try:
                a, b = pieces.pop()
            except IndexError:  # another worker took the last one
                return total
            total += task(worker, a, b)

    global _pool, _pool_key
    key = (os.getpid(), max(parts - 1, torch.get_num_threads() - 1))
    with _lock:
        if _pool is None or _pool_key != key:  # also after a fork, which leaves threads behind
            _pool, _pool_key = ThreadPoolExecutor(key[1], thread_name_prefix="evenseg"), key
        futures = [_pool.submit(work, worker) for worker in range(1, parts)]
    try:
        own = work(0)
    finally:
        others = [future.result() for future in futures]
    return own + sum(others)


def split(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """Cut a range into at most `parts` ranges of nearly equal length."""
    parts = max(1, min(parts, last - first))
    cuts = [first + (last - first) * k // parts for k in range(parts + 1)]
    return list(pairwise(cuts))


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
