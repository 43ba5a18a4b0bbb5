"""Images of any type as pictures for the eye, with or without the classes' colours over them.

One rule for all: 8-bit values are shown as they are, all others are stretched, per channel from the 2nd to the 98th
percentile. So an image looks the same beside its target and under a prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evenseg.data import Classes

# of a taller image, the percentiles are those of this many rows, evenly spaced: it may be larger than memory
_MEASURED_ROWS = 256

# the values shown black and white, (channels,) each; None for 8 bits, which are shown as they are
Limits: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]] | None


def display_limits(read: Callable[[int, int], NDArray[Any]], height: int) -> Limits:
    """Returns which values of an image are shown black and white.

    Args:
        read: (top, bottom) -> those rows of the image, (bottom - top, W, channels).
        height: of the image.
    """
    if read(0, 1).dtype == np.uint8:
        return None
    places = np.unique(np.linspace(0, height - 1, min(height, _MEASURED_ROWS)).round().astype(int))
    rows = np.concatenate([_three_channels(read(row, row + 1)) for row in places.tolist()])
    low, high = np.percentile(rows, (2, 98), axis=(0, 1))
    return low.astype(np.float32), high.astype(np.float32)


def as_rgb(image: NDArray[Any], limits: Limits = None) -> NDArray[np.uint8]:
    """Returns (H, W, channels) of any type as a picture (H, W, 3) of 8 bits: the first three channels, or the first.

    Args:
        image: a whole image; or a part of one, with the `display_limits` of the whole.
        limits: those of `image` itself by default.
    """
    shown = _three_channels(image)
    limits = limits or display_limits(lambda top, bottom: image[top:bottom], len(image))
    if limits is None:
        return shown
    low, high = limits
    stretched = (shown - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    return (255 * stretched.clip(0, 1)).round().astype(np.uint8)


def blend_classes(picture: NDArray[np.uint8], index_HW: NDArray[Any], classes: Classes) -> NDArray[np.uint8]:
    """Returns a picture half in its own colours and half in those of the classes, (H, W, 3) uint8.

    Args:
        picture: of `as_rgb`.
        index_HW: class of each pixel.
        classes: with the colours.
    """
    colors = np.array(classes.colors, np.uint16)[index_HW]
    colors += picture
    colors += 1  # halves are rounded up
    colors >>= 1
    return colors.astype(np.uint8)


def _three_channels(image: NDArray[Any]) -> NDArray[Any]:
    return image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
