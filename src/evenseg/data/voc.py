"""PASCAL VOC 2012: JPEGImages/NAME.jpg, SegmentationClass/NAME.png (palette PNGs, read as indices), ImageSets/."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Unpack

from evenseg.data.base import Classes
from evenseg.data.classes import distinct_colors
from evenseg.data.list_file import read_stems
from evenseg.data.pairs import FileDataset, FileOptions, Pair, checked_folder, data_root, some

VOC = Classes(
    names=(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    colors=distinct_colors(21),
)  # fmt: skip


class PascalVOC(FileDataset):
    """Photographs, 20 kinds of objects and background; the border of objects is 255 and ignored.

    Args:
        root: VOCdevkit/VOC2012, or the folder above it, or the one above that.
        split: name of a list in ImageSets/Segmentation: "train" (1464 images), "val" (1449) or "trainval" (2913).
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: a folder or the list is missing.
        ValueError: a broken line of the list, or files that do not exist.

    Source: Everingham et al., The PASCAL visual object classes challenge: a retrospective, IJCV 2015.
    """

    classes = VOC

    def __init__(self, root: str, split: str = "train", **options: Unpack[FileOptions]) -> None:
        base = _voc_root(root)
        stems = read_stems(_image_set(base, split))
        folders = [checked_folder(base / "SegmentationClass")]
        super().__init__(_pairs(base, split, stems, folders), folders[0], known=VOC, root=base, **options)


class PascalVOCAug(FileDataset):
    """PASCAL VOC with the masks of the Semantic Boundaries Dataset added: 10582 images in "trainaug".

    The masks lie in SegmentationClassAug as index PNGs. Where VOC has a mask of its own for an image, that one is read,
    as PaddleSeg and MMSegmentation do: it is the finer one.

    Args:
        root: VOCdevkit/VOC2012, or the folder above it, or the one above that.
        split: "trainaug" (the list trainaug.txt, or train.txt and aug.txt together), "aug", "train", "val" or "trainval".
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: a folder or the list is missing.
        ValueError: a broken line of the list, or files that do not exist.

    Source: Hariharan et al., Semantic contours from inverse detectors, ICCV 2011.
    """

    classes = VOC

    def __init__(self, root: str, split: str = "trainaug", **options: Unpack[FileOptions]) -> None:
        base = _voc_root(root)
        lists = base / "ImageSets" / "Segmentation"
        if split == "trainaug" and not (lists / "trainaug.txt").is_file():
            parts = [read_stems(_image_set(base, part)) for part in ("train", "aug")]
            stems = list(dict.fromkeys(stem for part in parts for stem in part))
        else:
            stems = read_stems(_image_set(base, split))
        folders = [folder for folder in [base / "SegmentationClass"] if folder.is_dir()]
        folders.append(checked_folder(base / "SegmentationClassAug"))
        super().__init__(_pairs(base, split, stems, folders), folders[-1], known=VOC, root=base, **options)


def _voc_root(root: str) -> Path:
    base = data_root(root)
    for folder in (base, base / "VOC2012", base / "VOCdevkit" / "VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    held = sorted(entry.name for entry in base.iterdir())
    raise FileNotFoundError(
        f"{root} holds no JPEGImages, nor do VOC2012 or VOCdevkit/VOC2012 below it; it holds {some(held, 8) or 'nothing'}"
    )


def _image_set(base: Path, split: str) -> Path:
    folder = checked_folder(base / "ImageSets" / "Segmentation")
    file = folder / f"{split}.txt"
    if not file.is_file():
        held = sorted(entry.stem for entry in folder.glob("*.txt"))
        raise FileNotFoundError(f"{file} does not exist; splits in {folder}: {', '.join(held) or 'none'}")
    return file


def _pairs(base: Path, split: str, stems: list[str], folders: list[Path]) -> list[Pair]:
    pairs, missing = [], []
    for stem in stems:
        image = base / "JPEGImages" / f"{stem}.jpg"
        candidates = [folder / f"{stem}.png" for folder in folders]
        mask = next((file for file in candidates if file.is_file()), None)
        if mask is None or not image.is_file():
            missing.append(stem)
        else:
            pairs.append(Pair(stem, image, mask))
    if missing:
        hint = "; masks in SegmentationClassAug are read by PascalVOCAug" if len(folders) == 1 and "aug" in split else ""
        raise ValueError(
            f"{base}: {len(missing)} of the {len(stems)} images of {split!r} have no file in JPEGImages or no mask in "
            f"{' or '.join(folder.name for folder in folders)}: {some(missing)}{hint}"
        )
    return pairs
