"""The vector loops that the CPU kernels are made of, one small function each.

Small because the compiler vectorises a loop only if it can show that the arrays do not overlap, which it does for a handful
of them, not for the thirty of a whole kernel. All work on one block of pixels, on the first L of each array or on all of it.
"""

import numba as nb
import numpy as np

from evenseg.statistics.numba.compiler import kernel, loose_kernel
from evenseg.statistics.numba.packing import RESIDUAL, SHIFT, SPREAD
from evenseg.statistics.numba.scalar import exp, prefetch_read, prefetch_write

LEAST, MOST = 1e-30, 1e30  # sums of exponentials between these need no shift of the logits
LINE = 16  # numbers in a cache line
CHUNK = 1024  # pixels whose bins and amounts stay in the first-level cache


@loose_kernel
def within(x, low, high):
    """Whether all of x lie between low and high."""
    outside = 0
    for i in range(x.size):
        outside += (x[i] < low) | (x[i] > high)
    return outside == 0


@kernel
def read_labels(y, ignore, C, label):
    """Labels as int32 with -1 for pixels that do not count. Returns how many do not, and how many of them are wrong."""
    off, bad = 0, 0
    for i in range(y.size):
        v = np.int64(y[i])
        outside = (v < 0) | (v >= C)
        skip = outside | (v == ignore)
        label[i] = np.int32(-1) if skip else np.int32(v)
        off += skip
        bad += outside & (v != ignore)
    return off, bad


@kernel
def _exponential(row, label, c, top, e, others):
    """One class of `exponentials`."""
    zero = row.dtype.type(0)
    for i in range(row.size):
        v = exp(row[i] - top[i])
        v = v if label[i] != c else zero
        e[i] = v
        others[i] += v


@kernel
def _exponentials4(row0, row1, row2, row3, label, c, top, e0, e1, e2, e3, others):
    """Four classes of `exponentials`: four streams from memory keep it busier than one."""
    zero = row0.dtype.type(0)
    for i in range(row0.size):
        k = label[i] - c
        t = top[i]
        v0, v1, v2, v3 = exp(row0[i] - t), exp(row1[i] - t), exp(row2[i] - t), exp(row3[i] - t)
        v0 = v0 if k != 0 else zero
        v1 = v1 if k != 1 else zero
        v2 = v2 if k != 2 else zero
        v3 = v3 if k != 3 else zero
        e0[i] = v0
        e1[i] = v1
        e2[i] = v2
        e3[i] = v3
        others[i] += (v0 + v1) + (v2 + v3)


@kernel
def exponentials(z_CP, s, L, label, top, e, others):
    """e_c = exp(z_c - top), 0 at the pixel's own class; others = their sum."""
    C = z_CP.shape[0]
    t = s + L
    label, top, others = label[:L], top[:L], others[:L]
    others[:] = 0
    c = 0
    while c + 4 <= C:
        _exponentials4(
            z_CP[c, s:t], z_CP[c + 1, s:t], z_CP[c + 2, s:t], z_CP[c + 3, s:t], label, np.int32(c), top,
            e[c], e[c + 1], e[c + 2], e[c + 3], others,
        )  # fmt: skip
        c += 4
    while c < C:
        _exponential(z_CP[c, s:t], label, np.int32(c), top, e[c], others)
        c += 1


@kernel
def largest_logits(z_CP, s, L, top):
    """Top = max_c z_c."""
    row = z_CP[0, s : s + L]
    for i in range(L):
        top[i] = row[i]
    for c in range(1, z_CP.shape[0]):
        row = z_CP[c, s : s + L]
        for i in range(L):
            top[i] = max(top[i], row[i])


@kernel
def product_sum(x, y):
    """Sum of x y."""
    acc = x.dtype.type(0)
    for i in range(x.size):
        acc += x[i] * y[i]
    return acc


@kernel
def product_sums(x, y):
    """Sums of x y and of its square."""
    acc, square = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        v = x[i] * y[i]
        acc += v
        square += v * v
    return acc, square


@nb.njit(inline="always")
def spread_bin(code, i, K):
    """Counter of an error: its bin, or for the lowest bin, which is not counted, one of SPREAD places beside the bins."""
    return code >> np.int32(RESIDUAL) if code > np.int32((1 << RESIDUAL) - 1) else np.int32(K + 1) + (np.int32(i) & np.int32(SPREAD - 1))


@kernel
def encode(x, y, scale, K, slot, amount):
    """Counter and packed amount (packing.py) of the errors x y. Returns their sum and how many are above the lowest bin."""
    acc, hot = x.dtype.type(0), np.int32(0)
    mask = np.int32((1 << RESIDUAL) - 1)
    unit = np.uint32(1 << SHIFT)
    for i in range(x.size):
        v = x[i] * y[i]
        t = np.int32(v * scale)
        acc += v
        hot += np.int32(t > mask)
        slot[i] = spread_bin(t, i, K)
        amount[i] = unit | np.uint32(t & mask)
    return acc, hot


