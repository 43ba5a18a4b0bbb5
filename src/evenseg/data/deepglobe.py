"""DeepGlobe road extraction: train/ID_sat.jpg and train/ID_mask.png; and the small version of it that PaddleSeg offers."""

from __future__ import annotations

from typing import Literal

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.list_file import existing_pairs, read_list
from evenseg.data.pairs import (
    FileDataset,
    FileOptions,
    checked_folder,
    data_root,
    files_by_stem,
    named_pairs,
    pair_by_stem,
    part_of,
)

ROADS = Classes(names=("background", "road"), colors=((0, 0, 0), (255, 255, 255)))


class DeepGlobeRoad(FileDataset):
    """Satellite images of 1024x1024 at 50 cm per pixel; road or not. Only the 6226 images of `train` have masks.

    So the validation images are drawn from these: the order is a fixed random one, and the last `val_share` of it are
    "val". The masks are grey values near 0 and 255, so those from 128 on are road.

    Args:
        root: the folder that holds `train`.
        split: "train", "val", or "all" of them.
        val_share: part of the images that are "val".
        options: see `FileDataset`; `threshold` is 128.

    Raises:
        FileNotFoundError: the folder train is missing.
        ValueError: unpaired files, or no files.

    Source: Demir et al., DeepGlobe 2018: a challenge to parse the Earth through satellite images, CVPR workshops 2018.
    """

    classes = ROADS

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "all"] = "train",
        val_share: float = 0.2,
        **options: Unpack[FileOptions],
    ) -> None:
        folder = checked_folder(data_root(root) / "train")
        images = files_by_stem(folder, "_sat.jpg")
        masks = files_by_stem(folder, "_mask.png")
        pairs = pair_by_stem(images, masks, str(folder), options.get("on_unpaired", "stop"))
        options.setdefault("threshold", 128)
        chosen = part_of(pairs, split, {"train": 1 - val_share, "val": val_share})
        super().__init__(chosen, folder, known=ROADS, root=folder, **options)


class MiniDeepGlobeRoadExtraction(FileDataset):
    """800 + 200 images of DeepGlobe with masks of 0 and 1, in the lists train.txt and val.txt (`image|mask`).

    Args:
        root: the folder that holds train.txt and val.txt.
        split: "train" or "val".
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: the list is missing.
        ValueError: a broken line of it (with its number), or files that do not exist.

    Source: PaddleSeg, paddleseg/datasets/mini_deep_globe_road_extraction.py (where to download it).
    """

    classes = ROADS

    def __init__(self, root: str, split: Literal["train", "val"] = "train", **options: Unpack[FileOptions]) -> None:
        base = data_root(root)
        file = base / f"{split}.txt"
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; it lists the images and masks, like images/1.jpg|masks/1.png")
        lines = read_list(file, "|")
        files = [(line, base / line.image, base / line.mask) for line in lines]
        pairs = existing_pairs(file, files, options.get("on_unpaired", "stop"))
        super().__init__(named_pairs(pairs, base), file, known=ROADS, root=base, **options)
