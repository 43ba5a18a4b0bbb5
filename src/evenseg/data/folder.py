"""Folders of images and index PNGs: images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png and classes.json."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from evenseg.data.base import Classes, SegmentationDataset

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

LabelMap = dict[int | Literal["*"], int | Literal["ignore"]]


class FolderDataset(SegmentationDataset):
    """Pairs images and masks by their name without suffix; masks are read as indices, a palette is never applied.

    `classes.json` holds {"classes": [{"id", "name", "color"}, ...], "ignore_index": 255}.

    Args:
        root: the folder that holds `classes.json` and the two folders; a relative one starts at the working folder.
        split: name of the folder below `images` and `masks`.
        images: name of the folder of images.
        masks: name of the folder of masks.
        label_map: new value of each value in the masks, "ignore" for the ignore value; the key "*" stands for every
            value not listed. Values not listed stay as they are without it.

    Raises:
        FileNotFoundError: a folder or classes.json is missing.
        ValueError: unpaired files, no files, or a classes.json that cannot be used.
    """

    def __init__(
        self,
        root: str,
        split: str = "train",
        images: str = "images",
        masks: str = "masks",
        label_map: LabelMap | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"the data set folder {root} does not exist (looked in {Path.cwd()})")
        self.classes = read_classes(self.root / "classes.json")
        self.label_map = dict(label_map or {})
        self._table = label_table(self.label_map, self.classes.ignore_index)
        self.image_folder = self.root / images / split
        self.mask_folder = self.root / masks / split
        for folder in (self.image_folder, self.mask_folder):
            if not folder.is_dir():
                have = sorted(entry.name for entry in folder.parent.iterdir()) if folder.parent.is_dir() else []
                raise FileNotFoundError(
                    f"the folder {folder} does not exist; {folder.parent} holds {', '.join(have[:8]) or 'nothing'}"
                )
        self._pairs = pair_files(self.image_folder, self.mask_folder)

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        return self._pairs[index][0].stem

    def read_image(self, index: int) -> NDArray[np.uint8]:
        with _open(self._pairs[index][0]) as image:
            return np.asarray(image.convert("RGB"))

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        return self._table[read_index_image(self._pairs[index][1])]

    def maps(self, value: int) -> bool:
        return value in self.label_map or str(value) in self.label_map or "*" in self.label_map

    def image_size(self, index: int) -> tuple[int, int]:
        # decoded in full, once a run: a damaged image must be found before training, not in its middle
        with _open(self._pairs[index][0]) as image:
            return image.height, image.width

    @property
    def where(self) -> str:
        return str(self.mask_folder)

    @property
    def cache_key(self) -> Hashable:
        stamps = tuple((mask.name, mask.stat().st_mtime_ns) for _, mask in self._pairs)
        return str(self.mask_folder.resolve()), str(self.image_folder.resolve()), self._table.tobytes(), stamps


def read_classes(file: Path) -> Classes:
    """Reads names, colours and ignore value from a classes.json; ids must be 0, 1, 2, ... in order."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; it must hold the names and colours of the classes")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        entries = content["classes"]
        names = tuple(str(entry["name"]) for entry in entries)
        colors = tuple((int(r), int(g), int(b)) for r, g, b in (entry["color"] for entry in entries))
        ids = [int(entry["id"]) for entry in entries]
        ignore_index = int(content.get("ignore_index", 255))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f'{file} must hold {{"classes": [{{"id": 0, "name": "...", "color": [r, g, b]}}, ...], '
            f'"ignore_index": 255}}; reading it failed with {type(error).__name__}: {error}'
        ) from error
    if ids != list(range(len(ids))) or not ids:
        raise ValueError(f"{file}: the ids of the classes must be 0, 1, 2, ... in order, got {ids}")
    if not 0 <= ignore_index <= 255 or ignore_index < len(ids):
        raise ValueError(f"{file}: ignore_index must be in {len(ids)}..255 (beyond the classes), got {ignore_index}")
    return Classes(names, colors, ignore_index)


def label_table(label_map: Mapping[Any, Any], ignore_index: int) -> NDArray[np.uint8]:
    """Returns the look-up table (256,) uint8 of a label map; without "*" unlisted values stay as they are."""

    def target(value: Any) -> int:
        number = ignore_index if value == "ignore" else value
        if not isinstance(number, int) or not 0 <= number <= 255:
            raise ValueError(f"label_map: values must be 0..255 or 'ignore', got {value!r}")
        return number

    table = np.arange(256, dtype=np.uint8)
    if "*" in label_map:
        table[:] = target(label_map["*"])
    for source, value in label_map.items():
        if source == "*":
            continue
        if not isinstance(source, int) or not 0 <= source <= 255:
            raise ValueError(f"label_map: keys must be 0..255 or '*', got {source!r}")
        table[source] = target(value)
    return table


def pair_files(image_folder: Path, mask_folder: Path) -> list[tuple[Path, Path]]:
    """Returns (image, mask) paths in the order of their names; ValueError names every kind of odd file."""
    images = _by_stem(image_folder, IMAGE_SUFFIXES)
    masks = _by_stem(mask_folder, (".png",))
    problems = []
    if lonely := sorted(images.keys() - masks.keys()):
        problems.append(f"{len(lonely)} images have no mask ({_some([images[stem].name for stem in lonely])})")
    if lonely := sorted(masks.keys() - images.keys()):
        problems.append(f"{len(lonely)} masks have no image ({_some([masks[stem].name for stem in lonely])})")
    if problems:
        raise ValueError(f"{image_folder} and {mask_folder}: {'; '.join(problems)}; pairs share their name")
    if not images:
        raise ValueError(f"{image_folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def read_index_image(file: Path) -> NDArray[np.uint8]:
    """Reads a mask as the indices stored in it, (H, W) uint8; ValueError for colour and 16-bit images."""
    with _open(file) as image:
        if image.mode not in ("1", "L", "P"):
            raise ValueError(
                f"{file} is a mask of mode {image.mode}; masks must hold one class index per pixel, as 8-bit PNGs of "
                "mode P (palette) or L (grey)"
            )
        return np.asarray(image).astype(np.uint8, copy=False)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in suffixes or file.name.startswith("."):
            continue
        if file.stem in found:
            raise ValueError(f"{folder}: {found[file.stem].name} and {file.name} share a name, so pairs are unclear")
        found[file.stem] = file
    return found


def _open(file: Path) -> Image.Image:
    try:
        image = Image.open(file)
        image.load()  # a truncated file shows only here
        return image
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
