"""Images of any number of channels and bits, from the file to the scores."""

import json

import numpy as np
import pytest
from PIL import Image

from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, resolve, train


@pytest.fixture
def bands(tiny, tmp_path):
    """A configuration on arrays of five channels of 16 bits, with masks of 16 bits."""
    rng = np.random.default_rng(0)
    root = tmp_path / "bands"
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for number in range(2):
            np.save(root / "images" / split / f"{number}.npy", rng.integers(0, 65536, (16, 16, 5)).astype(np.uint16))
            mask = rng.integers(0, 2, (16, 16)).astype(np.uint16) * 300
            Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")
        tiny[f"{split}_dataset"] = {
            "type": "FolderDataset",
            "root": str(root),
            "split": split,
            "channels": 5,
            "classes": ["rest", "field"],
            "label_map": {300: 1},
            "transforms": [{"type": "Normalize", "mean": [0.1, 0.2, 0.3, 0.4, 0.5], "std": [0.3]}],
        }
    return tiny


def test_five_channels_of_sixteen_bits_train(bands, tmp_path):
    folder = train(make_config(bands), tmp_path / "run")
    assert json.loads((folder / "summary.json").read_text())["steps"] == 3
    assert Image.open(folder / "overlays" / "0_image.png").mode == "RGB"
    assert evaluate(folder)["images"] == 2


def test_what_does_not_fit_the_channels_is_named(bands):
    bands["train_dataset"]["transforms"] = [{"type": "Normalize"}]
    with pytest.raises(ConfigError, match=r"^train_dataset\.transforms: Normalize: mean has 3 numbers, but the images have 5"):
        resolve(make_config(bands))


def test_more_than_256_classes_train(bands, tmp_path):
    for split in ("train", "val"):
        section = bands[f"{split}_dataset"]
        del section["label_map"]
        section |= {"classes": 301, "ignore_index": 1000}
    bands["iters"] = 1
    bands["loss"]["types"][0]["engine"] = "eager"
    folder = train(make_config(bands), tmp_path / "run")
    last = json.loads((folder / "summary.json").read_text())["last"]
    assert len(last["iou"]) == 301
    assert last["iou"][300] is not None
    assert Image.open(folder / "overlays" / "0_target.png").mode == "RGB"
