"""The classes of a data set, from its configuration section or from a classes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from evenseg.data.base import Classes, SegmentationDataset

Color: TypeAlias = tuple[int, int, int]
# a number, names, name -> colour, or a JSON file
ClassesOption: TypeAlias = int | list[str] | dict[str, Color] | str


def make_classes(option: ClassesOption, ignore_index: int = 255, root: Path | None = None) -> Classes:
    """Returns the classes that a `classes:` option names.

    Args:
        option: the number of classes (called "class 0", "class 1", ...), their names in order, a mapping of name to
            [r, g, b], or the path of a classes.json (from `root`, else from the working folder).
        ignore_index: label that is no class; a classes.json brings its own.
        root: of the data set.

    Raises:
        ValueError: no class, a name twice, a colour that is none, or an ignore value that is a class.
        FileNotFoundError: no such classes.json.
    """
    if isinstance(option, str):
        below_root = None if root is None else root / option
        return read_classes(below_root if below_root is not None and below_root.is_file() else Path(option))
    if isinstance(option, bool) or (isinstance(option, int) and option < 1):
        raise ValueError(f"classes must name at least one class, got {option!r}")
    if isinstance(option, Mapping):
        names = tuple(str(name) for name in option)
        colors = tuple(checked_color(color, f"classes: {name}") for name, color in option.items())
    else:
        names = tuple(f"class {i}" for i in range(option)) if isinstance(option, int) else tuple(map(str, option))
        colors = distinct_colors(len(names))
    return checked_classes(names, colors, ignore_index)


def known_classes(dataset: type[SegmentationDataset], keywords: Mapping[str, Any]) -> Classes | None:
    """Returns the classes of a data set that is not built, from its section, its layout or its classes.json.

    Args:
        dataset: the class; its attribute `classes`, where it has one, holds those that the layout implies.
        keywords: of the section.

    Returns:
        The classes, or None where only the data itself could tell.

    Raises:
        ValueError: as `make_classes` does.
    """
    root = Path(str(keywords["root"])) if "root" in keywords else None
    option, ignore_index = keywords.get("classes"), keywords.get("ignore_index")
    try:
        if option is not None:
            return make_classes(option, 255 if ignore_index is None else ignore_index, root)
        classes = getattr(dataset, "classes", None)
        if classes is None and root is not None:
            classes = read_classes(root / "classes.json")
    except FileNotFoundError:
        return None
    if not isinstance(classes, Classes) or ignore_index is None:
        return classes if isinstance(classes, Classes) else None
    return checked_classes(classes.names, classes.colors, ignore_index)


def checked_classes(names: Sequence[str], colors: Sequence[Color], ignore_index: int) -> Classes:
    """Returns `Classes`, or raises ValueError for names and an ignore value that cannot be used."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes must name at least one class, each once, got {list(names)}")
    if not len(names) <= ignore_index <= 65535:
        raise ValueError(f"ignore_index must be in {len(names)}..65535 (beyond the classes), got {ignore_index}")
    return Classes(tuple(names), tuple(colors), ignore_index)


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
    try:
        return checked_classes(names, colors, ignore_index)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def checked_color(color: Any, where: str) -> Color:
    """Returns (r, g, b), or raises ValueError."""
    if not isinstance(color, Sequence) or len(color) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in color):
        raise ValueError(f"{where}: a colour is [r, g, b] with values 0..255, got {color!r}")
    return color[0], color[1], color[2]


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Returns PASCAL VOC's colours, black first: the bits of the index spread over the bits of red, green and blue."""
    colors = []
    for index in range(count):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((color[0], color[1], color[2]))
    return tuple(colors)
