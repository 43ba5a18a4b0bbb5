"""Gradient of the softmax statistics: probabilities are computed again, one read and one write of the size of the logits."""

import numpy as np

from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.packing import RESIDUAL
from evenseg.statistics.numba.scalar import exp, log, power
from evenseg.statistics.numba.softmax import (
    FIXED_SLOTS,
    NLL,
    NLL_ALL,
    OVERLAP,
    POWER_FLOOR,
    PROB,
    PROB_SQ,
    WANT_ERRORS,
    WANT_NLL_ALL,
    WANT_PIXEL,
    WANT_PROB_SQ,
    read_labels,
)


@kernel
def backward(
    z_NCP, y_NP, weight_NP, weighted, ignore, first, last, block, K, want, gammas, powers,
    top_NP, inv_NP, grad_NSC, table_GC2K, grad_pixel_NP, grad_NCP,
):  # fmt: skip
    """Gradient with respect to the logits of the blocks first..last-1, given the gradient of every member.

    A member is a sum of f(p_c) or, in the pixel's own class y, of f(log p_y). With w_c = d/dp_c of the former and
    s = d/dlog p_y of the latter, the gradient is p_k (w_k - sum_c p_c w_c - s) + [k = y] s.
    """
    _, C, P = z_NCP.shape
    real = z_NCP.dtype.type
    zero, half, one, two = real(0), real(0.5), real(1), real(2)
    near, floor, least = real(1e-3), real(POWER_FLOOR), real(1e-30)
    blocks = (P + block - 1) // block
    p = np.empty((C, block), z_NCP.dtype)
    w = np.empty((C, block), z_NCP.dtype)  # d/dp_c, where it varies over the block
    flat_C = np.empty(C, z_NCP.dtype)  # d/dp_c, where it does not
    varies_C = np.empty(C, np.bool_)
    top = np.empty(block, z_NCP.dtype)
    inv = np.empty(block, z_NCP.dtype)
    dot = np.empty(block, z_NCP.dtype)
    own = np.empty(block, z_NCP.dtype)
    nll = np.empty(block, z_NCP.dtype)
    miss = np.empty(block, z_NCP.dtype)
    slope = np.empty(block, z_NCP.dtype)  # d/dlog p of the pixel's own class
    extra = np.empty(block, z_NCP.dtype)  # what the own class gets beyond the formula of a background class
    factor = np.empty(block, z_NCP.dtype)
    label = np.empty(block, np.int32)
    code = np.empty(block, np.int32)
    scale = real(K * (1 << RESIDUAL))
    mask = np.int32((1 << RESIDUAL) - 1)
    highest = np.int32(K - 1)
    want_errors, want_sq = (want & WANT_ERRORS) != 0, (want & WANT_PROB_SQ) != 0
    want_all, want_pixel = (want & WANT_NLL_ALL) != 0, (want & WANT_PIXEL) != 0
    want_nll = gammas.size > 0 or powers.size > 0
    for j in range(first, last):
        n, s = j // blocks, (j % blocks) * block
        L = min(block, P - s)
        group = n if table_GC2K.shape[0] > 1 else 0
        off, _ = read_labels(y_NP[n, s : s + L], ignore, C, label, L)
        for i in range(L):
            dot[i] = zero
            top[i] = top_NP[n, s + i]
            inv[i] = inv_NP[n, s + i]
        for c in range(C):
            row, pc, wc = z_NCP[n, c, s : s + L], p[c], w[c]
            constant = grad_NSC[n, PROB, c]
            hot = np.int32(0)
            if off > 0:
                for i in range(L):
                    v = exp(row[i] - top[i]) * inv[i]
                    v = v if label[i] >= 0 else zero
                    pc[i] = v
                    t = np.int32(v * scale)
                    code[i] = t
                    hot += np.int32(t > mask)
            else:
                for i in range(L):
                    v = exp(row[i] - top[i]) * inv[i]
                    pc[i] = v
                    t = np.int32(v * scale)
                    code[i] = t
                    hot += np.int32(t > mask)
            varies_C[c] = want_sq or (want_errors and hot > 0)
            if want_errors and hot > 0:
                table = table_GC2K[group, c, 0]
                if 4 * hot < L:
                    lowest = constant + table[0]
                    for i in range(L):
                        wc[i] = lowest
                    for i in range(L):
                        t = code[i]
                        if t > mask:
                            wc[i] = constant + table[np.uint32(min(t >> RESIDUAL, highest))]
                else:
                    for i in range(L):
                        wc[i] = constant + table[np.uint32(min(code[i] >> RESIDUAL, highest))]
            elif want_errors:
                constant += table_GC2K[group, c, 0, 0]
            flat_C[c] = constant
            if varies_C[c]:
                if want_sq:
                    base = constant
                    constant = two * grad_NSC[n, PROB_SQ, c]
                    if want_errors and hot > 0:
                        for i in range(L):
                            wc[i] += constant * pc[i]
                    else:
                        for i in range(L):
                            wc[i] = base + constant * pc[i]
                for i in range(L):
                    dot[i] += pc[i] * wc[i]
            else:
                for i in range(L):
                    dot[i] += pc[i] * constant
        for i in range(L):
            c = label[i]
            slope[i] = zero
            own[i] = zero
            extra[i] = zero
            if c >= 0:
                own[i] = p[c, i]
                v = grad_NSC[n, PROB, c] + grad_NSC[n, OVERLAP, c] + two * grad_NSC[n, PROB_SQ, c] * own[i]
                if want_errors:
                    b = min(np.int32((one - own[i]) * scale) >> RESIDUAL, highest)
                    v -= table_GC2K[group, c, 1, np.uint32(b)]
                extra[i] = v - (w[c, i] if varies_C[c] else flat_C[c])
                slope[i] = -grad_NSC[n, NLL, c]
        if want_nll:
            for i in range(L):
                c = label[i]
                nll[i] = top[i] - z_NCP[n, c, s + i] if c >= 0 else zero
            for i in range(L):
                nll[i] = max(nll[i] - log(inv[i]), zero) if label[i] >= 0 else zero
        if want_pixel:
            for i in range(L):
                # the map is not weighted: its weights are the caller's
                v = grad_pixel_NP[n, s + i]
                if weighted:
                    v = v / weight_NP[n, s + i] if weight_NP[n, s + i] > 0 else zero
                slope[i] -= v
        if gammas.size > 0:
            for i in range(L):
                # 1 - p from -log p where p is so close to 1 that the difference has lost its digits
                m = max(one - own[i], zero)
                miss[i] = nll[i] * (one - half * nll[i]) if nll[i] < near else m
        for f in range(gammas.size + powers.size):
            exponent = gammas[f] if f < gammas.size else powers[f - gammas.size]
            for i in range(L):
                factor[i] = grad_NSC[n, FIXED_SLOTS + f, label[i]] if label[i] >= 0 else zero
            if f >= gammas.size:
                for i in range(L):
                    v = exponent * power(max(nll[i], floor), exponent - one)
                    slope[i] -= factor[i] * v if nll[i] > floor else zero
            elif exponent == zero:
                for i in range(L):
                    slope[i] -= factor[i]
            else:
                # d/dlog p of m^g (-log p) = -m^g (1 + g p (-log p)/m), and (-log p)/m -> 1 at p = 1
                for i in range(L):
                    m = max(miss[i], least)
                    v = m * m if exponent == two else power(m, exponent)
                    ratio = nll[i] / m if nll[i] > least else one
                    slope[i] -= factor[i] * v * (one + exponent * own[i] * ratio)
        every = zero
        if want_all:
            for c in range(C):
                every += grad_NSC[n, NLL_ALL, c]
        for i in range(L):
            slope[i] = slope[i] if label[i] >= 0 else zero
            extra[i] *= own[i]
            dot[i] += extra[i] + slope[i] - every
            extra[i] += slope[i]
        for c in range(C):
            pc, wc, out = p[c], w[c], grad_NCP[n, c, s : s + L]
            if varies_C[c]:
                for i in range(L):
                    out[i] = pc[i] * (wc[i] - dot[i])
            else:
                constant = flat_C[c]
                for i in range(L):
                    out[i] = pc[i] * (constant - dot[i])
            if want_all:
                h = grad_NSC[n, NLL_ALL, c]
                for i in range(L):
                    out[i] -= h if label[i] >= 0 else zero
        for i in range(L):
            if label[i] >= 0:
                grad_NCP[n, label[i], s + i] += extra[i]
        if weighted:
            for i in range(L):
                factor[i] = weight_NP[n, s + i] if label[i] >= 0 else zero
            for c in range(C):
                out = grad_NCP[n, c, s : s + L]
                for i in range(L):
                    out[i] *= factor[i]
