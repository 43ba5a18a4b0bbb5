"""Image files read some rows at a time, for images that should not lie in memory as a whole array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evenseg.data.images import (
    UnreadableFileError,
    _has_wide_channels,
    _loaded,
    _plain_pixels,
    _to_channels,
    open_image,
    read_image,
)


@dataclass(frozen=True)
class ImageRows:
    """An open image.

    Attributes:
        height: in pixels.
        width: in pixels.
        read: (top, bottom) -> those rows, (bottom - top, W, C), as `read_image` would return them.
    """

    height: int
    width: int
    read: Callable[[int, int], NDArray[Any]]


@contextmanager
def open_rows(file: Path, channels: int = 3) -> Iterator[ImageRows]:
    """Opens an image file of any size.

    A .npy array stays on disk. Pillow decodes other files as a whole, which takes 4 bytes for a pixel of 8-bit colours; the
    array of the rows asked for is all that comes on top.

    Args:
        file: anything `read_image` reads.
        channels: of the result.

    Raises:
        UnreadableFileError: a missing, truncated or otherwise damaged file.
        ValueError: another number of channels.
    """
    with _any_size():
        if file.suffix.lower() == ".npy":
            yield _of_array(file, channels)
            return
        with open_image(file) as image:
            if getattr(image, "n_frames", 1) == 1 and not _has_wide_channels(image):
                _loaded(image, file)

                def read(top: int, bottom: int) -> NDArray[Any]:
                    part = _plain_pixels(image.crop((0, top, image.width, bottom)), file, channels)
                    return _to_channels(part.reshape(*part.shape[:2], -1), channels, file)

                read(0, 1)  # a wrong number of channels shows now
                yield ImageRows(image.height, image.width, read)
                return
        pixels = read_image(file, channels)
        yield ImageRows(pixels.shape[0], pixels.shape[1], lambda top, bottom: pixels[top:bottom])


def _of_array(file: Path, channels: int) -> ImageRows:
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise UnreadableFileError(f"{file} {' '.join(reason.split())}") from error
    if stored.ndim not in (2, 3) or not (stored.dtype in (np.uint8, np.uint16) or stored.dtype.kind == "f"):
        raise ValueError(f"{file} holds {stored.dtype} of shape {stored.shape}; images are (H, W, channels)")

    def read(top: int, bottom: int) -> NDArray[Any]:
        part = np.array(stored[top:bottom])
        part = part if part.dtype.kind == "u" else part.astype(np.float32)
        return _to_channels(part.reshape(*part.shape[:2], -1), channels, file)

    read(0, 1)
    return ImageRows(stored.shape[0], stored.shape[1], read)


@contextmanager
def _any_size() -> Iterator[None]:
    """Lifts Pillow's limit against decompression bombs: whoever names a file of 400 megapixels means it."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
