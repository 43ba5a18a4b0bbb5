"""The largest background error of a class without labels, which is all that such a class costs under Lovász losses.

Found by a second look at the rows concerned: most batches have none, and the first pass need not carry it along.
"""

from __future__ import annotations

import numpy as np
import torch

from evenseg.statistics.numba import workers
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.scalar import exp
from evenseg.statistics.numba.stages import CHUNK


@kernel
def _larger(value, best):
    """Place of the largest value if it exceeds `best`, else -1."""
    above = 0
    for i in range(value.size):
        above += value[i] > best
    if above == 0:
        return -1
    at = -1
    for i in range(value.size):
        if value[i] > best:
            best, at = value[i], i
    return at


@kernel
def _softmax_peak(z_NCP, weight_NP, weighted, top_NP, inv_NP, first, last, c):
    """(error, image x P + pixel) of the largest p_c in the images first..last-1, (0, -1) if there is none."""
    P = z_NCP.shape[2]
    zero = z_NCP.dtype.type(0)
    value = np.empty(CHUNK, z_NCP.dtype)
    best, at = zero, -1
    for n in range(first, last):
        for s in range(0, P, CHUNK):
            L = min(CHUNK, P - s)
            row, top, inv = z_NCP[n, c, s : s + L], top_NP[n, s : s + L], inv_NP[n, s : s + L]
            for i in range(L):
                v = exp(row[i] - top[i]) * inv[i]
                value[i] = v if inv[i] > zero else zero
            if weighted:
                for i in range(L):
                    value[i] = value[i] if weight_NP[n, s + i] > 0 else zero
            i = _larger(value[:L], best)
            if i >= 0:
                best, at = value[i], n * P + s + i
    return best, at


@kernel
def _margin_peak(z_NCP, pair, hinge, weight_NP, weighted, code_NRP, K, first, last, r, side):
    """As `_softmax_peak` for the errors of one side of a row."""
    P = z_NCP.shape[2]
    zero, one = z_NCP.dtype.type(0), z_NCP.dtype.type(1)
    value = np.empty(CHUNK, z_NCP.dtype)
    best, at = zero, -1
    for n in range(first, last):
        for s in range(0, P, CHUNK):
            L = min(CHUNK, P - s)
            code, z1 = code_NRP[n, r, s : s + L], z_NCP[n, 1 if pair else r, s : s + L]
            for i in range(L):
                value[i] = z1[i]
            if pair:
                z0 = z_NCP[n, 0, s : s + L]
                for i in range(L):
                    value[i] -= z0[i]
            for i in range(L):
                u = value[i] if side == 1 else -value[i]
                v = max(one - u, zero) if hinge else one / (one + exp(u))
                k = np.int32(code[i])
                inside = k < 2 * K and (k >= K) == (side == 1)
                value[i] = v if inside else zero
            if weighted:
                for i in range(L):
                    value[i] = value[i] if weight_NP[n, s + i] > 0 else zero
            i = _larger(value[:L], best)
            if i >= 0:
                best, at = value[i], n * P + s + i
    return best, at


def softmax_peaks(z, weight, weighted, top, inv, labels_GC, parts) -> tuple[torch.Tensor, torch.Tensor]:
    """(G, C) largest errors, as float64, and their pixels, of the classes without labels; 0 and -1 for the others."""
    peak, at = np.zeros(labels_GC.shape), np.full(labels_GC.shape, -1)
    per_group = z.shape[0] // max(1, labels_GC.shape[0])
    absent = np.argwhere(labels_GC == 0)

    def task(worker: int, piece: int, a: int, b: int) -> int:
        for g, c in absent[a:b]:
            peak[g, c], at[g, c] = _softmax_peak(z, weight, weighted, top, inv, g * per_group, (g + 1) * per_group, c)
        return 0

    if len(absent):
        workers.share(task, 0, len(absent), parts)
    return torch.from_numpy(peak), torch.from_numpy(at)


def margin_peaks(z, pair, hinge, weight, weighted, code, K, pixels_GR2) -> tuple[torch.Tensor, torch.Tensor]:
    """(G, R, 2) as `softmax_peaks`: the largest error of a side where the other side has no pixel."""
    peak, at = np.zeros(pixels_GR2.shape), np.full(pixels_GR2.shape, -1)
    per_group = z.shape[0] // max(1, pixels_GR2.shape[0])
    for g, r, other in np.argwhere(pixels_GR2 == 0):
        side = 1 - other
        if side == 0 or pair:  # the background of class 0 is the foreground of class 1
            found = _margin_peak(z, pair, hinge, weight, weighted, code, K, g * per_group, (g + 1) * per_group, r, side)
            peak[g, r, side], at[g, r, side] = found
    return torch.from_numpy(peak), torch.from_numpy(at)
