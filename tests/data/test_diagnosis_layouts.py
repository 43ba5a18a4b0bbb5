"""The label doctor on every layout: healthy trees have no error, and its lines cure what is wrong under the layout's own map."""

import numpy as np
import pytest
import yaml

from evenseg.data import (
    ADE20K,
    CamVid,
    Cityscapes,
    CSVDataset,
    DeepGlobeRoad,
    FolderDataset,
    ListDataset,
    MiniDeepGlobeRoadExtraction,
    PascalVOC,
    PascalVOCAug,
    SynthiaRand,
    SynthiaSeqs,
    UnpairedFilesError,
)
from evenseg.data.class_statistics import split_statistics
from evenseg.data.diagnosis import diagnose, scan, unpaired_files

VOC = "VOCdevkit/VOC2012"
PAIRS = ("1", "2", "3")


def regions(*labels):
    """Blocks of 4 x 4 pixels, one of each label."""
    return np.repeat(np.repeat([labels], 4, 0), 4, 1)


# layout -> (files of image and mask of one pair, keywords, stored labels of a healthy mask)
LAYOUTS = {
    FolderDataset: ("images/train/{}.jpg", "masks/train/{}.png", {"classes": 2}, (0, 1, 255)),
    ListDataset: ("a/{}.jpg", "b/{}.png", {"classes": 2}, (0, 1, 255)),
    CSVDataset: ("a/{}.jpg", "b/{}.png", {"classes": 2}, (0, 1, 255)),
    Cityscapes: (
        "leftImg8bit/train/ulm/ulm_{}_leftImg8bit.png", "gtFine/train/ulm/ulm_{}_gtFine_labelIds.png",
        {}, (1, 7, 33, 255)),
    PascalVOC: (VOC + "/JPEGImages/{}.jpg", VOC + "/SegmentationClass/{}.png", {}, (0, 15, 255, 20)),
    PascalVOCAug: (VOC + "/JPEGImages/{}.jpg", VOC + "/SegmentationClassAug/{}.png", {}, (0, 15, 20)),
    ADE20K: ("images/training/{}.jpg", "annotations/training/{}.png", {}, (0, 1, 150)),
    DeepGlobeRoad: ("train/{}_sat.jpg", "train/{}_mask.png", {"split": "all"}, (0, 255)),
    MiniDeepGlobeRoadExtraction: ("a/{}.jpg", "b/{}.png", {}, (0, 1)),
    CamVid: ("train/{}.png", "trainannot/{}.png", {}, (0, 10, 11)),
    SynthiaSeqs: ("RGB/Stereo_Left/Omni_F/{}.png", "GT/LABELS/Stereo_Left/Omni_F/{}.png", {"split": "all"}, (0, 8, 15)),
    SynthiaRand: ("RGB/{}.png", "GT/LABELS/{}.png", {"split": "all"}, (0, 3, 12)),
}  # fmt: skip
BY_STEM = (FolderDataset, Cityscapes, ADE20K, DeepGlobeRoad, CamVid, SynthiaSeqs, SynthiaRand)


def write(tree, layout, more=()):
    """Writes three pairs; `more` are labels beside the healthy ones."""
    image, mask, keywords, healthy = LAYOUTS[layout]
    labels = regions(*healthy, *more)
    for number, name in enumerate(PAIRS):
        tree.image(image.format(name), size=labels.shape, value=60 + 40 * number)
        if layout in (SynthiaSeqs, SynthiaRand):
            tree.wide_png(mask.format(name), np.stack([labels, labels * 0 + number, labels * 0], -1))
        else:
            tree.mask(mask.format(name), labels, palette=layout is PascalVOC)
    rows = [(image.format(name), mask.format(name)) for name in PAIRS]
    separator = "|" if layout is MiniDeepGlobeRoadExtraction else " "
    tree.text("train.txt", "".join(f"{a}{separator}{b}\n" for a, b in rows))
    tree.text("data.csv", "image,mask\n" + "".join(f"{a},{b}\n" for a, b in rows))
    for name in ("train", "aug", "trainaug"):
        tree.text(f"{VOC}/ImageSets/Segmentation/{name}.txt", "\n".join(PAIRS))
    if layout is CamVid:
        (tree.root / "train.txt").unlink()
    return {"root": str(tree)} | keywords


