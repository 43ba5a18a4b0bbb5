import numpy as np
import pytest

from evenseg.data import ListDataset

CLASSES = ["background", "road"]


def write(tree, *names):
    for number, name in enumerate(names):
        tree.image(f"images/{name}.jpg")
        tree.mask(f"labels/{name}.png", [[0, 1, 255], [number, 0, 0]])


def dataset(tree, **keywords):
    return ListDataset(str(tree), classes=CLASSES, **keywords)


@pytest.mark.parametrize("separator", [" ", "|", "\t", " | "])
def test_both_separators(tree, separator):
    write(tree, "a", "b")
    tree.text("train.txt", f"images/a.jpg{separator}labels/a.png\n\n# spoilt: c\nimages/b.jpg{separator}labels/b.png")
    found = dataset(tree)
    assert [found.name(0), found.name(1)] == ["a", "b"]
    np.testing.assert_array_equal(found.read_mask(1), [[0, 1, 255], [1, 0, 0]])
    assert found.classes.names == ("background", "road")
    assert found.where.endswith("train.txt")


def test_names_with_spaces_need_the_bar(tree):
    write(tree, "a b")
    tree.text("train.txt", "images/a b.jpg|labels/a b.png\n")
    assert len(dataset(tree)) == 1
    tree.text("train.txt", "images/a b.jpg labels/a b.png\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1: .* got 4 fields .*; names with spaces need the separator '\|'"):
        dataset(tree)


def test_a_broken_line_is_named_with_its_number(tree):
    write(tree, "a")
    tree.text("train.txt", "images/a.jpg|labels/a.png\nimages/a.jpg\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 2: expected an image and a mask with '\|' .* got 1 field in"):
        dataset(tree)
    tree.text("train.txt", "images/a.jpg|\n")
    with pytest.raises(ValueError, match=r"line 1: expected an image and a mask"):
        dataset(tree)


def test_files_that_do_not_exist_are_named_with_their_lines(tree):
    write(tree, "a")
    tree.text("train.txt", "images/a.jpg labels/a.png\nimages/b.jpg labels/b.png\n")
    with pytest.raises(ValueError, match=r"2 of the 4 files do not exist: line 2: .*images.b\.jpg, line 2: .*labels.b\.png"):
        dataset(tree)


def test_the_list_is_looked_for_below_the_root_then_in_the_working_folder(tree, monkeypatch):
    write(tree, "a", "b")
    monkeypatch.chdir(tree.root.parent)
    (tree.root.parent / "mine.txt").write_text("images/b.jpg labels/b.png\n")
    assert dataset(tree, file="mine.txt").name(0) == "b"
    tree.text("mine.txt", "images/a.jpg labels/a.png\n")
    assert dataset(tree, file="mine.txt").name(0) == "a"
    with pytest.raises(FileNotFoundError, match=r"the list other\.txt does not exist, neither in .*data nor in"):
        dataset(tree, file="other.txt")


def test_empty_and_unreadable_lists(tree):
    tree.text("train.txt", "\n# nothing\n")
    with pytest.raises(ValueError, match=r"train\.txt lists no images"):
        dataset(tree)
    (tree.root / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"train\.txt is no text in UTF-8"):
        dataset(tree)


def test_names_are_unique(tree):
    for folder in ("one", "two"):
        tree.image(f"{folder}/a.jpg")
        tree.mask(f"{folder}/a.png", [[0, 1, 0], [0, 0, 0]])
    tree.text("train.txt", "one/a.jpg one/a.png\ntwo/a.jpg two/a.png\none/a.jpg one/a.png\n")
    found = dataset(tree)
    assert [found.name(index) for index in range(3)] == ["one_a", "two_a", "one_a-2"]


def test_classes_must_be_known(tree):
    write(tree, "a")
    tree.text("train.txt", "images/a.jpg labels/a.png\n")
    with pytest.raises(ValueError, match=r"the classes are not known: .* set `classes` to their names"):
        ListDataset(str(tree))
    assert ListDataset(str(tree), classes=2).classes.names == ("class 0", "class 1")
    colors = {"ground": (1, 2, 3), "road": (4, 5, 6)}
    assert ListDataset(str(tree), classes=colors).classes.colors == ((1, 2, 3), (4, 5, 6))
    assert ListDataset(str(tree), classes=2, ignore_index=200).classes.ignore_index == 200
    for classes in (0, [], ["a", "a"]):
        with pytest.raises(ValueError, match="classes must name at least one class"):
            ListDataset(str(tree), classes=classes)
    with pytest.raises(ValueError, match=r"ignore_index must be in 2\.\.65535 \(beyond the classes\), got 0"):
        ListDataset(str(tree), classes=2, ignore_index=0)
    with pytest.raises(ValueError, match=r"classes: road: a colour is \[r, g, b\]"):
        ListDataset(str(tree), classes={"road": (1, 2, 300)})
