"""Gradient of the softmax statistics: probabilities are computed again, one read and one write of the size of the logits."""

import numpy as np

from evenseg.statistics.numba import stages
from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.scalar import log, power
from evenseg.statistics.slots import (
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
)


@kernel
def _own_class(label, p, w, varies_C, flat_C, linear_C, gain_C, nll_C, own, extra, slope):
    """P of the pixel's own class; what its d/dp has beyond that of a background class; d/dlog p of the plain terms."""
    zero = own.dtype.type(0)
    for i in range(label.size):
        c = label[i]
        if c >= 0:
            k = np.uint32(c)
            v = p[k, i]
            own[i] = v
            # a background class has w + flat + linear p, the own class gain + linear p less its bin's weight
            extra[i] = gain_C[k] - flat_C[k] - (w[k, i] if varies_C[k] else zero)
            slope[i] = -nll_C[k]
        else:
            own[i], extra[i], slope[i] = zero, zero, zero


@kernel
def _subtract_own_weights(label, slot, table_C2K, extra):
    for i in range(label.size):
        if label[i] >= 0:
            extra[i] -= table_C2K[np.uint32(label[i]), 1, np.uint32(slot[i])]


@kernel
def _log_loss(z_CP, s, label, top, inv, nll):
    """-log p of the own class, 0 at ignored pixels."""
    zero = nll.dtype.type(0)
    for i in range(label.size):
        c = label[i]
        nll[i] = top[i] - z_CP[np.uint32(c), s + i] if c >= 0 else zero
    for i in range(label.size):
        on = label[i] >= 0
        v = max(nll[i] - log(inv[i] if on else nll.dtype.type(1)), zero)
        nll[i] = v if on else zero


@kernel
def _focal_slope(own, nll, factor, gamma, slope, miss, power_of_miss):
    """Add d/dlog p of m^g (-log p) = -m^g (1 + g p (-log p)/m), where (-log p)/m -> 1 at p = 1."""
    real = own.dtype.type
    zero, half, one, near, least = real(0), real(0.5), real(1), real(1e-3), real(1e-30)
    if gamma == zero:
        for i in range(own.size):
            slope[i] -= factor[i]
        return
    for i in range(own.size):
        # 1 - p from -log p where p is so close to 1 that the difference has lost its digits
        m = nll[i] * (one - half * nll[i]) if nll[i] < near else max(one - own[i], zero)
        miss[i] = max(m, least)
    if gamma == real(2):
        for i in range(own.size):
            power_of_miss[i] = miss[i] * miss[i]
    else:
        for i in range(own.size):
            power_of_miss[i] = power(miss[i], gamma)
    for i in range(own.size):
        ratio = nll[i] / miss[i] if nll[i] > least else one
        slope[i] -= factor[i] * power_of_miss[i] * (one + gamma * own[i] * ratio)


@kernel
def _power_slope(nll, factor, exponent, slope):
    """Add d/dlog p of (-log p)^q."""
    real = nll.dtype.type
    zero, one, floor = real(0), real(1), real(POWER_FLOOR)
    for i in range(nll.size):
        v = exponent * power(max(nll[i], floor), exponent - one)
        slope[i] -= factor[i] * v if nll[i] > floor else zero


@kernel
def _finish(label, own, every, extra, slope, dot):
    """Fold the own class's terms into dot; extra becomes what is added to the own class's gradient."""
    zero = own.dtype.type(0)
    for i in range(label.size):
        v = slope[i] if label[i] >= 0 else zero
        x = extra[i] * own[i]
        dot[i] += x + v - every
        extra[i] = x + v


@kernel
def _gather(label, x_C, out):
    zero = out.dtype.type(0)
    for i in range(label.size):
        out[i] = x_C[np.uint32(label[i])] if label[i] >= 0 else zero


