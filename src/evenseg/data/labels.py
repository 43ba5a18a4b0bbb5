"""From what a mask file stores to class indices: palettes, thresholds, label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evenseg.data.base import Classes
from evenseg.data.classes import checked_color
from evenseg.data.images import read_grey, read_image, read_indices, read_rgb

LabelMap: TypeAlias = dict[int | Literal["*"], int | Literal["ignore"]]
# the colours of class 0, 1, ...; or "r,g,b" or "#rrggbb" -> class; or "classes" for the colours of the classes
Palette: TypeAlias = list[tuple[int, int, int]] | dict[str, int | Literal["ignore"]] | Literal["classes"]

_LARGEST = 65535


class MaskReader:
    """Reads the masks of a data set as class indices.

    In this order: a file's pixels become labels (`palette`, `threshold`, `mask_channel`, else the stored indices), the
    layout's own `fixed_map` applies, then `reduce_zero_label`, then the user's `label_map`.

    Args:
        classes: of the data set.
        label_map: new value of each label, "ignore" for the ignore value; the key "*" stands for every label not listed.
            Labels not listed stay as they are without it.
        reduce_zero_label: label 0 becomes the ignore value and every other one less by one.
        palette: class of each colour, for masks of colours; "*" stands for every other colour.
        threshold: grey values from it on are label 1, those below 0.
        mask_channel: the channel that holds the labels, for masks that keep something else in the others.
        fixed_map: a label map that belongs to the layout.

    Raises:
        ValueError: values beyond 0..65535, colours that are none, or two ways at once to read a file.
    """

    def __init__(
        self,
        classes: Classes,
        *,
        label_map: LabelMap | None = None,
        reduce_zero_label: bool = False,
        palette: Palette | None = None,
        threshold: int | None = None,
        mask_channel: int | None = None,
        fixed_map: Mapping[Any, Any] | None = None,
    ) -> None:
        given = {"palette": palette, "threshold": threshold, "mask_channel": mask_channel}
        ways = [name for name, value in given.items() if value is not None]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are two ways to read the same masks; give one")
        if threshold is not None and not 1 <= threshold <= _LARGEST:
            raise ValueError(f"threshold must be in 1..{_LARGEST}, got {threshold}")
        if mask_channel is not None and not 0 <= mask_channel <= 3:
            raise ValueError(f"mask_channel must be in 0..3, got {mask_channel}")
        self.threshold, self.mask_channel = threshold, mask_channel
        self.label_map = dict(label_map or {})
        self._understood = bool(ways) or fixed_map is not None or reduce_zero_label
        ignore = classes.ignore_index
        self._colors = None if palette is None else _color_table(palette, classes)
        self._table: NDArray[Any] = label_table(fixed_map or {}, ignore)
        if reduce_zero_label:
            shifted = np.concatenate([[ignore], np.arange(_LARGEST)]).astype(np.uint16)
            shifted[ignore] = ignore
            self._table = shifted[self._table]
        self._fixed = self._table
        self._table = label_table(self.label_map, ignore)[self._table]
        # bytes stay bytes where they can
        self._table, self._narrow_table = _narrow(self._table), _narrow(self._table[:256])

    def read(self, file: Path) -> NDArray[Any]:
        """Returns the class indices of a file, (H, W) uint8 or uint16."""
        return self.relabel(self.read_stored(file))

    def relabel(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Returns what the label maps make of stored labels."""
        return (self._narrow_table if labels.dtype == np.uint8 else self._table)[labels]

    def read_stored(self, file: Path) -> NDArray[Any]:
        """Returns the labels of a file before any label map."""
        if self._colors is not None:
            return self._classes_of_colors(file)
        if self.threshold is not None:
            return (read_grey(file) >= self.threshold).astype(np.uint8)
        if self.mask_channel is not None:
            pixels = read_image(file, channels=4 if self.mask_channel == 3 else 3)
            return np.ascontiguousarray(pixels[..., self.mask_channel])
        return read_indices(file)

    def label_map_with(self, changes: Mapping[Any, Any]) -> dict[Any, Any]:
        """Returns the user's label map with new meanings for stored labels, which `fixed_map` and the like may move first."""
        moved = {label if label == "*" else int(self._fixed[label]): meaning for label, meaning in changes.items()}
        return self.label_map | moved

    @property
    def reads_indices(self) -> bool:
        """Whether files are read as the indices stored in them."""
        return self._colors is None and self.threshold is None and self.mask_channel is None

    def maps(self, value: int) -> bool:
        """Tells whether the options say what a stored `value` means."""
        return self._understood or value in self.label_map or "*" in self.label_map

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for readers that read alike."""
        colors = None if self._colors is None else tuple(sorted(self._colors.items(), key=str))
        return self._table.tobytes(), colors, self.threshold, self.mask_channel

    def _classes_of_colors(self, file: Path) -> NDArray[Any]:
        assert self._colors is not None
        rgb = read_rgb(file).astype(np.uint32)
        codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        found, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        rest = self._colors.get("*")
        labels = [self._colors.get(int(code), rest) for code in found]
        strange = [(int(c), int(n)) for c, n, label in zip(found, counts, labels, strict=True) if label is None]
        if strange:
            listed = ", ".join(f"[{c >> 16}, {c >> 8 & 255}, {c & 255}] ({n} pixels)" for c, n in strange[:5])
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            raise ValueError(f"{file} holds colours that the palette does not name: {listed}{more}; '*' stands for the rest")
        return _narrow(np.asarray(labels, np.uint16))[inverse].reshape(codes.shape)


def label_table(label_map: Mapping[Any, Any], ignore_index: int) -> NDArray[np.uint16]:
    """Returns the look-up table (65536,) uint16 of a label map; without "*" unlisted values stay as they are."""
    table = np.arange(_LARGEST + 1, dtype=np.uint16)
    if "*" in label_map:
        table[:] = _target(label_map["*"], ignore_index)
    for source, value in label_map.items():
        if source == "*":
            continue
        if not isinstance(source, int) or not 0 <= source <= _LARGEST:
            raise ValueError(f"label_map: keys must be 0..{_LARGEST} or '*', got {source!r}")
        table[source] = _target(value, ignore_index)
    return table


def _narrow(labels: NDArray[np.uint16]) -> NDArray[Any]:
    """Returns labels as bytes where they fit."""
    return labels.astype(np.uint8) if labels.max() <= 255 else labels


def _target(value: Any, ignore_index: int, where: str = "label_map") -> int:
    number = ignore_index if value == "ignore" else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _LARGEST:
        raise ValueError(f"{where}: values must be 0..{_LARGEST} or 'ignore', got {value!r}")
    return number


def _color_table(palette: Palette, classes: Classes) -> dict[Any, int]:
    """Returns colour as one number, or "*", -> class."""
    if palette == "classes":
        palette = list(classes.colors)
    pairs: list[tuple[Any, int]]
    if isinstance(palette, Mapping):
        pairs = [(color, _target(label, classes.ignore_index, "palette")) for color, label in palette.items()]
    else:
        pairs = [(color, label) for label, color in enumerate(palette)]
    table: dict[Any, int] = {}
    for color, label in pairs:
        code = "*" if color == "*" else _color_code(color)
        if table.setdefault(code, label) != label:
            raise ValueError(f"palette: the colour {color} stands for {table[code]} and for {label}")
    return table


def _color_code(color: str | Sequence[int]) -> int:
    values: Any = color
    if isinstance(color, str):
        text = color.strip().strip("[]()")
        try:
            if text.startswith("#") and len(text) == 7:
                values = [int(text[place : place + 2], 16) for place in (1, 3, 5)]
            else:
                values = [int(part) for part in text.split(",")]
        except ValueError:
            values = color
    r, g, b = checked_color(values, "palette")
    return r << 16 | g << 8 | b
