"""Gradient of the two-sided statistics, from the logits and the codes that the forward pass left (margin.py)."""

import numpy as np

from evenseg.statistics.numba.compiler import kernel
from evenseg.statistics.numba.margin import log_losses, sided_margin, sigmoids
from evenseg.statistics.numba.scalar import exp, power
from evenseg.statistics.slots import (
    MARGIN,
    MARGIN_FIXED_SLOTS,
    MARGIN_NLL,
    MISS,
    MISS_SQ,
    POWER_FLOOR,
    WANT_ERRORS,
    WANT_MISS,
    WANT_NLL,
    WANT_NLL_ALL,
    WANT_PIXEL,
)


@kernel
def _look_up(code, table, out):
    for i in range(code.size):
        out[i] = table[np.uint32(code[i])]


@kernel
def _times_slope(z, w, out):
    """Out = w sigmoid(z) (1 - sigmoid(z)), 0 where w is."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    for i in range(w.size):
        t = exp(-abs(z[i]))
        share = one / (one + t)
        out[i] = w[i] * (t * share * share) if w[i] != zero else zero


@kernel
def _decode(code, K, side):
    K = np.int32(K)
    for i in range(code.size):
        v = np.int32(code[i])
        k = np.int32(v >= K) if v < np.int32(2) * K else v - np.int32(2) * K
        side[i] = k if k < np.int32(2) else np.int32(-1)


@kernel
def _plain_slope(side, miss, grad_2S, slope):
    """d/du of the sums of m, m², -log p and u: through m, dm/du = -m (1-m); through -log p, -m."""
    real = miss.dtype.type
    one, two = real(1), real(2)
    linear0, linear1, square0, square1 = grad_2S[0, MISS], grad_2S[1, MISS], two * grad_2S[0, MISS_SQ], two * grad_2S[1, MISS_SQ]
    log0, log1, margin0, margin1 = grad_2S[0, MARGIN_NLL], grad_2S[1, MARGIN_NLL], grad_2S[0, MARGIN], grad_2S[1, MARGIN]
    for i in range(miss.size):
        m, f = miss[i], side[i] == 1
        v = (linear1 if f else linear0) + (square1 if f else square0) * m
        slope[i] = (margin1 if f else margin0) - m * (v * (one - m) + (log1 if f else log0))


@kernel
def _power_slope(side, miss, nll, of_background, of_foreground, exponent, slope):
    """Add d/du of the sums of (-log p)^q."""
    real = miss.dtype.type
    zero, one, floor = real(0), real(1), real(POWER_FLOOR)
    for i in range(miss.size):
        v = exponent * power(max(nll[i], floor), exponent - one) * miss[i]
        slope[i] -= (of_foreground if side[i] == 1 else of_background) * v if nll[i] > floor else zero


@kernel
def _focal_slope(side, miss, nll, of_background, of_foreground, gamma, slope):
    """Add d/du of the sums of m^g (-log p)."""
    real = miss.dtype.type
    one, least = real(1), real(1e-30)
    if gamma == real(2):
        for i in range(miss.size):
            m = miss[i]
            v = m * m * (real(2) * (one - m) * nll[i] + m)
            slope[i] -= (of_foreground if side[i] == 1 else of_background) * v
        return
    for i in range(miss.size):
        m = miss[i]
        v = power(max(m, least), gamma)
        slope[i] -= (of_foreground if side[i] == 1 else of_background) * v * (gamma * (one - m) * nll[i] + m)


@kernel
def _signed(side, slope, out):
    """Out = d/dz from d/du."""
    zero = slope.dtype.type(0)
    for i in range(slope.size):
        v = slope[i] if side[i] == 1 else -slope[i]
        out[i] = v if side[i] >= 0 else zero


@kernel
def backward(
    z_NCP, pair, weight_NP, weighted, hinge, first, last, block, K, want, gammas, powers,
    code_NRP, grad_NR2S, table_GRT, grad_pixel_NRP, grad_NCP,
):  # fmt: skip
    """Gradient with respect to the logits, given the gradient of every sum: d/du of each member, times du/dz = ±1.

    table_GRT holds by code d/dz of the loss through the pixel's error: of a hinge error its derivative, of a probability
    error the factor of sigmoid' = m (1-m).
    """
    P = z_NCP.shape[2]
    R = code_NRP.shape[1]
    real = z_NCP.dtype.type
    zero = real(0)
    blocks = (P + block - 1) // block
    maps = np.empty((7, block), z_NCP.dtype)
    sides = np.empty(block, np.int32)
    want_errors, want_pixel = (want & WANT_ERRORS) != 0, (want & WANT_PIXEL) != 0
    want_others = want_pixel or gammas.size > 0 or powers.size > 0 or (want & (WANT_MISS | WANT_NLL | WANT_NLL_ALL)) != 0
    for j in range(first, last):
        row, s = j // blocks, (j % blocks) * block
        n, r = row // R, row % R
        L = min(block, P - s)
        u, tail, miss, nll, slope = maps[0, :L], maps[1, :L], maps[2, :L], maps[3, :L], maps[4, :L]
        w, z, side = maps[5, :L], maps[6, :L], sides[:L]
        code, out = code_NRP[n, r, s : s + L], grad_NCP[n, 1 if pair else r, s : s + L]
        if pair:
            z0, z1 = z_NCP[n, 0, s : s + L], z_NCP[n, 1, s : s + L]
            for i in range(L):
                z[i] = z1[i] - z0[i]
        else:
            z = z_NCP[n, r, s : s + L]
        if want_errors:
            table = table_GRT[n if table_GRT.shape[0] > 1 else 0, r]
            if hinge:
                _look_up(code, table, w if want_others else out)
            else:
                _look_up(code, table, tail)
                _times_slope(z, tail, w if want_others else out)
        if want_others:
            _decode(code, K, side)
            sided_margin(z, side, u)
            sigmoids(u, tail, miss)
            _plain_slope(side, miss, grad_NR2S[n, r], slope)
            if want_pixel:
                for i in range(L):
                    # the map is not weighted: its weights are the caller's
                    v = grad_pixel_NRP[n, r, s + i]
                    if weighted:
                        v = v / weight_NP[n, s + i] if weight_NP[n, s + i] > 0 else zero
                    slope[i] -= v * miss[i]
            if gammas.size > 0 or powers.size > 0:
                log_losses(u, tail, nll)
            g0, g1 = grad_NR2S[n, r, 0], grad_NR2S[n, r, 1]
            for f in range(gammas.size):
                _focal_slope(side, miss, nll, g0[MARGIN_FIXED_SLOTS + f], g1[MARGIN_FIXED_SLOTS + f], gammas[f], slope)
            for f in range(powers.size):
                q = MARGIN_FIXED_SLOTS + gammas.size + f
                _power_slope(side, miss, nll, g0[q], g1[q], powers[f], slope)
            _signed(side, slope, out)
            if want_errors:
                for i in range(L):
                    out[i] += w[i]
        elif not want_errors:
            out[:] = zero
        if weighted:
            for i in range(L):
                out[i] = out[i] * weight_NP[n, s + i] if weight_NP[n, s + i] > 0 else zero
        if pair:
            other = grad_NCP[n, 0, s : s + L]
            for i in range(L):
                other[i] = -out[i]
