import numpy as np
import pytest

from evenseg.data import CSVDataset

ROWS = 'image,mask,split\nimages/a.jpg,labels/a.png,train\n"images/b,2.jpg",labels/b.png,val\nimages/c.jpg,labels/c.png,train\n'


@pytest.fixture
def write(tree):
    for name in ("a", "b,2", "c"):
        tree.image(f"images/{name}.jpg")
        tree.mask(f"labels/{name[0]}.png", [[0, 1, 255], [1, 0, 0]])
    tree.text("data.csv", ROWS)
    return tree


def dataset(tree, **keywords):
    return CSVDataset(str(tree), classes=2, **keywords)


def test_rows_and_splits(write):
    assert [dataset(write).name(index) for index in range(3)] == ["a", "b,2", "c"]
    assert [dataset(write, split="train").name(index) for index in range(2)] == ["a", "c"]
    np.testing.assert_array_equal(dataset(write, split="val").read_mask(0), [[0, 1, 255], [1, 0, 0]])


def test_other_columns_and_delimiters(write):
    write.text("list.csv", "id; picture; label\n1; images/a.jpg; labels/a.png\n")
    found = dataset(write, file="list.csv", delimiter=";", image_column="picture", mask_column="label")
    assert found.name(0) == "a"


def test_what_is_wrong_is_named(write):
    with pytest.raises(ValueError, match=r"data\.csv: unknown column 'masks'; allowed: image, mask, split; did you mean 'mask'"):
        dataset(write, mask_column="masks")
    with pytest.raises(ValueError, match=r"has no rows of the split 'test'; its split column holds train, val"):
        dataset(write, split="test")
    write.text("data.csv", ROWS + "images/d.jpg,,train\n")
    with pytest.raises(ValueError, match=r"data\.csv, line 5: expected a value in image and mask"):
        dataset(write)
    write.text("data.csv", ROWS + "images/d.jpg,labels/d.png,train,more\n")
    with pytest.raises(ValueError, match=r"line 5: expected a value in image and mask and 3 fields"):
        dataset(write)
    write.text("data.csv", ROWS + "images/d.jpg,labels/d.png,train\n")
    with pytest.raises(ValueError, match=r"2 of the 8 files do not exist: line 5: .*d\.jpg, line 5: .*d\.png"):
        dataset(write)
    write.text("data.csv", "image,mask\n")
    with pytest.raises(ValueError, match=r"data\.csv has no rows"):
        dataset(write)
    write.text("data.csv", "")
    with pytest.raises(ValueError, match=r"data\.csv: unknown column 'image'"):
        dataset(write)
    with pytest.raises(FileNotFoundError, match=r"the list nowhere\.csv does not exist"):
        dataset(write, file="nowhere.csv")
    with pytest.raises(ValueError, match="delimiter must be one character"):
        dataset(write, delimiter="||")
