"""Fingerprints of images: equal ones have equal pixels, and close ones show the same picture.

The picture's grey values are averaged over a grid of 32 x 34 cells. Its difference hash has one bit for each of 16 x 16
pairs of neighbouring blocks: is the right one brighter? A candidate, at most 20 of 256 bits apart, is a near-duplicate
when the grids correlate, too (0.985 or more). Copies that were compressed, resized by any factor or brightened pass both;
different pictures of the six data sets in docs/label_doctor.md fail one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 32, 34
MOST_BITS = 20
LEAST_CORRELATION = 0.985
# standard deviation of the grid, as a part of the range of values: a plain picture resembles every other plain one
LEAST_CONTRAST = 0.008
_BLOCK = 2048  # bounds the memory of a comparison


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image.

    Attributes:
        digest: of shape, type and pixels.
        grid: grey values of the cells, less their mean and divided by their norm, (ROWS * COLUMNS,) float16; None for a
            picture without contrast.
        bits: the difference hash, (256,) bool.
    """

    digest: bytes
    grid: NDArray[np.float16] | None
    bits: NDArray[np.bool_]


def fingerprint(image: NDArray[Any]) -> Fingerprint:
    """Returns the fingerprint of an image, (H, W, channels)."""
    grid = _cell_means(image)
    blocks = grid.reshape(ROWS // 2, 2, COLUMNS // 2, 2).mean(axis=(1, 3))
    spread = grid - grid.mean()
    scale = np.iinfo(image.dtype).max if image.dtype.kind == "u" else max(float(np.abs(image).max()), 1e-30)
    flat = spread.std() / scale < LEAST_CONTRAST
    return Fingerprint(
        pixel_digest(image),
        None if flat else (spread / np.linalg.norm(spread)).astype(np.float16).ravel(),
        (blocks[:, 1:] > blocks[:, :-1]).ravel(),
    )


def pixel_digest(pixels: NDArray[Any]) -> bytes:
    """Returns a hash that is equal for arrays of equal shape, type and values."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def near_duplicates(one: Sequence[Fingerprint], other: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Yields the positions of every pair of near-duplicates between two sequences; all must have a grid."""
    if not one or not other:
        return
    # signs +-1: the product of two hashes is (bits that agree) - (bits that differ)
    signs, grids = _matrices(other)
    for start in range(0, len(one), _BLOCK):
        part_signs, part_grids = _matrices(one[start : start + _BLOCK])
        i, j = np.nonzero(part_signs @ signs.T >= signs.shape[1] - 2 * MOST_BITS)
        for first in range(0, len(i), _BLOCK):
            some_i, some_j = i[first : first + _BLOCK], j[first : first + _BLOCK]
            alike = np.einsum("pc,pc->p", part_grids[some_i], grids[some_j]) >= LEAST_CORRELATION
            yield from zip((start + some_i[alike]).tolist(), some_j[alike].tolist(), strict=True)


def _matrices(prints: Sequence[Fingerprint]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    signs = np.where([entry.bits for entry in prints], np.float32(1), np.float32(-1))
    return signs, np.array([entry.grid for entry in prints], np.float32)


def _cell_means(image: NDArray[Any]) -> NDArray[np.float64]:
    """Means over a grid of cells of about equal size and over the channels, (ROWS, COLUMNS)."""
    exact = np.int64 if image.dtype.kind == "u" else np.float64
    total: NDArray[Any] = image
    counts = []
    for axis, cells in ((0, ROWS), (1, COLUMNS)):
        starts = np.arange(cells) * image.shape[axis] // cells
        # where the image is smaller than the grid, several cells share a row: reduceat then takes that row alone
        total = np.add.reduceat(total, starts, axis=axis, dtype=exact)
        counts.append(np.maximum(np.diff(np.append(starts, image.shape[axis])), 1))
    return total.mean(axis=2) / (counts[0][:, None] * counts[1])
