"""Folders of images and masks: images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png and classes.json, or any names like these."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Unpack

from evenseg.data.images import MASK_SUFFIXES
from evenseg.data.pairs import FileDataset, FileOptions, checked_folder, data_root, files_by_stem, pair_by_stem, with_weights


class FolderDataset(FileDataset):
    """Pairs images and masks by their names without suffix; masks are read as indices, a palette is never applied.

    `classes.json` in the root, where there is one, holds {"classes": [{"id", "name", "color"}, ...],
    "ignore_index": 255}.

    Args:
        root: the data set's folder; a relative one starts at the working folder.
        split: name of the folder below `images` and `masks`, or what stands in place of "{split}" in them.
        images: folder of the images, like "images" (then images/SPLIT) or "{split}/images".
        masks: folder of the masks; may be that of the images when the suffixes differ.
        image_suffix: end of the images' names, like "_sat.jpg" or "_sat"; by default any image.
        mask_suffix: end of the masks' names, like "_mask.png"; by default any lossless image.
        recursive: look through the folders below these, too.
        weights: folder of grey images with the weights of the pixels, named as the masks are (0..255 means 0..1; .npy arrays of
            floats as they are); for training, every image needs one.
        weight_suffix: end of their names, like "_conf.png".
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: unpaired files, no files, or classes that are not known.
    """

    def __init__(
        self,
        root: str,
        split: str = "train",
        images: str = "images",
        masks: str = "masks",
        image_suffix: str | None = None,
        mask_suffix: str | None = None,
        recursive: bool = False,
        weights: str | None = None,
        weight_suffix: str | None = None,
        **options: Unpack[FileOptions],
    ) -> None:
        base = data_root(root)
        self.image_folder = checked_folder(_of_split(base, images, split))
        self.mask_folder = checked_folder(_of_split(base, masks, split))
        found = files_by_stem(self.image_folder, image_suffix, recursive=recursive)
        if not found:
            raise ValueError(f"{self.image_folder} holds no images" + (f" named *{image_suffix}" if image_suffix else ""))
        labels = files_by_stem(self.mask_folder, mask_suffix, MASK_SUFFIXES, recursive=recursive)
        pairs = pair_by_stem(
            found, labels, f"{self.image_folder} and {self.mask_folder}", options.get("on_unpaired", "stop")
        )
        if weights is not None:
            folder = checked_folder(_of_split(base, weights, split))
            pairs = with_weights(pairs, found, files_by_stem(folder, weight_suffix, recursive=recursive), folder)
        elif weight_suffix is not None:
            raise ValueError(f"weight_suffix {weight_suffix!r} needs weights, the folder of these files")
        super().__init__(pairs, self.mask_folder, root=base, **options)


def _of_split(root: Path, folder: str, split: str) -> Path:
    return root / folder.replace("{split}", split) if "{split}" in folder else root / folder / split
