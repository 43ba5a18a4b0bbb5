"""Finding and listing the errors whose rank is needed, for the CPU kernels (statistics/ranking.py says which and why)."""

from __future__ import annotations

import numpy as np

from evenseg.statistics.numba import workers
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.packing import RESIDUAL
from evenseg.statistics.numba.scalar import exp
from evenseg.statistics.numba.stages import read_labels
from evenseg.statistics.ranking import CAPACITY, TOLERANCE


@kernel
def steepness(counts_R2K, size_R, slope_K, loss_RK):
    """Fill loss_RK with the estimated squared gradient error of every bin; returns the squared gradient of all rows."""
    R, _, K = counts_R2K.shape
    total = 0.0
    for r in range(R):
        G = size_R[r]
        b0, f0 = 0.0, 0.0
        if G <= 0:
            loss_RK[r] = 0.0
            continue
        for q in range(K):
            k = K - 1 - q
            n0, n1 = counts_R2K[r, 0, k], counts_R2K[r, 1, k]
            loss_RK[r, k] = 0.0
            if n0 + n1 == 0:
                continue
            s = slope_K[k] * slope_K[k]
            enter, leave = G + b0, G + b0 + n0
            fg0, fg1 = 1.0 / enter, 1.0 / leave
            bg0, bg1 = (G - f0) * fg0 / (enter + 1), (G - f0 - n1) * fg1 / (leave + 1)
            total += s * (n0 * bg0 * bg1 + n1 * fg0 * fg1)
            if 1 < n0 + n1 <= CAPACITY:
                loss_RK[r, k] = s * (n0 * (bg0 - bg1) ** 2 + n1 * (fg0 - fg1) ** 2) / 12
            b0 += n0
            f0 += n1
    return total


def open_bins(counts_R2K: np.ndarray, size_R: np.ndarray, slope_K: np.ndarray) -> np.ndarray | None:
    """(R, K) bool as `statistics.ranking.open_bins`, or None if no bin needs opening."""
    R, _, K = counts_R2K.shape
    loss, energies = np.empty((R, K)), np.zeros(R)

    def task(worker: int, piece: int, a: int, b: int) -> int:
        for r in range(a, b):
            energies[r] = steepness(counts_R2K[r : r + 1], size_R[r : r + 1], slope_K, loss[r : r + 1])
        return 0

    workers.share(task, 0, R, workers.count(counts_R2K.size))
    energy = energies.sum()  # row by row: the same whatever the number of threads
    flat, goal = loss.reshape(-1), TOLERANCE**2 * energy
    rest = flat.sum()
    if not rest > goal:
        return None
    order = np.flatnonzero(flat > goal / flat.size)  # all smaller ones together stay below the goal
    order = order[np.argsort(-flat[order], kind="stable")][:CAPACITY]
    left = rest - np.cumsum(flat[order]) + flat[order]
    size = np.cumsum(counts_R2K.sum(1).reshape(-1)[order])
    opened = np.zeros(flat.size, np.bool_)
    opened[order[(left > goal) & (size <= CAPACITY)]] = True
    return opened.reshape(loss.shape)


@kernel
def _count_above(row, place, counts_RSK, above):
    """Fill `above` for a list in the order of row, falling bin and falling error."""
    K = counts_RSK.shape[2]
    current, bin_ = -1, -1
    over, run = np.zeros(2), np.zeros(2)  # above the bin, and above in it
    for q in range(row.size):
        if row[q] != current:
            current, bin_ = row[q], K
            over[:] = 0.0
            run[:] = 0.0
        k, side = place[q, 3], place[q, 2]
        if k != bin_:
            for b in range(min(bin_, K - 1), k, -1):
                over[0] += counts_RSK[current, 0, b]
                over[1] += counts_RSK[current, 1, b]
            bin_ = k
            run[:] = 0.0
        above[q, 0], above[q, 1] = over[0] + run[0], over[1] + run[1]
        run[side] += 1.0


