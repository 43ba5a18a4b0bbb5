"""The packed histogram of the CPU kernels: how a count and a sum share one integer, and how they part again.

A counter holds the number of errors from bit SHIFT up and, below it, the sum of their positions inside the bin in units
of 2^-RESIDUAL bin widths. One addition updates both, so the result does not depend on the order of the pixels or on the
number of threads, and truncation keeps the sum at or below the true one (by less than 2^-RESIDUAL bin widths an error).
"""

import numpy as np

from evenseg.statistics.numba.compiler import kernel

RESIDUAL = 9
SHIFT = 31
SPREAD = 8  # unused counters beside the bins: errors of the uncounted lowest bin go there, spread against stalls
FLUSH = 1 << 22  # most pixels packed before unpacking: beyond, a sum could overflow into its count


@kernel
def unpack(packed_PR2W, first, last, edge, width, counts_R2K, sums_R2K):
    """Add the counters of all workers, in rows first..last-1 and but for the lowest bin, to counts and sums, and clear them."""
    K = counts_R2K.shape[2]
    mask = (np.int64(1) << SHIFT) - 1
    fraction = 1.0 / (1 << RESIDUAL)
    for r in range(first, last):
        for side in range(2):
            for b in range(1, K + 1):
                v = np.int64(0)
                for p in range(packed_PR2W.shape[0]):
                    v += packed_PR2W[p, r, side, b]
                if v != 0:
                    packed_PR2W[:, r, side, b] = 0
                    count = v >> SHIFT
                    k = min(b, K - 1)  # the largest possible error falls on the upper edge of the last bin
                    counts_R2K[r, side, k] += count
                    sums_R2K[r, side, k] += count * edge[b] + (v & mask) * fraction * width[k]
            packed_PR2W[:, r, side, K + 1 :] = 0
