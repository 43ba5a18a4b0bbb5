"""Finding and listing the errors whose rank is needed, for the CPU kernels (statistics/ranking.py says which and why)."""

from __future__ import annotations

import numpy as np

from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.margin import hinge_code
from evenseg.statistics.numba.packing import RESIDUAL
from evenseg.statistics.numba.scalar import exp
from evenseg.statistics.numba.softmax import read_labels
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
    loss = np.empty((counts_R2K.shape[0], counts_R2K.shape[2]))
    energy = steepness(counts_R2K, size_R, slope_K, loss)
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
        read_labels(y_NP[n, s : s + L], ignore, C, label, L)
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
    z_NCP, pair, y_NRP, positive_R, ignore, labels_to, hinge, group, open_RK, lowest_R, first, last, block, limit, per_octave,
    error, place, pixel, count,
):  # fmt: skip
    """As `list_softmax`, for rows of margins."""
    P = z_NCP.shape[2]
    R, K = open_RK.shape
    real = z_NCP.dtype.type
    zero, one = real(0), real(1)
    blocks = (P + block - 1) // block
    scale = real(K * (1 << RESIDUAL))
    code, side = np.empty(block, np.int32), np.empty(block, np.int32)
    m = np.empty(block, z_NCP.dtype)
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        L = min(block, P - s)
        y = y_NRP[n, r if y_NRP.shape[1] > 1 else 0, s : s + L]
        positive = positive_R[r]
        edge = np.int32(lowest_R[r] << RESIDUAL)
        for i in range(L):
            v = np.int64(y[i])
            legal = v >= 0 and v < labels_to and v != ignore
            side[i] = np.int32(v == positive) if legal else np.int32(-1)
        z1 = z_NCP[n, 1 if pair else r, s : s + L]
        if pair:
            z0 = z_NCP[n, 0, s : s + L]
            for i in range(L):
                m[i] = z1[i] - z0[i]
        else:
            for i in range(L):
                m[i] = z1[i]
        for i in range(L):
            m[i] = m[i] if side[i] == 1 else -m[i]
        if hinge:
            for i in range(L):
                v = max(one - m[i], zero)
                m[i] = v
                code[i] = hinge_code(min(v, real(limit)), np.int32(per_octave))
        else:
            for i in range(L):
                u = m[i]
                tail = exp(-abs(u))
                share = one / (one + tail)
                v = tail * share if u >= zero else share  # rounded as in the first pass, or errors at an edge change bins
                m[i] = v
                code[i] = np.int32(v * scale)
        for i in range(L):
            if code[i] < edge or side[i] < 0:
                continue
            k = min(code[i] >> RESIDUAL, K - 1)
            if not open_RK[r, k] or count == error.size:
                continue
            error[count] = m[i]
            place[count, 0], place[count, 1], place[count, 2], place[count, 3] = group, r, side[i], k
            pixel[count] = n * P + s + i
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
