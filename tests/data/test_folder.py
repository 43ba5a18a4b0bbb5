import json

import numpy as np
import pytest
from PIL import Image

from evenseg.data import FolderDataset
from evenseg.data.labels import label_table

MASK = [[0, 1, 1, 255], [0, 0, 1, 1]]


def test_reads_indices_not_colours(make_folder):
    root = make_folder({"train": {"b": MASK, "a": [[1, 1, 1, 1], [0, 0, 0, 0]]}})
    dataset = FolderDataset(str(root))
    assert len(dataset) == 2
    assert [dataset.name(0), dataset.name(1)] == ["a", "b"]
    np.testing.assert_array_equal(dataset.read_mask(1), MASK)
    assert dataset.read_image(0).shape == (2, 4, 3)
    assert dataset.image_size(0) == (2, 4)
    assert dataset.classes.names == ("ground", "crack")
    assert dataset.classes.colors[1] == (40, 200, 10)


def test_label_map(make_folder):
    root = make_folder({"train": {"a": [[0, 7, 255, 9]]}})
    dataset = FolderDataset(str(root), label_map={0: 0, 255: 1, 7: "ignore", "*": 0})
    np.testing.assert_array_equal(dataset.read_mask(0), [[0, 255, 1, 0]])


def test_label_map_without_star_keeps_the_rest():
    table = label_table({255: 1}, 255)
    assert table[255] == 1
    np.testing.assert_array_equal(table[:255], np.arange(255))


@pytest.mark.parametrize("label_map", [{70000: 1}, {"a": 1}, {0: -1}, {0: "void"}, {0: True}])
def test_label_map_outside_sixteen_bits(label_map):
    with pytest.raises(ValueError, match=r"label_map: .* must be 0..65535"):
        label_table(label_map, 255)


def test_unpaired_files_are_named(make_folder):
    root = make_folder({"train": {"a": MASK, "b": MASK, "c": MASK}})
    (root / "masks" / "train" / "b.png").unlink()
    (root / "images" / "train" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 images have no mask \(b\.jpg\); 1 masks have no image \(c\.png\)"):
        FolderDataset(str(root))


def test_two_images_of_one_name(make_folder):
    root = make_folder({"train": {"a": MASK}})
    Image.new("RGB", (4, 2)).save(root / "images" / "train" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png share a name"):
        FolderDataset(str(root))


def test_colour_mask_is_refused(make_folder):
    root = make_folder({"train": {"a": MASK}})
    Image.new("RGB", (4, 2)).save(root / "masks" / "train" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a mask of mode RGB; masks must hold one class index per pixel"):
        FolderDataset(str(root)).read_mask(0)


def test_file_that_is_no_image(make_folder):
    root = make_folder({"train": {"a": MASK}})
    (root / "masks" / "train" / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        FolderDataset(str(root)).read_mask(0)


def test_missing_places(make_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        FolderDataset(str(tmp_path / "nowhere"))
    root = make_folder({"train": {"a": MASK}})
    with pytest.raises(FileNotFoundError, match=r"images.valid does not exist; .*images holds train"):
        FolderDataset(str(root), split="valid")
    (root / "classes.json").unlink()
    with pytest.raises(ValueError, match=r"the classes are not known: there is no .*classes\.json.* set `classes`"):
        FolderDataset(str(root))
    with pytest.raises(FileNotFoundError, match=r"names\.json does not exist"):
        FolderDataset(str(root), classes="names.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": [{"id": 1, "name": "a", "color": [0, 0, 0]}]}, "must be 0, 1, 2, ... in order, got"),
        ({"classes": []}, "in order"),
        ({"classes": [{"id": 0, "name": "a"}]}, "KeyError: 'color'"),
        (
            {"classes": [{"id": 0, "name": "a", "color": [0, 0, 0]}], "ignore_index": 0},
            "ignore_index must be in 1..65535",
        ),
        ([], "must hold"),
    ],
)
def test_classes_file(make_folder, content, message):
    root = make_folder({"train": {"a": MASK}})
    (root / "classes.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        FolderDataset(str(root))


def test_real_data_is_read(shared_data):
    dataset = FolderDataset(str(shared_data / "crackforest"), split="val")
    assert len(dataset) == 11
    share = np.mean([dataset.read_mask(index).mean() for index in range(len(dataset))])
    # 1.869 % in the data set's own table
    assert share == pytest.approx(0.01869, abs=1e-5)


def test_suffixes_and_patterns(tree):
    for name in ("a", "sub/b"):
        tree.image(f"val/rgb/{name}_rgb.tif")
        tree.image(f"val/rgb/{name}_nir.tif")
        tree.mask(f"val/labels/{name}_labels.png", [[0, 1, 1], [0, 0, 0]])
    keywords = {"split": "val", "images": "{split}/rgb", "masks": "{split}/labels", "classes": 2}
    dataset = FolderDataset(str(tree), image_suffix="_rgb.tif", mask_suffix="_labels.png", recursive=True, **keywords)
    assert [dataset.name(0), dataset.name(1)] == ["a", "sub_b"]
    np.testing.assert_array_equal(dataset.read_mask(1), [[0, 1, 1], [0, 0, 0]])
    assert len(FolderDataset(str(tree), image_suffix="_rgb", mask_suffix="_labels", **keywords)) == 1
    with pytest.raises(ValueError, match=r"val.rgb holds no images named \*_sat\.jpg"):
        FolderDataset(str(tree), image_suffix="_sat.jpg", **keywords)


def test_images_and_masks_in_one_folder_without_splits(tree):
    tree.image("all/a_sat.jpg", "all/b_sat.jpg")
    for name in "ab":
        tree.image(f"all/{name}_mask.png", value=200)
    keywords = {"split": "", "images": "all", "masks": "all", "classes": 2, "threshold": 128}
    dataset = FolderDataset(str(tree), image_suffix="_sat.jpg", mask_suffix="_mask.png", **keywords)
    assert [dataset.name(0), dataset.name(1)] == ["a", "b"]
    np.testing.assert_array_equal(dataset.read_mask(0), np.ones((2, 3)))


def test_masks_saved_as_jpeg_need_their_suffix(tree):
    tree.image("images/train/a.jpg", "masks/train/a.jpg")
    with pytest.raises(ValueError, match=r"1 images have no mask \(a\.jpg\)"):
        FolderDataset(str(tree), classes=2)
    dataset = FolderDataset(str(tree), classes=2, mask_suffix=".jpg", threshold=80)
    np.testing.assert_array_equal(dataset.read_mask(0), np.ones((2, 3)))


def test_an_empty_split_is_named(tree):
    for kind in ("images", "masks"):
        (tree.root / kind / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"images.train holds no images"):
        FolderDataset(str(tree), classes=2)
