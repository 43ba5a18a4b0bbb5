"""Splits pixel blocks among threads and gives each thread accumulators of its own.

The kernels release the GIL, so Python code can run them side by side, and none of numba's threading layers is needed (the OpenMP
one kills forked data-loader workers, the portable one forbids concurrent callers). The threads are torch's own where they can
be had: after an operation, torch's OpenMP threads keep spinning for a while in wait of the next one, and threads of another
pool would share their cores with them. Elsewhere they are plain Python threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

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


def share(task: Callable[[int, int, int, int], int], first: int, last: int, parts: int, fixed: bool = False) -> int:
    """Call task(worker, piece, a, b) on pieces a..b-1 of the range, side by side; the sum of what it returns.

    There are more pieces than workers, so that a core that is busy elsewhere does not hold up the others: which worker gets which
    piece depends on chance. Sums of floats therefore belong to the piece (at most `pieces(parts)`), to be added up in their
    order; what a worker keeps for itself must not depend on order, as integers do not. `fixed`: a piece for each worker instead.
    """
    parts = max(1, min(parts, last - first))
    if parts == 1:
        return task(0, 0, first, last)
    todo = list(enumerate(split(first, last, parts if fixed else pieces(parts))))[::-1]

    def work(worker: int) -> int:
        total = 0
        while True:
            try:
                piece, (a, b) = todo.pop()
            except IndexError:  # another worker took the last one
                return total
            total += task(piece if fixed else worker, piece, a, b)

    openmp = _torch_openmp(os.getpid())
    if openmp is not None:
        return _run_openmp(openmp, work, parts)
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


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=2)
def _torch_openmp(pid: int) -> ctypes.CDLL | None:
    """The GNU OpenMP library that torch brings and has loaded, or None. After a fork its threads are gone for good."""
    if pid != _FIRST_PID or not torch.backends.openmp.is_available():
        return None
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        library = ctypes.CDLL(str(file))
        library.GOMP_parallel.argtypes = [_Callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
        library.omp_get_thread_num.restype = ctypes.c_int
        return library
    return None


_FIRST_PID = os.getpid()


def _run_openmp(library: ctypes.CDLL, work: Callable[[int], int], parts: int) -> int:
    """Sum of work(0), ..., work(parts - 1), each in a thread of torch's team; the first exception is raised here."""
    results: list[int] = []
    errors: list[BaseException] = []

    def body(_: object) -> None:
        try:
            results.append(work(library.omp_get_thread_num()))
        except BaseException as error:  # nothing may leave a C callback; it is raised below
            errors.append(error)

    library.GOMP_parallel(_Callback(body), None, parts, 0)
    if errors:
        raise errors[0]
    return sum(results)


def pieces(parts: int) -> int:
    """How many pieces a range is cut into for so many workers."""
    return 1 if parts == 1 else PIECES * parts


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
