"""Cityscapes: leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png."""

from __future__ import annotations

from typing import Literal

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.labels import LabelMap
from evenseg.data.pairs import FileDataset, FileOptions, checked_folder, data_root, files_by_stem, pair_by_stem, some

CITYSCAPES = Classes(
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip

# labelId -> trainId; every other label, the licence plates' -1 (stored as 255) among them, is ignored
TRAIN_IDS: LabelMap = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18, "*": "ignore",
}  # fmt: skip


class Cityscapes(FileDataset):
    """Street scenes, 19 classes, 2975 + 500 images of 2048x1024; the labelIds are remapped while they are read.

    Where a split holds labelTrainIds files only, these are read as they are. The files are paired by name.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val", or "train_extra" (of gtCoarse); the masks of "test" are dummies.
        annotations: "gtFine" or "gtCoarse".
        options: see `FileDataset`; `label_map` applies to the 19 classes.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: unpaired files, no files, or the split "test".

    Source: Cordts et al., The Cityscapes dataset for semantic urban scene understanding, CVPR 2016.
    """

    classes = CITYSCAPES

    def __init__(
        self,
        root: str,
        split: str = "train",
        annotations: Literal["gtFine", "gtCoarse"] = "gtFine",
        **options: Unpack[FileOptions],
    ) -> None:
        base = data_root(root)
        if split == "test":
            raise ValueError("the masks of Cityscapes' test split are dummies (everything ignored); use train or val")
        image_folder = checked_folder(base / "leftImg8bit" / split)
        mask_folder = checked_folder(base / annotations / split)
        images = files_by_stem(image_folder, "_leftImg8bit.png", recursive=True)
        if not images:
            held = [entry.name for entry in sorted(image_folder.iterdir())]
            raise ValueError(
                f"{image_folder} holds no CITY/NAME_leftImg8bit.png; it holds {some(held) or 'nothing'}"
            )
        masks = files_by_stem(mask_folder, f"_{annotations}_labelIds.png", recursive=True)
        train_ids = {} if masks else files_by_stem(mask_folder, f"_{annotations}_labelTrainIds.png", recursive=True)
        pairs = pair_by_stem(
            images, masks or train_ids, f"{image_folder} and {mask_folder}", options.get("on_unpaired", "stop")
        )
        # the city is part of the name already
        pairs = [pair._replace(name=pair.image.name.removesuffix("_leftImg8bit.png")) for pair in pairs]
        super().__init__(
            pairs, mask_folder, known=CITYSCAPES, fixed_map=TRAIN_IDS if masks else None, root=base, **options
        )
