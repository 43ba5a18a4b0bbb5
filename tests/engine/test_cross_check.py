"""What does not fit together is found without reading data, and without the data being there."""

import pytest

from evenseg.config import ConfigError, make_config
from evenseg.data import DATASETS, known_classes
from evenseg.engine import cross_check


@pytest.fixture
def street(tiny):
    """A configuration on Cityscapes, whose folder does not exist."""
    for split in ("train", "val"):
        tiny[f"{split}_dataset"] = {"type": "Cityscapes", "root": "no/where", "split": split}
    tiny["train_dataset"]["transforms"] = [{"type": "RandomCrop", "size": [32, 64]}, {"type": "Normalize"}]
    tiny["model"] = {"type": "ENet"}
    return tiny


@pytest.mark.parametrize("name", [name for name, kind in DATASETS.items() if not name.endswith("Dataset")])
def test_layouts_imply_their_classes(name):
    assert known_classes(DATASETS[name], {"root": "no/where"}).num_classes >= 2
    assert known_classes(DATASETS[name], {"root": "no/where", "classes": ["a", "b", "c"]}).names == ("a", "b", "c")


def test_a_configuration_that_fits(street):
    fit = cross_check(make_config(street))
    assert fit.classes.num_classes == fit.model.num_classes == 19


@pytest.mark.parametrize(
    ("path", "value", "key_path", "message"),
    [
        ("model.num_classes", 20, "model.num_classes", "is 20, but the data set has 19"),
        ("loss.types", [{"type": "CrossEntropyLoss", "weight": [1, 2]}], "loss.types[0].weight", "2 entries, 19 are"),
        ("loss.types", [{"type": "LovaszHingeLoss"}], "loss.types[0].mode", "'binary' needs 2 classes.* has 19"),
        ("loss.coef", [1, 0.4], "loss.coef", "2 weights, but the model ENet has 1 output"),
        ("loss.types", [{"type": "CrossEntropyLoss", "ignore_index": 0}], "loss.types[0].ignore_index",
         "is 0, but train_dataset marks ignored pixels with 255; leave it out, and ignore further labels with"),
        ("train_dataset.transforms", [{"type": "RandomCrop", "size": [4, 64]}], "train_dataset.transforms[0].size",
         r"\[4, 64\] is smaller than the 8 pixels"),
        ("train_dataset.transforms", [{"type": "RandomCrop", "size": [64, 64], "ignore_index": 19}],
         "train_dataset.transforms[0].ignore_index", "is 19, but train_dataset marks ignored pixels with 255"),
        ("evaluation", {"window": [512, 4]}, "evaluation.window", r"\[512, 4\] is smaller than the 8 pixels"),
        ("sampler", {"type": "Equibatch", "classes": ["road", "pool"]}, "sampler.classes[1]", "did you mean 'pole'"),
        ("val_dataset.classes", ["road", "rest"], "val_dataset", r"\(road, rest; ignore 255\) are not those .*\(19 in all\)"),
        ("val_dataset.ignore_index", 254, "val_dataset", r"ignore 254\) are not those of train_dataset"),
        ("train_dataset.classes", 0, "train_dataset", "classes must name at least one class, got 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit(street, path, value, key_path, message):
    node = street
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    with pytest.raises(ConfigError, match=message) as caught:
        cross_check(make_config(street, file="street.yml"))
    assert caught.value.key_path == key_path
    assert str(caught.value).startswith(f"street.yml: {key_path}: ")


def test_a_folder_that_is_not_there_leaves_the_classes_open(street):
    for split in ("train", "val"):
        street[f"{split}_dataset"]["type"] = "FolderDataset"
    assert cross_check(make_config(street)).classes is None
    # what needs no classes is checked all the same
    street["loss"]["coef"] = [1, 1]
    with pytest.raises(ConfigError, match="has 1 output"):
        cross_check(make_config(street))


def test_classes_json_is_read_and_a_broken_one_is_named(street, make_folder):
    root = make_folder({})
    for split in ("train", "val"):
        street[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split}
    assert cross_check(make_config(street)).classes.names == ("ground", "crack")
    (root / "classes.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^train_dataset: .*classes.json must hold"):
        cross_check(make_config(street))
