"""What becomes of the packed histograms: counts and sums by bin, and the list of errors that need their exact rank."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from evenseg.statistics.bins import bin_edges
from evenseg.statistics.numba import workers
from evenseg.statistics.numba.packing import unpack
from evenseg.statistics.numba.ranking import open_bins, rank_list
from evenseg.statistics.ranking import CAPACITY, bin_slopes


@lru_cache(maxsize=16)
def _edges(K: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    edge = bin_edges(K, kind).numpy()
    return edge, np.diff(edge)


class Histogram:
    """Counts and sums of the error histogram by (group, row, side, bin)."""

    def __init__(
        self, groups: int, rows: int, num_bins: int, kind: str, wanted: bool, floats: bool, parts: int
    ):
        self.wanted, self.kind, self.num_bins = wanted, kind, num_bins
        shape = (groups, rows, 2, num_bins) if wanted else (0, rows, 2, num_bins)
        self.counts, self.sums = np.zeros(shape), np.zeros(shape)
        self.totals = np.zeros((workers.pieces(parts), rows, 2))
        self.floats = np.zeros((parts, 2, rows, 2, num_bins) if wanted and floats else (parts, 2, 1, 1, 1))
        self.use_floats = wanted and floats

    def collect(self, group: int, packed: np.ndarray, parts: int) -> None:
        """Move what the workers packed into the group's bins."""
        if not self.wanted:
            return
        edge, width = _edges(self.num_bins, self.kind)
        counts, sums = self.counts[group], self.sums[group]
        rows = counts.shape[0]
        counted_before = sums[:, :, 1:].sum(-1)

        def task(worker: int, piece: int, a: int, b: int) -> int:
            unpack(packed, a, b, edge, width, counts, sums)
            return 0

        workers.share(task, 0, rows, parts if rows * self.num_bins > workers.SMALL else 1)
        # the lowest bin gets what the others leave; rounding may leave a little less than nothing
        sums[:, :, 0] += (self.totals.sum(0) - (sums[:, :, 1:].sum(-1) - counted_before)).clip(min=0)
        self.totals[:] = 0
        if self.use_floats:
            counts += self.floats[:, 0].sum(0)
            sums += self.floats[:, 1].sum(0)
            self.floats[:] = 0


class RankedList:
    """Errors in the opened bins, found by the workers; fixed size, so that compiled graphs know its shape."""

    def __init__(self, histogram: Histogram, wanted: bool, dtype: np.dtype):
        size = CAPACITY if wanted else 0
        self.error, self.above = np.zeros(size), np.zeros((size, 2))
        self.place, self.pixel = np.full((size, 4), -1, np.int64), np.zeros(size, np.int64)
        self.histogram, self.dtype = histogram, dtype
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def opened(self, size: np.ndarray) -> np.ndarray | None:
        """(G, rows, K) bins to open, given the number of foreground pixels (G, rows); or None."""
        counts = self.histogram.counts
        G, R, _, K = counts.shape
        opened = open_bins(counts.reshape(G * R, 2, K), size.reshape(-1).astype(np.float64), bin_slopes(K, self.histogram.kind).numpy())
        return None if opened is None else opened.reshape(G, R, K)

    def collect(self, find: Callable[..., int], first: int, last: int, parts: int) -> None:
        """Run find(a, b, error, place, pixel, count) -> count on pieces of the range, a list per worker."""
        lists = [
            (np.empty(CAPACITY, self.dtype), np.empty((CAPACITY, 4), np.int64), np.empty(CAPACITY, np.int64)) for _ in range(parts)
        ]
        used = [0] * parts

        def task(worker: int, piece: int, a: int, b: int) -> int:
            used[worker] = find(a, b, *lists[worker], used[worker])
            return 0

        workers.share(task, first, last, parts)
        self.parts += [tuple(x[:n] for x in part) for part, n in zip(lists, used)]  # type: ignore[misc]

    def rank(self) -> None:
        """Sort what was collected and count what is above each error."""
        error, place, pixel = (np.concatenate(x) for x in zip(*self.parts))
        rows = self.histogram.counts.shape[1]
        by_pixel = np.argsort(pixel * rows + place[:, 1])[:CAPACITY]  # the workers' order is not reproducible
        error, place, pixel = error[by_pixel], place[by_pixel], pixel[by_pixel]
        at, above = rank_list(error, place, self.histogram.counts)
        n = len(at)
        self.error[:n], self.place[:n], self.pixel[:n], self.above[:n] = error[at], place[at], pixel[at], above

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return tuple(torch.from_numpy(x) for x in (self.error, self.place, self.above, self.pixel))  # type: ignore[return-value]
