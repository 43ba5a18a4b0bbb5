"""Small experiments that train in a second, shared by the tests of the rooms on the training path."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # triton looks at it when it is first imported, by whomever

CE = {"types": [{"type": "CrossEntropyLoss"}], "coef": [1]}
MIX = {
    "types": [
        {"type": "MixedLoss", "losses": [{"type": "CrossEntropyLoss"}, {"type": "LovaszHingeLoss"}], "coef": [1, 0.5]}
    ],
    "coef": [1],
}
TINY = {
    "train_dataset": {
        "type": "SyntheticRoads",
        "length": 5,
        "size": 32,
        "transforms": [{"type": "RandomFlip"}, {"type": "Normalize"}],
    },
    "val_dataset": {
        "type": "SyntheticRoads",
        "split": "val",
        "length": 3,
        "size": 32,
        "transforms": [{"type": "Normalize"}],
    },
    "model": {"type": "LightUNet", "widths": [4, 8]},
    "optimizer": {"type": "AdamW", "lr": 0.01},
    "lr_scheduler": {"type": "Poly"},
    "loss": CE,
    "iters": 3,
    "batch_size": 2,
    "eval_interval": 2,
    "log_interval": 1,
    "device": "cpu",
}


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Keeps the tests, and the processes they start, out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVENSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_template():
    """The configuration mapping of one loss, not to be changed."""
    return copy.deepcopy(TINY)


@pytest.fixture
def tiny(tiny_template):
    """A fresh configuration mapping of one loss."""
    return copy.deepcopy(tiny_template)


@pytest.fixture
def tiny_study(tiny):
    """A fresh configuration mapping of two losses."""
    del tiny["loss"]
    tiny["losses"] = {"CE": copy.deepcopy(CE), "CE+LovaszHinge": copy.deepcopy(MIX)}
    return tiny


@pytest.fixture
def write_yaml(tmp_path):
    """Writes a mapping to a YAML file and returns its path."""

    def write(mapping, name="tiny.yml") -> Path:
        file = tmp_path / name
        file.write_text(yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")
        return file

    return write


@pytest.fixture
def make_folder(tmp_path):
    """Makes a folder data set: `masks` is split -> name -> mask array; the images show the masks faintly."""

    def make(masks, classes=("ground", "crack"), ignore_index=255, image_size=None) -> Path:
        root = tmp_path / "pictures"
        entries = [{"id": i, "name": name, "color": [40 * i, 200, 10]} for i, name in enumerate(classes)]
        root.mkdir(exist_ok=True)
        (root / "classes.json").write_text(json.dumps({"classes": entries, "ignore_index": ignore_index}))
        for split, pairs in masks.items():
            (root / "images" / split).mkdir(parents=True, exist_ok=True)
            (root / "masks" / split).mkdir(parents=True, exist_ok=True)
            for name, mask in pairs.items():
                mask = np.asarray(mask, np.uint8)
                picture = np.repeat((100 + 30 * (mask % 4))[..., None], 3, axis=2).astype(np.uint8)
                if image_size is not None:
                    picture = np.zeros((*image_size, 3), np.uint8)
                Image.fromarray(picture).save(root / "images" / split / f"{name}.jpg")
                indexed = Image.fromarray(mask)
                # a palette that would change every value if it were applied
                indexed.putpalette(list(range(255, -1, -1)) * 3)
                indexed.save(root / "masks" / split / f"{name}.png")
        return root

    return make


@pytest.fixture
def shared_data():
    """The folder of real data sets beside the checkout; tests skip where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder.name}/ beside the checkout's folder")
    return folder
