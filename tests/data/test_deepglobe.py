import numpy as np
import pytest

from evenseg.data import DeepGlobeRoad, MiniDeepGlobeRoadExtraction


@pytest.fixture
def roads(tree):
    from PIL import Image

    for number in range(10):
        tree.image(f"train/{100 + number}_sat.jpg")
        grey = np.array([[0, 2, 127], [128, 250, 255]], np.uint8)
        Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(tree.root / f"train/{100 + number}_mask.png")
    tree.image("valid/7_sat.jpg")
    return tree


def test_grey_values_are_cut_at_128(roads):
    dataset = DeepGlobeRoad(str(roads), "all")
    assert len(dataset) == 10
    assert dataset.name(3) == "103"
    np.testing.assert_array_equal(dataset.read_mask(0), [[0, 0, 0], [1, 1, 1]])
    assert dataset.classes.names == ("background", "road")
    np.testing.assert_array_equal(DeepGlobeRoad(str(roads), threshold=250).read_mask(0), [[0, 0, 0], [0, 1, 1]])


def test_the_parts_are_disjoint_and_always_the_same(roads):
    def names(split, **keywords):
        dataset = DeepGlobeRoad(str(roads), split, **keywords)
        return [dataset.name(index) for index in range(len(dataset))]

    assert len(names("val")) == 2
    assert sorted(names("train") + names("val")) == names("all")
    assert names("train") == names("train") == sorted(names("train"))
    assert len(names("val", val_share=0.5)) == 5
    with pytest.raises(ValueError, match=r"the split 'val' gets none of the 10 images \(share 0\)"):
        names("val", val_share=0.0)
    with pytest.raises(ValueError, match=r"shares of the splits must be in 0\.\.1"):
        names("val", val_share=1.5)


def test_what_is_missing_is_named(roads, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"elsewhere does not exist"):
        DeepGlobeRoad(str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"valid.train does not exist"):
        DeepGlobeRoad(str(roads.root / "valid"))
    (roads.root / "train" / "104_mask.png").unlink()
    with pytest.raises(ValueError, match=r"1 images have no mask \(104_sat\.jpg\)"):
        DeepGlobeRoad(str(roads))


def test_the_small_version_reads_its_lists(tree):
    for split, names in (("train", ("1", "2")), ("val", ("3",))):
        for name in names:
            tree.image(f"images/{name}.jpg")
            tree.mask(f"masks/{name}.png", [[0, 1, 1], [0, 0, 0]])
        tree.text(f"{split}.txt", "".join(f"images/{name}.jpg|masks/{name}.png\n" for name in names))
    assert len(MiniDeepGlobeRoadExtraction(str(tree))) == 2
    dataset = MiniDeepGlobeRoadExtraction(str(tree), "val")
    np.testing.assert_array_equal(dataset.read_mask(0), [[0, 1, 1], [0, 0, 0]])
    (tree.root / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt does not exist; it lists the images and masks"):
        MiniDeepGlobeRoadExtraction(str(tree), "val")
    tree.text("train.txt", "images/1.jpg masks/1.png\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: expected an image and a mask with '\|' between them"):
        MiniDeepGlobeRoadExtraction(str(tree))
