"""List files, as PaddleSeg and the HRNet repository use them: one pair of paths per line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from typing_extensions import Unpack

from evenseg.data.pairs import FileDataset, FileOptions, data_root, named_pairs, some

Separator = Literal["auto", " ", "|", ",", "\t"]


class ListDataset(FileDataset):
    """Reads pairs from a text file with lines like `images/a.jpg labels/a.png` or `images/a.jpg|labels/a.png`.

    Empty lines and lines that begin with # are passed over.

    Args:
        root: the data set's folder, where the paths in the list start.
        file: the list; a relative one is looked for below `root`, then in the working folder.
        separator: between image and mask; " " stands for any white space. "auto" takes "|" where the list holds one,
            else white space. Names with spaces need "|".
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: the root or the list is missing.
        ValueError: a line that is no pair (with its number), files that do not exist, or an empty list.
    """

    def __init__(
        self, root: str, file: str = "train.txt", separator: Separator = "auto", **options: Unpack[FileOptions]
    ) -> None:
        base = data_root(root)
        self.file = find_file(base, file)
        lines = read_list(self.file, separator)
        files = [(line, base / line.image, base / line.mask) for line in lines]
        pairs = existing_pairs(self.file, files, options.get("on_unpaired", "stop"))
        super().__init__(named_pairs(pairs, base), self.file, root=base, **options)


class Line(NamedTuple):
    """A line of a list with its number, from 1."""

    number: int
    image: str
    mask: str


def find_file(root: Path, file: str) -> Path:
    """Returns a list's path: below the root, else from the working folder."""
    for candidate in (root / file, Path(file)):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"the list {file} does not exist, neither in {root} nor in {Path.cwd()}")


def read_list(file: Path, separator: Separator = "auto") -> list[Line]:
    """Reads the pairs of a list; ValueError names file and number of a line that is none."""
    text = read_text(file)
    if separator == "auto":
        separator = "|" if "|" in text else " "
    lines = []
    for number, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.lstrip().startswith("#"):
            continue
        fields = content.split() if separator == " " else [field.strip() for field in content.split(separator)]
        if len(fields) != 2 or not all(fields):
            hint = "; names with spaces need the separator '|'" if separator == " " and len(fields) > 2 else ""
            raise ValueError(
                f"{file}, line {number}: expected an image and a mask with {separator!r} between them, got {len(fields)} "
                f"field{'' if len(fields) == 1 else 's'} in {shorten(content)!r}{hint}"
            )
        lines.append(Line(number, *fields))
    if not lines:
        raise ValueError(f"{file} lists no images")
    return lines


class MissingFilesError(ValueError):
    """Files that a list names and that do not exist.

    Attributes:
        files: each with its line, "line 3: PATH".
        total: number of files that the list names.
    """

    def __init__(self, list_file: Path, files: Sequence[str], total: int) -> None:
        super().__init__(f"{list_file}: {len(files)} of the {total} files do not exist: {some(files, 3)}")
        self.files, self.total = tuple(files), total


def existing_pairs(
    file: Path, pairs: list[tuple[Line, Path, Path]], on_unpaired: Literal["stop", "skip"] = "stop"
) -> list[tuple[Path, Path]]:
    """Returns the paths of a list's pairs; with "skip" those that exist.

    Raises:
        MissingFilesError: files that do not exist; with "skip" only where no pair is left.
    """
    missing = [f"line {line.number}: {path}" for line, *paths in pairs for path in paths if not path.is_file()]
    there = [(image, mask) for _, image, mask in pairs if image.is_file() and mask.is_file()] if missing else []
    if missing and (on_unpaired == "stop" or not there):
        raise MissingFilesError(file, missing, 2 * len(pairs))
    return there if missing else [(image, mask) for _, image, mask in pairs]


def read_text(file: Path) -> str:
    """Reads UTF-8 text, with or without a byte order mark."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def read_stems(file: Path) -> list[str]:
    """Reads a list of one name per line, as VOC's ImageSets are; ValueError names a line that holds more."""
    stems = []
    for number, content in enumerate(read_text(file).splitlines(), start=1):
        if not content.strip():
            continue
        if not re.fullmatch(r"\s*\S+\s*", content):
            raise ValueError(f"{file}, line {number}: expected one name, got {shorten(content)!r}")
        stems.append(content.strip())
    if not stems:
        raise ValueError(f"{file} lists no images")
    return stems


def shorten(text: str, most: int = 80) -> str:
    """Returns the beginning of a line for a message."""
    return text if len(text) <= most else text[: most - 3] + "..."
