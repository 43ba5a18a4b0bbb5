import numpy as np
import pytest

from evenseg.data import ADE20K, check_data


def write(tree, folder="ADEChallengeData2016"):
    tree.image(f"{folder}/images/training/ADE_train_00000001.jpg")
    tree.mask(f"{folder}/annotations/training/ADE_train_00000001.png", [[0, 1, 150], [13, 21, 0]])
    tree.image(f"{folder}/images/validation/ADE_val_00000001.jpg")
    tree.mask(f"{folder}/annotations/validation/ADE_val_00000001.png", [[0, 1, 150], [13, 21, 0]])


@pytest.mark.parametrize("below", ["", "ADEChallengeData2016"])
def test_labels_are_one_less_and_zero_is_ignored(tree, below):
    write(tree)
    dataset = ADE20K(str(tree.root / below), "val")
    np.testing.assert_array_equal(dataset.read_mask(0), [[255, 0, 149], [12, 20, 255]])
    assert dataset.classes.num_classes == 150
    assert [dataset.classes.names[index] for index in (0, 12, 20, 127, 149)] == ["wall", "person", "car", "bicycle", "flag"]
    assert len(set(dataset.classes.names)) == len(set(dataset.classes.colors)) == 150
    assert check_data(ADE20K(str(tree))).counts[255] == 2


def test_a_subset_of_the_classes(tree):
    write(tree)
    dataset = ADE20K(str(tree), classes=["rest", "person"], label_map={12: 1, 255: "ignore", "*": 0})
    np.testing.assert_array_equal(dataset.read_mask(0), [[255, 0, 0], [1, 0, 255]])


def test_what_is_missing_is_named(tree):
    with pytest.raises(FileNotFoundError, match=r"images.training does not exist"):
        ADE20K(str(tree))
    write(tree)
    tree.image("ADEChallengeData2016/images/training/ADE_train_00000002.jpg")
    with pytest.raises(ValueError, match=r"1 images have no mask \(ADE_train_00000002\.jpg\)"):
        ADE20K(str(tree))
