import numpy as np
import pytest

from evenseg.config import check_keywords
from evenseg.data import Cityscapes, check_data

STEMS = ["aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "zurich/zurich_000000_000019"]


def write(tree, split="train", stems=STEMS, kind="gtFine"):
    for number, stem in enumerate(stems):
        tree.image(f"leftImg8bit/{split}/{stem}_leftImg8bit.png", value=10 + number)
        annotation = f"{kind}/{split}/{stem}_{kind}"
        # ego vehicle, road, licence plate (-1 as a byte); parking, bicycle, the picture's own number
        tree.mask(f"{annotation}_labelIds.png", [[1, 7, 255], [9, 33, [8, 11, 26][number]]])
        tree.mask(f"{annotation}_instanceIds.png", [[1, 7, 0], [9, 33001, 2]], dtype=np.uint16)
        tree.image(f"{annotation}_color.png")
        tree.text(f"{annotation}_polygons.json", "{}")


def test_label_ids_become_train_ids(tree):
    write(tree)
    dataset = Cityscapes(str(tree))
    assert len(dataset) == 3
    assert dataset.classes.num_classes == 19
    assert dataset.classes.names[13] == "car"
    assert dataset.classes.colors[18] == (119, 11, 32)
    np.testing.assert_array_equal(dataset.read_mask(0), [[255, 0, 255], [255, 18, 1]])
    assert dataset.read_mask(0).dtype == np.uint8
    np.testing.assert_array_equal(dataset.read_stored_mask(0), [[1, 7, 255], [9, 33, 8]])
    assert check_data(dataset).counts[0] == 3


def test_every_id_of_the_table(tree):
    train_ids = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
                 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    write(tree, stems=STEMS[:1])
    tree.image(f"leftImg8bit/train/{STEMS[0]}_leftImg8bit.png", size=(16, 16))
    tree.mask(f"gtFine/train/{STEMS[0]}_gtFine_labelIds.png", np.arange(256).reshape(16, 16))
    expected = [train_ids.get(value, 255) for value in range(256)]
    np.testing.assert_array_equal(Cityscapes(str(tree)).read_mask(0).ravel(), expected)


def test_pairs_are_made_by_name_not_by_order(tree):
    write(tree)
    dataset = Cityscapes(str(tree))
    assert [dataset.name(index) for index in range(3)] == [stem.split("/")[1] for stem in STEMS]
    for index in range(3):
        assert dataset.read_image(index)[0, 0, 0] == 10 + index
        assert dataset.read_mask(index)[1, 2] == [1, 2, 13][index]


def test_a_missing_mask_is_named_instead_of_shifting_all_that_follow(tree):
    write(tree)
    (tree.root / f"gtFine/train/{STEMS[0]}_gtFine_labelIds.png").unlink()
    (tree.root / f"leftImg8bit/train/{STEMS[2]}_leftImg8bit.png").unlink()
    message = (
        r"1 images have no mask \(aachen_000000_000019_leftImg8bit\.png\); "
        r"1 masks have no image \(zurich_000000_000019_gtFine_labelIds\.png\)"
    )
    with pytest.raises(ValueError, match=message):
        Cityscapes(str(tree))


def test_train_ids_are_read_as_they_are_where_there_is_nothing_else(tree):
    tree.image("leftImg8bit/val/bonn/bonn_000000_000019_leftImg8bit.png")
    tree.mask("gtFine/val/bonn/bonn_000000_000019_gtFine_labelTrainIds.png", [[0, 18, 255], [7, 8, 11]])
    np.testing.assert_array_equal(Cityscapes(str(tree), "val").read_mask(0), [[0, 18, 255], [7, 8, 11]])


def test_coarse_annotations(tree):
    write(tree, split="train_extra", kind="gtCoarse")
    assert len(Cityscapes(str(tree), "train_extra", annotations="gtCoarse")) == 3


def test_a_label_map_applies_to_the_train_ids(tree):
    write(tree)
    dataset = Cityscapes(str(tree), classes=["rest", "road"], label_map={0: 1, 255: "ignore", "*": 0})
    np.testing.assert_array_equal(dataset.read_mask(0), [[255, 1, 255], [255, 0, 0]])


def test_what_is_missing_is_said(tree):
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit.train does not exist"):
        Cityscapes(str(tree))
    write(tree)
    with pytest.raises(FileNotFoundError, match=r"leftImg8bit.vall does not exist; .* holds train"):
        Cityscapes(str(tree), "vall")
    with pytest.raises(ValueError, match="test split are dummies"):
        Cityscapes(str(tree), "test")
    (tree.root / "leftImg8bit" / "val" / "bonn").mkdir(parents=True)
    (tree.root / "gtFine" / "val").mkdir()
    with pytest.raises(ValueError, match=r"val holds no CITY/NAME_leftImg8bit\.png; it holds bonn"):
        Cityscapes(str(tree), "val")


def test_shared_options_are_keywords_of_a_section():
    checked = check_keywords(Cityscapes, {"root": ".", "label_map": {"3": "ignore"}, "channels": 4})
    assert checked == {"root": ".", "label_map": {3: "ignore"}, "channels": 4}
    with pytest.raises(ValueError, match=r"unknown key 'label_mpa'.*did you mean 'label_map'"):
        check_keywords(Cityscapes, {"root": ".", "label_mpa": {}})
    with pytest.raises(ValueError, match="label_map"):
        check_keywords(Cityscapes, {"root": ".", "label_map": {1: "void"}})
