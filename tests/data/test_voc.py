import numpy as np
import pytest

from evenseg.data import PascalVOC, PascalVOCAug

LABELS = [[0, 15, 255], [20, 0, 1]]


def write(tree, folder="VOCdevkit/VOC2012"):
    for stem in ("2007_000032", "2007_000039", "2008_000002"):
        tree.image(f"{folder}/JPEGImages/{stem}.jpg")
    for stem in ("2007_000032", "2007_000039"):
        tree.mask(f"{folder}/SegmentationClass/{stem}.png", LABELS, palette=True)
    lists = f"{folder}/ImageSets/Segmentation"
    tree.text(f"{lists}/train.txt", "2007_000039\n2007_000032\n")
    tree.text(f"{lists}/val.txt", "2007_000032\n")
    tree.text(f"{lists}/aug.txt", "2008_000002\n")


def write_aug(tree):
    write(tree)
    for stem in ("2007_000032", "2008_000002"):
        tree.mask(f"VOCdevkit/VOC2012/SegmentationClassAug/{stem}.png", [[0, 3, 3], [3, 0, 0]])


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_palette_masks_are_read_as_indices(tree, below):
    write(tree)
    dataset = PascalVOC(str(tree.root / below))
    assert [dataset.name(0), dataset.name(1)] == ["2007_000039", "2007_000032"]
    np.testing.assert_array_equal(dataset.read_mask(0), LABELS)
    assert dataset.read_image(0).shape == (2, 3, 3)
    assert dataset.classes.num_classes == 21
    assert dataset.classes.names[15] == "person"
    assert dataset.classes.colors[15] == (192, 128, 128)
    assert dataset.classes.colors[20] == (0, 64, 128)
    assert len(PascalVOC(str(tree), "val")) == 1


def test_aug_joins_the_lists_and_prefers_the_masks_of_voc(tree):
    write_aug(tree)
    dataset = PascalVOCAug(str(tree))
    assert [dataset.name(index) for index in range(3)] == ["2007_000039", "2007_000032", "2008_000002"]
    np.testing.assert_array_equal(dataset.read_mask(1), LABELS)
    np.testing.assert_array_equal(dataset.read_mask(2), [[0, 3, 3], [3, 0, 0]])


def test_a_list_of_trainaug_is_taken_where_there_is_one(tree):
    write_aug(tree)
    tree.text("VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt", "2008_000002\n")
    assert len(PascalVOCAug(str(tree))) == 1
    assert len(PascalVOCAug(str(tree), "val")) == 1


def test_aug_lists_with_the_masks_of_voc_alone_say_what_to_use(tree):
    write(tree)
    with pytest.raises(ValueError, match=r"1 of the 1 images of 'aug' .*: 2008_000002; .* are read by PascalVOCAug"):
        PascalVOC(str(tree), "aug")
    with pytest.raises(FileNotFoundError, match="SegmentationClassAug does not exist"):
        PascalVOCAug(str(tree))


def test_what_is_wrong_is_named(tree):
    with pytest.raises(FileNotFoundError, match=r"holds no JPEGImages, nor do .* it holds nothing"):
        PascalVOC(str(tree))
    write(tree)
    with pytest.raises(FileNotFoundError, match=r"trian\.txt does not exist; splits in .*: aug, train, val"):
        PascalVOC(str(tree), "trian")
    tree.text("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "2007_000032\n2007_000039 1\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 2: expected one name, got '2007_000039 1'"):
        PascalVOC(str(tree), "val")
    tree.text("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "\n")
    with pytest.raises(ValueError, match=r"val\.txt lists no images"):
        PascalVOC(str(tree), "val")
