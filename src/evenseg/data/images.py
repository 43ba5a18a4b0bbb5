"""Image files as arrays: any number of channels, 8 and 16 bits; whatever cannot be read is an UnreadableFileError."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".npy")

_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")

# orders of the two bytes of a channel; N stands for the machine's own
_OPPOSITE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

# a damaged header may claim any size, and decoding it would take all memory: no packing in use stores more pixels a byte
_PIXELS_PER_BYTE = 4000
_CERTAINLY_POSSIBLE = 4_000_000


class UnreadableFileError(ValueError):
    """A file of the data set that is missing or cannot be decoded; the message is one line that names it."""


def read_image(file: Path, channels: int = 3) -> NDArray[Any]:
    """Reads an image as (H, W, channels).

    Grey files are repeated to three channels and an alpha channel is dropped where `channels` asks for it; nothing else
    is converted. Files of 16 bits keep them. Several pages of a TIFF are its channels; several bands that are no colours
    need the package tifffile. A .npy array is (H, W) or (H, W, channels) of uint8, uint16 or floats.

    Args:
        file: anything Pillow decodes, or a NumPy array.
        channels: of the result.

    Returns:
        uint8 or uint16, or float32 for files of floats.

    Raises:
        UnreadableFileError: a missing, truncated or otherwise damaged file.
        ValueError: another number of channels.
    """
    if file.suffix.lower() == ".npy":
        pixels = _read_array(file)
        if pixels.ndim not in (2, 3) or not (pixels.dtype in (np.uint8, np.uint16) or pixels.dtype.kind == "f"):
            raise ValueError(
                f"{file} holds {pixels.dtype} of shape {pixels.shape}; images are (H, W, channels), uint8, uint16 or floats"
            )
        pixels = pixels if pixels.dtype.kind == "u" else pixels.astype(np.float32)
    elif file.suffix.lower() in (".tif", ".tiff") and _is_beyond_pillow(file, channels):
        pixels = _read_bands(file)
    else:
        with open_image(file) as image:
            pixels = _pixels(image, file, channels)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return _to_channels(pixels, channels, file)


def read_indices(file: Path) -> NDArray[Any]:
    """Reads a mask as the indices stored in it, (H, W) uint8 or uint16; a palette is never applied.

    Raises:
        UnreadableFileError: a missing or damaged file.
        ValueError: an image of colours, or values beyond 16 bits.
    """
    if file.suffix.lower() == ".npy":
        indices = _read_array(file)
        if indices.ndim != 2 or indices.dtype.kind not in "uib":
            raise ValueError(f"{file} holds {indices.dtype} of shape {indices.shape}; masks are (H, W) whole numbers")
    else:
        with open_image(file) as image:
            if image.mode not in _INDEX_MODES:
                raise ValueError(
                    f"{file} is a mask of mode {image.mode}; masks must hold one class index per pixel, as PNGs of mode P "
                    "(palette) or L (grey); for masks of colours set `palette`, for grey ones stored as colours `threshold`"
                )
            indices = np.asarray(_loaded(image, file))
    if indices.dtype in (np.uint8, np.uint16):
        return indices
    if indices.dtype != bool and indices.size and not 0 <= indices.min() <= indices.max() <= 65535:
        raise ValueError(f"{file} holds labels from {indices.min()} to {indices.max()}; allowed: 0..65535")
    return indices.astype(np.uint8 if indices.dtype == bool else np.uint16)


def read_weights(file: Path) -> NDArray[np.float32]:
    """Reads weights of pixels, (H, W) float32: grey values of 8 or 16 bits as 0..1, floats as they are.

    Raises:
        UnreadableFileError: a missing or damaged file.
        ValueError: an image of colours, or floats that are negative or not finite.
    """
    weights = read_image(file, 1)[..., 0]
    if weights.dtype.kind == "u":
        return (weights / np.float32(np.iinfo(weights.dtype).max)).astype(np.float32)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{file} holds weights that are negative or no numbers; they must be finite and at least 0")
    return weights


def read_rgb(file: Path) -> NDArray[np.uint8]:
    """Reads a mask of colours as (H, W, 3) uint8."""
    with open_image(file) as image:
        return np.asarray(_loaded(image, file).convert("RGB"))


def read_grey(file: Path) -> NDArray[Any]:
    """Reads a grey mask as (H, W), also where it is stored as colours."""
    with open_image(file) as image:
        if image.mode in ("1", "P") or image.mode not in _INDEX_MODES:
            return np.asarray(_loaded(image, file).convert("L"))
        return np.asarray(_loaded(image, file))


@contextmanager
def open_image(file: Path) -> Iterator[Image.Image]:
    """Opens a file, without decoding it, and closes it again."""
    with _naming(file), _of_any_size():
        image = Image.open(file)
    with image:
        with _naming(file):  # Pillow looks for some formats' size only now
            pixels, stored = image.width * image.height, file.stat().st_size
        if pixels > _CERTAINLY_POSSIBLE and pixels > _PIXELS_PER_BYTE * stored:
            raise UnreadableFileError(
                f"{file} cannot be read as an image: its {stored} bytes claim to hold {image.width}x{image.height} pixels"
            )
        yield image


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Lifts Pillow's guard against more than 179 megapixels, as aerial images have; `open_image` has one of its own."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Turns whatever a decoder raises at a damaged file into one error that names it; to be held around decoders alone."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{file} does not exist") from error
    except Exception as error:
        # Pillow's plugins and NumPy let nearly anything through: struct.error, TypeError, tokenize.TokenError, MemoryError
        raise UnreadableFileError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error


def _read_array(file: Path) -> NDArray[Any]:
    with _naming(file):
        return np.load(file, allow_pickle=False)


def _loaded(image: Image.Image, file: Path) -> Image.Image:
    with _naming(file):
        image.load()  # a truncated file shows only here
    return image


def _is_beyond_pillow(file: Path, channels: int) -> bool:
    """Tells whether a TIFF has bands that Pillow does not read: it drops a fourth that is no alpha, and opens no fifth."""
    try:
        with open_image(file) as image, _naming(file):
            read = len(image.getbands())
            return read < channels and read < int(getattr(image, "tag_v2", {}).get(277, 1))
    except UnreadableFileError as error:
        if isinstance(error.__cause__, UnidentifiedImageError) and file.read_bytes()[:4] in (b"II*\0", b"MM\0*"):
            return True
        raise


def _read_bands(file: Path) -> NDArray[Any]:
    try:
        import tifffile
    except ImportError as error:
        raise UnreadableFileError(
            f"{file} has bands that are no colours, or is damaged; reading them needs the package tifffile "
            "(pip install tifffile), or save the images as .npy"
        ) from error
    with _naming(file), tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        pixels = np.asarray(page.asarray())
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{file} holds {pixels.dtype}; images are uint8, uint16 or floats")
    return pixels


def _pixels(image: Image.Image, file: Path, channels: int) -> NDArray[Any]:
    with _naming(file):
        pages = getattr(image, "n_frames", 1)
    if pages > 1 and pages == channels:
        stack = []
        for page in range(pages):
            with _naming(file):
                image.seek(page)
            stack.append(np.asarray(_loaded(image, file)))
        if any(page.ndim != 2 or page.shape != stack[0].shape for page in stack):
            raise ValueError(f"{file} has {pages} pages that are no channels of one image: {[p.shape for p in stack]}")
        return np.stack(stack, axis=-1)
    if _has_wide_channels(image):
        return _read_wide(image, file)
    return _plain_pixels(_loaded(image, file), file, channels)


def _plain_pixels(image: Image.Image, file: Path, channels: int) -> NDArray[Any]:
    """Returns the pixels of a decoded image, or of a part of it, as Pillow holds them."""
    if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGBA" if channels == 4 and image.mode in ("P", "PA") else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    if pixels.dtype == np.int32:  # mode I: what some writers make of 16 bits
        if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 65535:
            raise ValueError(f"{file} holds values from {pixels.min()} to {pixels.max()}; allowed: 8 or 16 bits, or floats")
        return pixels.astype(np.uint16)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # torch takes no other order than the machine's


def _has_wide_channels(image: Any) -> bool:
    """Tells whether several channels of 16 bits are stored, which Pillow shows as 8 bits."""
    return bool(not image.mode.startswith("I;16") and getattr(image, "tile", None) and ";16" in _raw_mode(image))


def _raw_mode(image: Any) -> str:
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _read_wide(image: Any, file: Path) -> NDArray[np.uint16]:
    """Reads colours of 16 bits, of which Pillow keeps the high byte alone.

    Pillow knows how to unpack either byte order, and always takes the high byte. So a second decoding that claims the
    opposite order gives the low bytes.
    """
    tiles, raw_mode = list(image.tile), _raw_mode(image)
    kind, _, order = raw_mode.partition(";16")
    if kind not in ("RGB", "RGBA", "RGBX") or order not in _OPPOSITE:
        raise ValueError(f"{file} stores pixels as {raw_mode}, which cannot be read; save it as 16-bit grey, RGB or RGBA")
    opposite = f"{kind};16{_OPPOSITE[order]}"
    high = np.asarray(_loaded(image, file)).astype(np.uint16)
    with open_image(file) as reopened:
        again: Any = reopened
        again.tile = [t._replace(args=(opposite, *t.args[1:]) if isinstance(t.args, tuple) else opposite) for t in tiles]
        low = np.asarray(_loaded(again, file))
    return high << 8 | low


def _to_channels(pixels: NDArray[Any], channels: int, file: Path) -> NDArray[Any]:
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have in (2, 4) and channels in (1, 3) and have == channels + 1:
        return pixels[..., :channels]  # without alpha
    if have in (1, 2) and channels == 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    raise ValueError(
        f"{file} has {have} channel{'s' if have > 1 else ''}, the data set's section says channels: {channels}; "
        f"set `channels: {have}`" + (" or save the images as grey" if channels == 1 else "")
    )
