"""The search for matching boundary pixels, compiled by numba on first use."""

import math
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=16)
def disk_offsets(radius: float) -> NDArray[np.int64]:
    """Return the (dy, dx) within a Euclidean radius, nearest first, (K, 2)."""
    reach = math.floor(radius)
    square = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    disk = [(dy, dx) for dy, dx in square if dy * dy + dx * dx <= radius * radius]
    return np.array(sorted(disk, key=lambda offset: offset[0] ** 2 + offset[1] ** 2), np.int64)


def _count_matches(own_HW, other_HW, num_classes, offsets_K2, counts_C2):  # type: ignore[no-untyped-def]
    """Add to counts_C2, for each class, the boundary pixels of `own_HW` with one of `other_HW` nearby, and all of them.

    A boundary pixel of a class has the class in its 2x2 block beside another label; beyond the last row and column the map
    goes on unchanged. Labels of `num_classes` and above belong to no class.
    """
    H, W = own_HW.shape
    for y in range(H):
        below = min(y + 1, H - 1)
        for x in range(W):
            right = min(x + 1, W - 1)
            block = (own_HW[y, x], own_HW[y, right], own_HW[below, x], own_HW[below, right])
            if block[0] == block[1] and block[0] == block[2] and block[0] == block[3]:
                continue
            for slot in range(4):
                c = block[slot]
                seen = False
                for earlier in range(slot):
                    seen = seen or block[earlier] == c
                if seen or c >= num_classes:
                    continue
                counts_C2[c, 1] += 1
                # nearest first: most pixels match within a pixel or two
                for k in range(len(offsets_K2)):
                    v, u = y + offsets_K2[k, 0], x + offsets_K2[k, 1]
                    if v < 0 or u < 0 or v >= H or u >= W:
                        continue
                    v1, u1 = min(v + 1, H - 1), min(u + 1, W - 1)
                    found = 0
                    for label in (other_HW[v, u], other_HW[v, u1], other_HW[v1, u], other_HW[v1, u1]):
                        found += label == c
                    if 0 < found < 4:
                        counts_C2[c, 0] += 1
                        break


def _compiled():  # type: ignore[no-untyped-def]
    dispatcher = nb.njit(_count_matches, nogil=True)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder to write to: compiled again in every process
        return nb.njit(_count_matches, nogil=True)
    return dispatcher


count_matches = _compiled()
