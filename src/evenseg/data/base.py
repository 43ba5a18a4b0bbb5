"""What every data set offers, and the samples made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Pairs of an image and a mask of class indices, read without any transform.

    Attributes:
        classes: names, colours and ignore value; of the class itself too, where the layout implies them.
        channels: of every image.
        has_weights: whether there is a map of pixel weights for every pair.
    """

    classes: Classes
    channels: int = 3
    has_weights: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Returns the name of a pair, unique in the data set and fit for a file name."""

    @abstractmethod
    def read_image(self, index: int) -> NDArray[Any]:
        """Returns the image, (H, W, channels) uint8, uint16 or float32.

        Raises:
            UnreadableFileError: the file is missing or damaged.
        """

    @abstractmethod
    def read_mask(self, index: int) -> NDArray[Any]:
        """Returns the mask, (H, W) uint8 or uint16: class indices and the ignore value.

        Raises:
            UnreadableFileError: the file is missing or damaged.
        """

    def read_weight(self, index: int) -> NDArray[np.float32]:
        """Returns the weights of the pixels, (H, W) float32, finite and not negative; where `has_weights`.

        Raises:
            UnreadableFileError: the file is missing or damaged.
            ValueError: other values.
        """
        raise NotImplementedError

    @abstractmethod
    def image_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of the image, which is decoded in full where it is a file."""

    def read_stored_mask(self, index: int) -> NDArray[Any]:
        """Returns the labels as the file stores them, (H, W), before any `label_map` and the like."""
        return self.read_mask(index)

    def relabel(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Returns what `label_map` and the like make of labels as `read_stored_mask` returns them."""
        return labels

    def label_map_with(self, changes: Mapping[Any, Any]) -> dict[Any, Any]:
        """Returns the `label_map` to set so that these stored labels get a new meaning and the others keep theirs."""
        return dict(changes)

    def files(self, index: int) -> tuple[Path, Path] | None:
        """Returns the files of the image and the mask, where these are files."""
        return None

    @property
    def reads_indices(self) -> bool:
        """Whether masks are read as the indices stored in them, not by their colours or grey values."""
        return True

    def maps(self, value: int) -> bool:
        """Returns whether the data set's section says what `value` in the masks means."""
        return False

    @property
    @abstractmethod
    def where(self) -> str:
        """The place to name in a message about this data set's masks."""

    @property
    def reading_rules(self) -> Hashable | None:
        """Equal for data sets that make the same of the same files; None where this cannot be told."""
        return None

    @property
    @abstractmethod
    def cache_key(self) -> Hashable:
        """Equal for data sets whose files and labels are the same, so that they are checked once per process."""
