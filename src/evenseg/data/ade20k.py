"""ADE20K as in the scene parsing challenge: images/training/NAME.jpg and annotations/training/NAME.png; validation too."""

from __future__ import annotations

from typing import Literal

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.classes import distinct_colors
from evenseg.data.pairs import FileDataset, FileOptions, checked_folder, data_root, files_by_stem, pair_by_stem

ADE20K_CLASSES = Classes(
    names=(
        "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
        "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
        "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
        "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
        "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
        "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
        "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
        "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light",
        "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane",
        "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster",
        "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool",
        "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
        "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
        "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
        "bulletin board", "shower", "radiator", "glass", "clock", "flag",
    ),
    colors=distinct_colors(151)[1:],
)  # fmt: skip

_FOLDERS = {"train": "training", "val": "validation"}


class ADE20K(FileDataset):
    """Scenes, 150 classes, 20210 + 2000 images; the files hold 1..150 and 0 for the rest, which is ignored.

    Args:
        root: ADEChallengeData2016, the folder that holds `images` and `annotations`, or the one above it.
        split: "train" (the folder training) or "val" (validation).
        options: see `FileDataset`; `reduce_zero_label` is on, `label_map` applies to the 150 classes.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: unpaired files, or no files.

    Source: Zhou et al., Scene parsing through ADE20K dataset, CVPR 2017.
    """

    classes = ADE20K_CLASSES

    def __init__(self, root: str, split: Literal["train", "val"] = "train", **options: Unpack[FileOptions]) -> None:
        base = data_root(root)
        if (base / "ADEChallengeData2016").is_dir():
            base = base / "ADEChallengeData2016"
        image_folder = checked_folder(base / "images" / _FOLDERS[split])
        mask_folder = checked_folder(base / "annotations" / _FOLDERS[split])
        pairs = pair_by_stem(
            files_by_stem(image_folder, ".jpg"),
            files_by_stem(mask_folder, ".png"),
            f"{image_folder} and {mask_folder}",
            options.get("on_unpaired", "stop"),
        )
        options.setdefault("reduce_zero_label", True)
        super().__init__(pairs, mask_folder, known=ADE20K_CLASSES, root=base, **options)
