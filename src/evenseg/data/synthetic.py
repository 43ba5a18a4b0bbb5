"""Synthetic aerial pictures of thin roads: every picture is computed from (seed, index), no file is read."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenseg.data.base import Classes, SegmentationDataset

_STREAMS = {"train": 0, "val": 1, "test": 2}


class SyntheticRoads(SegmentationDataset):
    """Thin curved roads (about 4.5 % of the pixels) on textured ground, with ditches and hedges that look alike.

    Args:
        split: "train", "val" or "test"; the splits share no picture.
        length: number of pictures.
        size: height and width in pixels.
        seed: of the whole data set.
    """

    classes = Classes(names=("ground", "road"), colors=((40, 54, 32), (255, 220, 60)), ignore_index=255)

    def __init__(
        self, split: Literal["train", "val", "test"] = "train", length: int = 96, size: int = 128, seed: int = 0
    ) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        if size < 16:
            raise ValueError(f"size must be at least 16, got {size}")
        self.split, self.length, self.size, self.seed = split, length, size, seed
        self._pictures: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"{self.split}_{index:04d}"

    def read_image(self, index: int) -> NDArray[np.uint8]:
        return self._picture(index)[0].copy()

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        return self._picture(index)[1].copy()

    def image_size(self, index: int) -> tuple[int, int]:
        return self.size, self.size

    @property
    def where(self) -> str:
        return f"SyntheticRoads(split={self.split!r})"

    @property
    def cache_key(self) -> Hashable:
        return self.where, self.length, self.size, self.seed

    def _picture(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is outside 0..{self.length - 1}")
        if index not in self._pictures:
            rng = np.random.default_rng([self.seed, _STREAMS[self.split], index])
            self._pictures[index] = draw_picture(rng, self.size)
        return self._pictures[index]


def draw_picture(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns one picture, (size, size, 3) uint8, and its mask, (size, size) uint8 with 1 on roads."""
    scale = size / 128
    image = _ground(rng, size)
    for _ in range(rng.integers(1, 4)):  # hedges and ditches: thin as roads, of other colours
        distance = _distance_to_curve(rng, size)
        color = rng.choice(np.array([[0.20, 0.28, 0.16], [0.30, 0.36, 0.40]])) + rng.normal(0, 0.03, 3)
        image = _paint(image, color, _edge(distance, rng.uniform(0.6, 1.6) * scale) * rng.uniform(0.5, 0.9))
    mask = np.zeros((size, size), bool)
    color = np.array([0.62, 0.59, 0.55]) + rng.normal(0, 0.05, 3)
    for _ in range(2):
        distance = _distance_to_curve(rng, size)
        half_width = rng.uniform(0.85, 1.85) * scale
        strength = rng.uniform(0.55, 0.95)
        image = _paint(image, color + rng.normal(0, 0.03, 3), _edge(distance, half_width) * strength)
        mask |= distance <= half_width
    trees = np.clip((_noise(rng, size, 10) - 0.72) * 12, 0, 1)  # crowns hang over roads; the mask goes on below
    image = _paint(image, np.array([0.14, 0.24, 0.12]), trees * 0.8)
    image += rng.normal(0, 0.04, image.shape)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8), mask.astype(np.uint8)


def _ground(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Fields of different colours under texture of several sizes, (size, size, 3)."""
    fields = _noise(rng, size, 4)[..., None]
    first = np.array([0.36, 0.44, 0.26]) + rng.normal(0, 0.05, 3)
    second = np.array([0.58, 0.52, 0.38]) + rng.normal(0, 0.05, 3)
    image = first + (second - first) * np.clip((fields - 0.5) * 6 + 0.5, 0, 1)
    texture = 0.5 * _noise(rng, size, 8) + 0.3 * _noise(rng, size, 24) + 0.2 * _noise(rng, size, 64)
    return image * (0.65 + 0.7 * texture[..., None])


def _noise(rng: np.random.Generator, size: int, cells: int) -> NDArray[np.float64]:
    """Smooth noise in 0..1: random values on a grid of `cells` cells, interpolated between."""
    grid = rng.random((cells + 1, cells + 1))
    position = np.linspace(0, cells, size, endpoint=False)
    low = position.astype(int)
    part = position - low
    part = part * part * (3 - 2 * part)
    rows = grid[low] * (1 - part[:, None]) + grid[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _distance_to_curve(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Distance in pixels of every pixel to a bent line across the picture.

    In coordinates u along and v across, the line is v = f(u), and |v - f(u)| / sqrt(1 + f'(u)^2) is the distance to
    first order, good enough for bands a few pixels wide.
    """
    angle = rng.uniform(0, 2 * np.pi)
    pixels = (np.arange(size) + 0.5) / size - 0.5
    u = pixels[:, None] * np.cos(angle) + pixels * np.sin(angle)
    v = pixels * np.cos(angle) - pixels[:, None] * np.sin(angle)
    offset, height = rng.uniform(-0.35, 0.35), rng.uniform(0.02, 0.12)
    frequency, phase = rng.uniform(2, 7), rng.uniform(0, 2 * np.pi)
    gap = v - offset - height * np.sin(frequency * u + phase)
    slope = height * frequency * np.cos(frequency * u + phase)
    return np.abs(gap) / np.sqrt(1 + slope**2) * size


def _edge(distance: NDArray[np.float64], half_width: float) -> NDArray[np.float64]:
    """Coverage in 0..1 of a band, with an edge one pixel wide."""
    return np.clip(half_width + 0.5 - distance, 0, 1)


def _paint(
    image: NDArray[np.float64], color: NDArray[np.float64], coverage: NDArray[np.float64]
) -> NDArray[np.float64]:
    return image + coverage[..., None] * (color - image)
