"""What every data set offers, and the samples made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classes:
    """The classes of a data set: index i is called `names[i]` and drawn in `colors[i]`."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255

    @property
    def num_classes(self) -> int:
        return len(self.names)


class SegmentationDataset(ABC):
    """Pairs of an RGB image and a mask of class indices, read without any transform."""

    classes: Classes

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the name of a pair, unique in the data set and fit for a file name."""

    @abstractmethod
    def read_image(self, index: int) -> NDArray[np.uint8]:
        """Returns the image, (H, W, 3) uint8."""

    @abstractmethod
    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Returns the mask, (H, W) uint8: class indices and the ignore value."""

    @abstractmethod
    def image_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of the image without decoding it, where the format allows."""

    def maps(self, value: int) -> bool:
        """Returns whether the data set's section says what `value` in the masks means."""
        return False

    @property
    @abstractmethod
    def where(self) -> str:
        """The place to name in a message about this data set's masks."""

    @property
    @abstractmethod
    def cache_key(self) -> Hashable:
        """Equal for data sets whose files and labels are the same, so that they are checked once per process."""