@kernel
def backward(
    z_NCP, y_NP, weight_NP, weighted, ignore, first, last, block, K, want, gammas, powers,
    top_NP, inv_NP, grad_NSC, table_GC2K, counted_GC, grad_pixel_NP, grad_NCP,
):  # fmt: skip
    """Gradient with respect to the logits of the blocks first..last-1, given the gradient of every member.

    A member is a sum of f(p_c) or, in the pixel's own class y, of f(log p_y). With w_c = d/dp_c of the former and
    s = d/dlog p_y of the latter, the gradient is p_k (w_k - sum_c p_c w_c - s) + [k = y] s.
    """
    _, C, P = z_NCP.shape
    real = z_NCP.dtype.type
    zero, two = real(0), real(2)
    blocks = (P + block - 1) // block
    want_errors, want_all, want_pixel = (want & WANT_ERRORS) != 0, (want & WANT_NLL_ALL) != 0, (want & WANT_PIXEL) != 0
    p = np.empty((C, block), z_NCP.dtype)
    w = np.empty((C if want_errors else 1, block), z_NCP.dtype)  # d/dp_c, where it varies over the block
    flat_C, linear_C = np.empty(C, z_NCP.dtype), np.empty(C, z_NCP.dtype)  # the rest of it: flat + linear p
    gain_C = np.empty(C, z_NCP.dtype)
    varies_C = np.zeros(C, np.bool_)
    maps = np.empty((8, block), z_NCP.dtype)
    indices = np.empty((2, block), np.int32)
    for j in range(first, last):
        n, s = j // blocks, (j % blocks) * block
        L = min(block, P - s)
        group = n if table_GC2K.shape[0] > 1 else 0
        dot, own, nll, slope, extra, factor = maps[0, :L], maps[1, :L], maps[2, :L], maps[3, :L], maps[4, :L], maps[5, :L]
        miss, powers_of_miss = maps[6, :L], maps[7, :L]
        label, slot = indices[0, :L], indices[1, :L]
        top, inv = top_NP[n, s : s + L], inv_NP[n, s : s + L]
        z_CP, grad_SC = z_NCP[n], grad_NSC[n]
        off, _ = stages.read_labels(y_NP[n, s : s + L], ignore, C, label)
        stages.probabilities(z_CP, s, L, top, inv, p)
        if off > 0:
            stages.zero_ignored(p, L, label)
        dot[:] = zero
        for c in range(C):
            pc = p[c, :L]
            flat_C[c], linear_C[c] = grad_SC[PROB, c], two * grad_SC[PROB_SQ, c]
            gain_C[c] = grad_SC[PROB, c] + grad_SC[OVERLAP, c]
            varies_C[c] = False
            if want_errors and counted_GC[group, c]:
                table = table_GC2K[group, c, 0]
                varies_C[c] = stages.find_weights(pc, real(K), slot, table, w[c, :L], z_CP[c], s + block, grad_NCP[n, c, s : s + L])
                if varies_C[c]:
                    stages.add_dot_varying(pc, w[c, :L], flat_C[c], linear_C[c], dot)
                    continue
                flat_C[c] += table[0]
            stages.add_dot(pc, flat_C[c], linear_C[c], dot)
        _own_class(label, p, w, varies_C, flat_C, linear_C, gain_C, grad_SC[NLL], own, extra, slope)
        if want_errors:
            for i in range(L):
                factor[i] = real(1) - own[i]
            stages.locate(factor, real(K), slot)
            _subtract_own_weights(label, slot, table_GC2K[group], extra)
        if want_pixel:
            for i in range(L):
                # the map is not weighted: its weights are the caller's
                v = grad_pixel_NP[n, s + i]
                if weighted:
                    v = v / weight_NP[n, s + i] if weight_NP[n, s + i] > 0 else zero
                slope[i] -= v
        if gammas.size > 0 or powers.size > 0:
            _log_loss(z_CP, s, label, top, inv, nll)
        for f in range(gammas.size):
            _gather(label, grad_SC[FIXED_SLOTS + f], factor)
            _focal_slope(own, nll, factor, gammas[f], slope, miss, powers_of_miss)
        for f in range(powers.size):
            _gather(label, grad_SC[FIXED_SLOTS + gammas.size + f], factor)
            _power_slope(nll, factor, powers[f], slope)
        every = zero
        if want_all:
            for c in range(C):
                every += grad_SC[NLL_ALL, c]
        _finish(label, own, every, extra, slope, dot)
        for c in range(C):
            pc, out = p[c, :L], grad_NCP[n, c, s : s + L]
            if varies_C[c]:
                stages.write_gradient_varying(pc, w[c, :L], flat_C[c], linear_C[c], dot, out)
            else:
                stages.write_gradient(pc, flat_C[c], linear_C[c], dot, out)
            if want_all:
                h = grad_SC[NLL_ALL, c]
                for i in range(L):
                    out[i] -= h if label[i] >= 0 else zero
        for i in range(L):
            if label[i] >= 0:
                grad_NCP[n, np.uint32(label[i]), s + i] += extra[i]
        if weighted:
            for i in range(L):
                factor[i] = weight_NP[n, s + i] if label[i] >= 0 else zero
            for c in range(C):
                out = grad_NCP[n, c, s : s + L]
                for i in range(L):
                    out[i] *= factor[i]
