"""Synthia: RGB/... and GT/LABELS/... of the same names; the labels are 16-bit RGB PNGs with the class in red."""

from __future__ import annotations

from typing import Literal

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.cityscapes import CITYSCAPES
from evenseg.data.classes import distinct_colors
from evenseg.data.labels import LabelMap
from evenseg.data.pairs import FileDataset, FileOptions, Pair, checked_folder, data_root, files_by_stem, pair_by_stem, part_of

SYNTHIA = Classes(
    names=(
        "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car", "traffic sign",
        "pedestrian", "bicycle", "lanemarking", "reserved 13", "reserved 14", "traffic light",
    ),
    colors=distinct_colors(16),
)  # fmt: skip

# label -> trainId of Cityscapes; every other label is ignored
RAND_TRAIN_IDS: LabelMap = {
    3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16,
    12: 17, 11: 18, "*": "ignore",
}  # fmt: skip


class SynthiaSeqs(FileDataset):
    """A video sequence of Synthia, 16 classes as stored, void (0) among them; `label_map: {0: ignore}` leaves it out.

    There is no official split: of every camera's frames, in a fixed random order, 70 % are "train", 10 % "val" and 20 %
    "test". Frames of one drive look alike, so the scores of such a split are optimistic.

    Args:
        root: a folder like SYNTHIA-SEQS-05-SUMMER, which holds `RGB` and `GT/LABELS`.
        split: "train", "val", "test", or "all" of them.
        options: see `FileDataset`; `mask_channel` is 0.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: unpaired files, or no files.

    Source: Ros et al., The SYNTHIA dataset, CVPR 2016; the split as in Tian et al., recall loss, ICRA 2022.
    """

    classes = SYNTHIA

    def __init__(
        self, root: str, split: Literal["train", "val", "test", "all"] = "train", **options: Unpack[FileOptions]
    ) -> None:
        pairs, where = _pairs(root, options)
        cameras: dict[str, list[Pair]] = {}
        for pair in pairs:
            cameras.setdefault(str(pair.image.parent), []).append(pair)
        shares = {"train": 0.7, "val": 0.1, "test": 0.2}
        chosen = [pair for camera in cameras.values() for pair in part_of(camera, split, shares)]
        options.setdefault("mask_channel", 0)
        super().__init__(chosen, where, known=SYNTHIA, **options)


class SynthiaRand(FileDataset):
    """SYNTHIA-RAND-CITYSCAPES: 9400 single images, the 19 classes of Cityscapes, three of which hardly occur.

    Published scores are means over 16 or 13 of the classes. There is no official split: in a fixed random order the last
    `val_share` are "val".

    Args:
        root: RAND_CITYSCAPES, the folder that holds `RGB` and `GT/LABELS`.
        split: "train", "val", or "all" of them.
        val_share: part of the images that are "val".
        options: see `FileDataset`; `mask_channel` is 0, `label_map` applies to the 19 classes.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: unpaired files, or no files.

    Source: Ros et al., The SYNTHIA dataset, CVPR 2016.
    """

    classes = CITYSCAPES

    def __init__(
        self,
        root: str,
        split: Literal["train", "val", "all"] = "train",
        val_share: float = 0.1,
        **options: Unpack[FileOptions],
    ) -> None:
        pairs, where = _pairs(root, options)
        chosen = part_of(pairs, split, {"train": 1 - val_share, "val": val_share})
        options.setdefault("mask_channel", 0)
        super().__init__(chosen, where, known=CITYSCAPES, fixed_map=RAND_TRAIN_IDS, **options)


def _pairs(root: str, options: FileOptions) -> tuple[list[Pair], str]:
    base = data_root(root)
    image_folder, mask_folder = checked_folder(base / "RGB"), checked_folder(base / "GT" / "LABELS")
    images = files_by_stem(image_folder, ".png", recursive=True)
    masks = files_by_stem(mask_folder, ".png", recursive=True)
    where = f"{image_folder} and {mask_folder}"
    return pair_by_stem(images, masks, where, options.get("on_unpaired", "stop")), str(mask_folder)
