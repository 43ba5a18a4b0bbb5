"""Data sets of image and mask files: finding the pairs, and reading them with the options that all layouts share."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from evenseg._paths import IMAGE_SUFFIXES
from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.classes import ClassesOption, checked_classes, make_classes, read_classes
from evenseg.data.images import read_image, read_weights
from evenseg.data.labels import LabelMap, MaskReader, Palette


class Pair(NamedTuple):
    """An image, its mask and maybe its pixel weights; `name` is unique in the data set and fit for a file name."""

    name: str
    image: Path
    mask: Path
    weight: Path | None = None


class FileOptions(TypedDict, total=False):
    """Keywords of every data set of files; see `FileDataset`."""

    classes: ClassesOption | None
    ignore_index: int | None
    label_map: LabelMap | None
    reduce_zero_label: bool
    palette: Palette | None
    threshold: int | None
    mask_channel: int | None
    channels: int
    on_unpaired: Literal["stop", "skip"]


class UnpairedFilesError(ValueError):
    """Images without masks, or masks without images.

    Attributes:
        images, masks: the stems without a partner -> file.
    """

    def __init__(self, message: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
        super().__init__(message)
        self.images, self.masks = dict(images), dict(masks)


class FileDataset(SegmentationDataset):
    """Pairs of files under the options that every layout takes.

    Args:
        pairs: in order.
        where: the place to name in messages about the masks.
        known: the classes that the layout implies, if any.
        fixed_map: a label map that belongs to the layout; the user's applies to its result.
        root: where the path of a classes.json starts.
        classes: number, names, name -> [r, g, b], or a classes.json: see `evenseg.data.classes.make_classes`; by default
            what the layout implies, or the classes.json in the root.
        ignore_index: label of pixels to leave out; 255 by default.
        label_map, reduce_zero_label, palette, threshold, mask_channel: see `evenseg.data.labels.MaskReader`.
        channels: of the images.
        on_unpaired: "stop" at files without a partner and at files that a list names and that do not exist, or "skip" them.

    Raises:
        ValueError: no pairs, or options that cannot be used.
    """

    option_defaults: ClassVar[FileOptions] = {"reduce_zero_label": False, "channels": 3, "on_unpaired": "stop"}

    def __init__(
        self,
        pairs: Sequence[Pair],
        where: Path | str,
        *,
        known: Classes | None = None,
        fixed_map: Mapping[Any, Any] | None = None,
        root: Path | None = None,
        **options: Unpack[FileOptions],
    ) -> None:
        if not pairs:
            raise ValueError(f"{where} names no images, so there is nothing to read")
        options = {**self.option_defaults, **options}
        classes = _choose_classes(options.get("classes"), options.get("ignore_index"), known, root, where)
        self.classes = classes
        self.channels = options["channels"]
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        self.pairs = tuple(pairs)
        self.has_weights = any(pair.weight is not None for pair in pairs)
        self._where = str(where)
        self.mask_reader = MaskReader(
            classes,
            label_map=options.get("label_map"),
            reduce_zero_label=options["reduce_zero_label"],
            palette=options.get("palette"),
            threshold=options.get("threshold"),
            mask_channel=options.get("mask_channel"),
            fixed_map=fixed_map,
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs[index].name

    def read_image(self, index: int) -> NDArray[Any]:
        return read_image(self.pairs[index].image, self.channels)

    def read_mask(self, index: int) -> NDArray[Any]:
        return self.mask_reader.read(self.pairs[index].mask)

    def read_weight(self, index: int) -> NDArray[np.float32]:
        file = self.pairs[index].weight
        assert file is not None
        return read_weights(file)

    def read_stored_mask(self, index: int) -> NDArray[Any]:
        return self.mask_reader.read_stored(self.pairs[index].mask)

    def relabel(self, labels: NDArray[Any]) -> NDArray[Any]:
        return self.mask_reader.relabel(labels)

    def label_map_with(self, changes: Mapping[Any, Any]) -> dict[Any, Any]:
        return self.mask_reader.label_map_with(changes)

    def files(self, index: int) -> tuple[Path, Path]:
        return self.pairs[index].image, self.pairs[index].mask

    @property
    def reads_indices(self) -> bool:
        return self.mask_reader.reads_indices

    def maps(self, value: int) -> bool:
        return self.mask_reader.maps(value)

    def image_size(self, index: int) -> tuple[int, int]:
        # decoded in full, once a run: a damaged image must be found before training, not in its middle
        height, width = self.read_image(index).shape[:2]
        return height, width

    @property
    def where(self) -> str:
        return self._where

    @property
    def reading_rules(self) -> Hashable:
        return self.classes, self.channels, self.mask_reader.key

    @property
    def cache_key(self) -> Hashable:
        files = tuple((str(file.resolve()), _stamp(file)) for pair in self.pairs for file in (pair.image, pair.mask))
        return self.reading_rules, files


def _choose_classes(
    option: ClassesOption | None, ignore_index: int | None, known: Classes | None, root: Path | None, where: Path | str
) -> Classes:
    if option is not None:
        classes = make_classes(option, 255 if ignore_index is None else ignore_index, root)
    elif known is not None:
        classes = known
    elif root is not None and (root / "classes.json").is_file():
        classes = read_classes(root / "classes.json")
    else:
        raise ValueError(
            f"{where}: the classes are not known: there is no {root}/classes.json; write one, or set `classes` to their "
            "names, like [background, road]"
        )
    if ignore_index is None:
        return classes
    return checked_classes(classes.names, classes.colors, ignore_index)


def checked_folder(folder: Path, what: str = "folder") -> Path:
    """Returns an existing folder, or raises FileNotFoundError that says what its parent holds."""
    if folder.is_dir():
        return folder
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the {what} {folder} does not exist (looked in {Path.cwd()})")
    have = sorted(entry.name for entry in folder.parent.iterdir())
    raise FileNotFoundError(f"the {what} {folder} does not exist; {folder.parent} holds {some(have, 8) or 'nothing'}")


def data_root(root: str) -> Path:
    """Returns the root of a data set; a relative one starts at the working folder."""
    if not Path(root).is_dir():
        raise FileNotFoundError(f"the data set folder {root} does not exist (looked in {Path.cwd()})")
    return Path(root)


def files_by_stem(
    folder: Path, suffix: str | None = None, suffixes: Iterable[str] = IMAGE_SUFFIXES, *, recursive: bool = False
) -> dict[str, Path]:
    """Returns what is left of each file's name (below `folder`) without its suffix -> file.

    Args:
        folder: to look through.
        suffix: end of the names, like "_mask.png"; without an extension, like "_mask", of any of `suffixes`.
        suffixes: extensions to take, in lower case, where `suffix` names none.
        recursive: look through the folders below, too; their names are part of the stem.

    Raises:
        ValueError: two files of one stem.
    """
    suffix = suffix or ""
    any_extension = not Path(f"x{suffix}").suffix
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if file.name.startswith(".") or (any_extension and file.suffix.lower() not in suffixes):
            continue
        relative = file.relative_to(folder).as_posix()
        stem = relative[: -len(file.suffix)] if any_extension else relative
        if not stem.endswith(suffix) or not file.is_file():
            continue
        stem = stem[: len(stem) - len(suffix)]
        if stem in found:
            raise ValueError(f"{folder}: {found[stem].name} and {file.name} share a name, so pairs are unclear")
        found[stem] = file
    return found


def pair_by_stem(
    images: Mapping[str, Path], masks: Mapping[str, Path], where: str, on_unpaired: Literal["stop", "skip"] = "stop"
) -> list[Pair]:
    """Pairs files of one stem, in the order of their stems.

    Raises:
        UnpairedFilesError: files that have no partner, unless `on_unpaired` is "skip" and there are pairs, too.
    """
    lonely_images = {stem: images[stem] for stem in sorted(images.keys() - masks.keys())}
    lonely_masks = {stem: masks[stem] for stem in sorted(masks.keys() - images.keys())}
    problems = []
    if lonely_images:
        problems.append(f"{len(lonely_images)} images have no mask ({some([f.name for f in lonely_images.values()])})")
    if lonely_masks:
        problems.append(f"{len(lonely_masks)} masks have no image ({some([f.name for f in lonely_masks.values()])})")
    # "skip" must leave something
    if problems and (on_unpaired == "stop" or not images.keys() & masks.keys()):
        message = f"{where}: {'; '.join(problems)}; pairs share their name"
        raise UnpairedFilesError(message, lonely_images, lonely_masks)
    if not images:
        raise ValueError(f"{where}: no images with masks")
    return [Pair(stem.replace("/", "_"), images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]


def with_weights(
    pairs: Sequence[Pair], images: Mapping[str, Path], weights: Mapping[str, Path], where: Path
) -> list[Pair]:
    """Returns the pairs with their files of weights.

    Args:
        pairs: without weights.
        images: stem -> file.
        weights: stem -> file.
        where: the folder of the weights.

    Raises:
        ValueError: images without weights.
    """
    by_image = {images[stem]: file for stem, file in weights.items() if stem in images}
    lonely = [pair.image.name for pair in pairs if pair.image not in by_image]
    if lonely:
        raise ValueError(f"{where}: {len(lonely)} images have no weights ({some(lonely)}); files share their name")
    return [pair._replace(weight=by_image[pair.image]) for pair in pairs]


def part_of(pairs: Sequence[Pair], split: str, shares: Mapping[str, float]) -> list[Pair]:
    """Returns a part of pairs that have no official split, in their order; the split "all" is all of them.

    Which part a pair belongs to is a function of the pairs alone: the shares are taken one after the other from a random
    order of theirs that is always the same.

    Raises:
        ValueError: shares outside 0..1, or a split that gets no pair.
    """
    if split == "all":
        return list(pairs)
    if min(shares.values()) < 0 or max(shares.values()) > 1:
        raise ValueError(f"shares of the splits must be in 0..1, got {dict(shares)}")
    bounds = np.rint(np.cumsum([0.0, *shares.values()]) * len(pairs)).astype(int)
    place = list(shares).index(split)
    chosen = np.random.default_rng(0).permutation(len(pairs))[bounds[place] : bounds[place + 1]]
    if not len(chosen):
        raise ValueError(f"the split {split!r} gets none of the {len(pairs)} images (share {shares[split]:g})")
    return [pairs[index] for index in sorted(chosen)]


def named_pairs(files: Sequence[tuple[Path, Path]], root: Path) -> list[Pair]:
    """Gives pairs unique names: the image's stem, with the folders below `root` where stems repeat, and a number last."""
    names = [image.stem for image, _ in files]
    if len(set(names)) < len(names):
        names = ["_".join(_below(image, root).with_suffix("").parts) for image, _ in files]
    seen: dict[str, int] = {}
    pairs = []
    for name, (image, mask) in zip(names, files, strict=True):
        seen[name] = seen.get(name, 0) + 1
        pairs.append(Pair(name if seen[name] == 1 else f"{name}-{seen[name]}", image, mask))
    return pairs


def some(names: Sequence[str], most: int = 5) -> str:
    """Returns the first few names for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _below(file: Path, root: Path) -> Path:
    return file.relative_to(root) if file.is_relative_to(root) else Path(file.name)


def _stamp(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # found when it is read
        return None