def errors(layout, **keywords):
    return [finding for finding in diagnose([scan(layout(**keywords), "train_dataset")]) if finding.severity == "error"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_healthy_tree_has_no_error(tree, layout):
    assert errors(layout, **write(tree, layout)) == []


# classes that the healthy labels mean; every mask has one block of 16 pixels of each
HEALTHY_CLASSES = {
    FolderDataset: (0, 1), ListDataset: (0, 1), CSVDataset: (0, 1), Cityscapes: (0, 18), PascalVOC: (0, 15, 20),
    PascalVOCAug: (0, 15, 20), ADE20K: (0, 149), DeepGlobeRoad: (0, 1), MiniDeepGlobeRoadExtraction: (0, 1), CamVid: (0, 10),
    SynthiaSeqs: (0, 8, 15), SynthiaRand: (0, 17),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_count_classes_not_stored_labels(tree, layout):
    data = layout(**write(tree, layout))
    found = split_statistics(scan(data, "train_dataset", thorough=False, objects=True))
    assert {label: entry.pixels for label, entry in enumerate(found.classes) if entry.pixels} == dict.fromkeys(
        HEALTHY_CLASSES[layout], 16 * len(PAIRS)
    )
    for label in HEALTHY_CLASSES[layout]:
        assert found.areas[label].tolist() == [16] * len(PAIRS)


@pytest.mark.parametrize(
    ("layout", "label"),
    [(FolderDataset, 9), (ListDataset, 9), (CSVDataset, 9), (PascalVOC, 40), (PascalVOCAug, 40), (ADE20K, 200),
     (CamVid, 40), (MiniDeepGlobeRoadExtraction, 9), (SynthiaSeqs, 300)],
)  # fmt: skip
def test_a_label_beyond_the_classes_is_cured_by_its_line(tree, layout, label):
    keywords = write(tree, layout, [label])
    (finding,) = errors(layout, **keywords)
    assert finding.code in ("outside", "gaps")
    assert str(label) in finding.message
    assert errors(layout, **keywords, **yaml.safe_load(finding.line)) == []


@pytest.mark.parametrize("layout", [Cityscapes, SynthiaRand])
def test_ids_that_the_layout_ignores_are_no_error(tree, layout):
    assert errors(layout, **write(tree, layout, [34])) == []


@pytest.mark.parametrize("layout", BY_STEM)
def test_a_missing_mask_is_cured_by_its_line(tree, layout):
    keywords = write(tree, layout)
    masks = [tree.root / LAYOUTS[layout][1].format(name) for name in PAIRS]
    masks[1].unlink()
    with pytest.raises(UnpairedFilesError) as caught:
        layout(**keywords)
    finding = unpaired_files("train_dataset", caught.value)
    assert (finding.line, len(finding.files)) == ("on_unpaired: skip", 1)
    dataset = layout(**keywords, **yaml.safe_load(finding.line))
    assert len(dataset) == 2
    assert errors(layout, **keywords, on_unpaired="skip") == []


@pytest.mark.parametrize("layout", BY_STEM)
def test_skipping_must_leave_a_pair(tree, layout):
    keywords = write(tree, layout)
    for name in PAIRS:
        mask = tree.root / LAYOUTS[layout][1].format(name)
        mask.rename(mask.with_name("x" + mask.name))
    with pytest.raises(UnpairedFilesError, match=r"3 images have no mask .*; 3 masks have no image"):
        layout(**keywords, on_unpaired="skip")