def rank_list(error: np.ndarray, place: np.ndarray, counts_GC2K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `statistics.ranking.rank`: order of the listed errors and, in that order, the numbers of errors above each."""
    _, C, _, K = counts_GC2K.shape
    row = place[:, 0] * C + place[:, 1]
    key = row * K + (K - 1 - place[:, 3])
    if error.dtype == np.float32:  # bits of non-negative floats sort as the floats do
        order = np.argsort((key << 32) | (0x7FFFFFFF - error.view(np.int32).astype(np.int64)))
    else:
        order = np.lexsort((-error, key))
    above = np.empty((len(order), 2))
    _count_above(row[order], place[order], counts_GC2K.reshape(-1, 2, K), above)
    return order, above


@kernel
def list_softmax(
    z_NCP, y_NP, ignore, group, open_CK, lowest_C, top_NP, inv_NP, first, last, block, error, place, pixel, count,
):  # fmt: skip
    """Append the errors in open bins of the blocks first..last-1 to the list of `count`; returns its new length."""
    _, C, P = z_NCP.shape
    K = open_CK.shape[1]
    real = z_NCP.dtype.type
    one = real(1)
    blocks = (P + block - 1) // block
    scale = real(K * (1 << RESIDUAL))
    code, label = np.empty(block, np.int32), np.empty(block, np.int32)
    m = np.empty(block, z_NCP.dtype)
    for j in range(first, last):
        n, s = j // blocks, (j % blocks) * block
        L = min(block, P - s)
        read_labels(y_NP[n, s : s + L], ignore, C, label[:L])
        top, inv = top_NP[n, s : s + L], inv_NP[n, s : s + L]
        for c in range(C):
            if lowest_C[c] >= K:
                continue
            row = z_NCP[n, c, s : s + L]
            edge = np.int32(lowest_C[c] << RESIDUAL)
            hot = np.int32(0)
            for i in range(L):
                v = exp(row[i] - top[i]) * inv[i]
                v = one - v if label[i] == c else v
                m[i] = v
                t = np.int32(v * scale)
                code[i] = t
                hot += np.int32(t >= edge)
            if hot == 0:
                continue
            for i in range(L):
                if code[i] < edge or label[i] < 0:
                    continue
                k = min(code[i] >> RESIDUAL, K - 1)
                if not open_CK[c, k] or count == error.size:
                    continue
                error[count] = m[i]
                place[count, 0], place[count, 1], place[count, 2], place[count, 3] = group, c, label[i] == c, k
                pixel[count] = n * P + s + i
                count += 1
    return count


@kernel
def list_margin(
    z_NCP, pair, hinge, code_NRP, open_RT, group, K, first, last, block, error, place, pixel, count,
):  # fmt: skip
    """As `list_softmax`, for rows of margins, whose bins are known by code; open_RT says by code which are open."""
    P = z_NCP.shape[2]
    R = code_NRP.shape[1]
    zero, one = z_NCP.dtype.type(0), z_NCP.dtype.type(1)
    blocks = (P + block - 1) // block
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        code, opened = code_NRP[n, r], open_RT[r]
        for i in range(s, min(s + block, P)):
            k = np.uint32(code[i])
            if not opened[k] or count == error.size:
                continue
            side = np.int64(k >= K)
            u = z_NCP[n, 1, i] - z_NCP[n, 0, i] if pair else z_NCP[n, r, i]
            u = u if side == 1 else -u
            tail = exp(-abs(u))
            m = (tail if u >= zero else one) / (one + tail)
            error[count] = max(one - u, zero) if hinge else m
            place[count, 0], place[count, 1], place[count, 2], place[count, 3] = group, r, side, k - K * side
            pixel[count] = n * P + i
            count += 1
    return count


@kernel
def add_softmax_gradient(z_NCP, top_NP, inv_NP, grad_M, place, pixel, grad_NCP):
    """Add the gradient of single errors: for class c of a pixel, p_c (δ_kc - p_k), with the other sign on the foreground."""
    _, C, P = z_NCP.shape
    for q in range(grad_M.size):
        if grad_M[q] == 0:
            continue
        n, i = pixel[q] // P, pixel[q] % P
        c = place[q, 1]
        top, inv = top_NP[n, i], inv_NP[n, i]
        p = exp(z_NCP[n, c, i] - top) * inv
        v = z_NCP.dtype.type(grad_M[q]) * (-p if place[q, 2] == 1 else p)
        for k in range(C):
            grad_NCP[n, k, i] -= v * exp(z_NCP[n, k, i] - top) * inv
        grad_NCP[n, c, i] += v


@kernel
def add_margin_gradient(z_NCP, pair, hinge, grad_M, place, pixel, grad_NCP):
    """Add the gradient of single errors: -m (1-m) or, for hinge errors, -1, times the sign of the side."""
    P = z_NCP.shape[2]
    for q in range(grad_M.size):
        if grad_M[q] == 0:
            continue
        n, i, r = pixel[q] // P, pixel[q] % P, place[q, 1]
        sign = 1.0 if place[q, 2] == 1 else -1.0
        u = sign * (z_NCP[n, 1, i] - z_NCP[n, 0, i] if pair else z_NCP[n, r, i])
        if hinge:
            slope = -1.0 if u < 1 else 0.0
        else:
            m = 1.0 / (1.0 + np.exp(min(max(u, -80.0), 80.0)))
            slope = -m * (1 - m)
        slope *= sign * grad_M[q]
        grad_NCP[n, 1 if pair else r, i] += slope
        if pair:
            grad_NCP[n, 0, i] -= slope