@kernel
def scatter(slot, amount, table, ahead, at):
    """Add the amounts to the counters. Meanwhile ahead[at:at+n] is fetched from memory, which is idle here."""
    for a in range(0, slot.size, LINE):
        prefetch_read(ahead, at + a)
    for i in range(slot.size):
        table[np.uint32(slot[i])] += np.int64(amount[i])


@kernel
def scatter_few(slot, amount, K, table):
    """As `scatter`, where nearly all errors are in the uncounted lowest bin."""
    for i in range(slot.size):
        if slot[i] <= K:
            table[np.uint32(slot[i])] += np.int64(amount[i])


@kernel
def count_errors(x, y, scale, K, slot, amount, table, ahead, at):
    """Encode and scatter a row, while ahead[at:at+n] is fetched. Returns the sum of the errors."""
    total = x.dtype.type(0)
    for a in range(0, x.size, CHUNK):
        b = min(a + CHUNK, x.size)
        n = b - a
        acc, hot = encode(x[a:b], y[a:b], scale, K, slot[:n], amount[:n])
        total += acc
        if 8 * hot >= n:
            scatter(slot[:n], amount[:n], table, ahead, at + a)
            continue
        if hot > 0:
            scatter_few(slot[:n], amount[:n], K, table)
        for q in range(a, b, LINE):
            prefetch_read(ahead, at + q)
    return total


@kernel
def _probability(row, top, inv, p):
    for i in range(row.size):
        p[i] = exp(row[i] - top[i]) * inv[i]


@kernel
def _probabilities4(row0, row1, row2, row3, top, inv, p0, p1, p2, p3):
    for i in range(row0.size):
        t, v = top[i], inv[i]
        p0[i] = exp(row0[i] - t) * v
        p1[i] = exp(row1[i] - t) * v
        p2[i] = exp(row2[i] - t) * v
        p3[i] = exp(row3[i] - t) * v


@kernel
def probabilities(z_CP, s, L, top, inv, p):
    """p_c = exp(z_c - top) inv."""
    C = z_CP.shape[0]
    t = s + L
    c = 0
    while c + 4 <= C:
        _probabilities4(
            z_CP[c, s:t], z_CP[c + 1, s:t], z_CP[c + 2, s:t], z_CP[c + 3, s:t], top[:L], inv[:L], p[c], p[c + 1], p[c + 2], p[c + 3]
        )
        c += 4
    while c < C:
        _probability(z_CP[c, s:t], top[:L], inv[:L], p[c])
        c += 1


@kernel
def zero_ignored(x_CP, L, label):
    """Zero where the label is -1, whatever stood there, NaN included."""
    zero = x_CP.dtype.type(0)
    for c in range(x_CP.shape[0]):
        row = x_CP[c]
        for i in range(L):
            row[i] = row[i] if label[i] >= 0 else zero


@kernel
def locate(p, K, slot):
    """Bin of every error, K for an error of 1. Returns how many are above the lowest."""
    hot = np.int32(0)
    for i in range(p.size):
        t = np.int32(p[i] * K)
        hot += np.int32(t > 0)
        slot[i] = t
    return hot


@kernel
def look_up(slot, table, w):
    """W = table[slot]."""
    for i in range(slot.size):
        w[i] = table[np.uint32(slot[i])]


@kernel
def look_up_few(slot, table, w):
    """As `look_up`, where nearly all errors are in the lowest bin."""
    lowest = table[0]
    for i in range(slot.size):
        w[i] = lowest
    for i in range(slot.size):
        if slot[i] != 0:
            w[i] = table[np.uint32(slot[i])]


@kernel
def find_weights(p, K, slot, table, w, ahead, at, out):
    """W = table[bin of p]; returns False, and leaves w alone, if all are in the lowest bin.

    Meanwhile ahead[at:at+n] is fetched from memory, and the place for out.
    """
    varies = False
    for a in range(0, p.size, CHUNK):
        b = min(a + CHUNK, p.size)
        n = b - a
        hot = locate(p[a:b], K, slot[:n])
        for q in range(a, b, LINE):
            prefetch_read(ahead, at + q)
            prefetch_write(out, q)
        if not varies:
            if hot == 0:
                continue
            varies = True
            w[:a] = table[0]
        if 8 * hot >= n:
            look_up(slot[:n], table, w[a:b])
        else:
            look_up_few(slot[:n], table, w[a:b])
    return varies


@kernel
def add_dot(p, constant, linear, dot):
    """Dot += p (constant + linear p)."""
    for i in range(p.size):
        dot[i] += p[i] * (constant + linear * p[i])


@kernel
def add_dot_varying(p, w, constant, linear, dot):
    """Dot += p (w + constant + linear p)."""
    for i in range(p.size):
        dot[i] += p[i] * (w[i] + constant + linear * p[i])


@kernel
def write_gradient(p, constant, linear, dot, out):
    """Out = p (constant + linear p - dot)."""
    for i in range(p.size):
        out[i] = p[i] * (constant + linear * p[i] - dot[i])


@kernel
def write_gradient_varying(p, w, constant, linear, dot, out):
    """Out = p (w + constant + linear p - dot)."""
    for i in range(p.size):
        out[i] = p[i] * (w[i] + constant + linear * p[i] - dot[i])
