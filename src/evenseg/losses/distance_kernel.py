"""The exact Euclidean distance transform on the CPU, compiled by numba on first use.

One pass per axis over squared distances in whole pixels: the first counts steps from the nearest marked pixel of each line, every
further one takes, at each pixel x of a line, the lowest of the parabolas (x - q)^2 + f(q) that stand on the line's pixels q
(Meijster et al., A general algorithm for computing distance transforms in linear time, 2000; Felzenszwalb and Huttenlocher,
Distance transforms of sampled functions, 2012). Time is linear in the number of pixels.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
import torch
from torch import Tensor

from evenseg.losses.distance import FAR
from evenseg.statistics.numba import workers


def _steps(mask_MLS, out_MLS, first, last):  # type: ignore[no-untyped-def]
    """Squared distances along L of the lines first..last-1, which are numbered through M * S."""
    L, S = mask_MLS.shape[1:]
    line = first
    while line < last:
        m, a = line // S, line % S
        b = min(S, a + last - line)
        mask, out = mask_MLS[m], out_MLS[m]
        # neighbouring lines at once, as they lie in memory
        for s in range(a, b):
            out[0, s] = 0 if mask[0, s] else L
        for i in range(1, L):
            for s in range(a, b):
                out[i, s] = 0 if mask[i, s] else min(L, out[i - 1, s] + 1)
        for i in range(L - 1, -1, -1):
            for s in range(a, b):
                if i > 0:
                    out[i - 1, s] = min(out[i - 1, s], out[i, s] + 1)
                out[i, s] = out[i, s] * out[i, s] if out[i, s] < L else FAR
        line += b - a
    return 0


def _parabolas(out_MLS, first, last):  # type: ignore[no-untyped-def]
    """Lowest parabola at every pixel of the lines first..last-1, in place."""
    L, S = out_MLS.shape[1:]
    row = np.empty(L, np.int32)
    foot, begin = np.empty(L, np.int64), np.empty(L + 1, np.int64)  # the lowest parabolas and the first pixel of each
    height = np.empty(L, np.int64)
    for line in range(first, last):
        out = out_MLS[line // S, :, line % S]
        for x in range(L):
            row[x] = out[x]
        n = 0
        for q in range(L):
            if row[q] == FAR:
                continue
            h = np.int64(row[q]) + q * q
            # a parabola that is higher at its own first pixel is the lowest nowhere
            while n > 0 and h - height[n - 1] < 2 * begin[n - 1] * (q - foot[n - 1]):
                n -= 1
            # it begins after the last pixel at which the one before is not higher
            start = np.int64(0)
            if n > 0:
                rise, gap = h - height[n - 1], q - foot[n - 1]
                # a double holds these numbers exactly; most parabolas stand on neighbouring pixels, and a division is slow
                start = (rise >> 1 if gap == 1 else np.int64(rise / (2.0 * gap))) + 1
            if start < L:
                foot[n], begin[n], height[n] = q, start, h
                n += 1
        if n == 0:
            continue
        begin[n] = L
        for k in range(n):
            q = foot[k]
            f = row[q]
            for x in range(begin[k], begin[k + 1]):
                out[x] = f + (x - q) * (x - q)
    return 0


def _compiled(function):  # type: ignore[no-untyped-def]
    dispatcher = nb.njit(function, nogil=True)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder to write to: compiled again in every process
        return nb.njit(function, nogil=True)
    return dispatcher


steps, parabolas = _compiled(_steps), _compiled(_parabolas)


def squared_distance(mask: Tensor) -> Tensor:
    """(M, *spatial) int32 squared distances from a bool map on the CPU; `FAR` in maps without a marked pixel."""
    marked = mask.contiguous().numpy()
    out = np.empty(marked.shape, np.int32)
    parts = workers.count(marked.size)
    M = len(marked)
    for axis in range(1, marked.ndim):
        outer, L = math.prod(marked.shape[1:axis]), marked.shape[axis]
        lines = math.prod(marked.shape[axis + 1 :])
        view = out.reshape(M * outer, L, lines)
        if axis == 1:
            source = marked.reshape(M, L, lines)
            workers.share(lambda worker, piece, a, b: steps(source, view, a, b), 0, M * lines, parts)  # noqa: B023
        else:
            workers.share(lambda worker, piece, a, b: parabolas(view, a, b), 0, M * outer * lines, parts)  # noqa: B023
    return torch.from_numpy(out)
