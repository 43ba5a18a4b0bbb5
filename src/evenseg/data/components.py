"""Connected components of label masks: how many objects there are, and how large."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def component_areas(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns label and area in pixels of every component, in the order of their first pixels.

    A component is a largest set of pixels of one label that touch by sides or corners (8-neighbourhood).

    Args:
        labels: (H, W).

    Returns:
        Labels and areas, both (components,).

    Source: union-find over one scan of the pixels (Rosenfeld and Pfaltz, J. ACM 1966), with path halving.
    """
    return _kernel()(np.ascontiguousarray(labels, np.int64))


@lru_cache(maxsize=1)
def _kernel() -> Any:
    import numba as nb  # only who counts objects pays for the compiler

    return nb.njit(nogil=True)(_scan)


def _scan(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    height, width = labels.shape
    flat = labels.ravel()
    parent = np.arange(height * width)
    # the neighbours that the scan has passed: left, and the three above
    rows, columns = np.array([0, -1, -1, -1]), np.array([-1, -1, 0, 1])
    for y in range(height):
        for x in range(width):
            here = y * width + x
            for k in range(4):
                v, u = y + rows[k], x + columns[k]
                if v < 0 or u < 0 or u >= width or flat[v * width + u] != flat[here]:
                    continue
                one, other = here, v * width + u
                while parent[one] != one:
                    parent[one] = parent[parent[one]]
                    one = parent[one]
                while parent[other] != other:
                    parent[other] = parent[parent[other]]
                    other = parent[other]
                # the smaller index is the root, so roots are the first pixels of their components
                parent[max(one, other)] = min(one, other)
    areas = np.zeros(height * width, np.int64)
    for i in range(height * width):
        root = i
        while parent[root] != root:
            root = parent[root]
        parent[i] = root
        areas[root] += 1
    roots = np.nonzero(areas)[0]
    return flat[roots], areas[roots]
