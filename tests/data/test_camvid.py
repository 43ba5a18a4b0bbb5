import numpy as np
import pytest

from evenseg.data import CamVid

STEMS = ("0001TP_006690", "0016E5_08640")


def write(tree, split="train"):
    for number, stem in enumerate(STEMS):
        tree.image(f"{split}/{stem}.png")
        tree.mask(f"{split}annot/{stem}.png", [[0, 10, 11], [3, number, 11]])


def test_void_is_ignored_and_the_others_stay(tree):
    write(tree)
    dataset = CamVid(str(tree))
    assert len(dataset) == 2
    assert dataset.classes.names[8] == "Car"
    np.testing.assert_array_equal(dataset.read_mask(1), [[0, 10, 255], [3, 1, 255]])


def test_prefixes_of_the_lists_are_stripped(tree):
    write(tree)
    lines = [f"/SegNet/CamVid/train/{stem}.png /SegNet/CamVid/trainannot/{stem}.png" for stem in reversed(STEMS)]
    tree.text("train.txt", "\n".join(lines) + "\n")
    dataset = CamVid(str(tree))
    assert [dataset.name(0), dataset.name(1)] == list(reversed(STEMS))
    tree.text("train.txt", lines[0].replace("/SegNet/CamVid/", "") + "\n")
    assert len(CamVid(str(tree))) == 1


def test_what_is_wrong_is_named(tree):
    write(tree, "val")
    with pytest.raises(FileNotFoundError, match=r"data.train does not exist; .*data holds val, valannot"):
        CamVid(str(tree))
    tree.text("val.txt", "/SegNet/CamVid/val/a.png /SegNet/CamVid/valannot/a.png\n")
    with pytest.raises(ValueError, match=r"val\.txt: 2 of the 2 files do not exist: line 1: .*val.a\.png, line 1"):
        CamVid(str(tree), "val")
    tree.text("val.txt", "/SegNet/CamVid/val/a.png\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 1: expected an image and a mask .* got 1 field in"):
        CamVid(str(tree), "val")


def test_the_shared_copy_has_these_classes(shared_data):
    from evenseg.data.camvid import CAMVID
    from evenseg.data.classes import read_classes

    assert read_classes(shared_data / "camvid" / "classes.json") == CAMVID
