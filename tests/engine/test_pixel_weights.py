"""Weights of pixels: read from a folder, moved with the mask, multiplied into the loss."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from evenseg.config import ConfigError, make_config
from evenseg.data import FolderDataset, Pipeline, TrainingSamples
from evenseg.data.samples import make_sample
from evenseg.data.transforms import ColorJitter, Normalize, RandomCrop, RandomFlip, RandomScale
from evenseg.engine import train
from evenseg.losses import CrossEntropyLoss


@pytest.fixture
def weighted(make_folder):
    """Two pairs whose weights are their labels times 85, so that weights can be told from the mask."""
    masks = {name: np.random.default_rng(i).integers(0, 4, (12, 14)) for i, name in enumerate("ab")}
    root = make_folder({"train": masks, "val": masks}, classes=("a", "b", "c", "d"))
    (root / "weights" / "train").mkdir(parents=True)
    for name, mask in masks.items():
        Image.fromarray((85 * mask).astype(np.uint8)).save(root / "weights" / "train" / f"{name}.png")
    return root


def test_weights_follow_the_mask(weighted):
    dataset = FolderDataset(str(weighted), weights="weights")
    np.testing.assert_allclose(dataset.read_weight(0), dataset.read_mask(0) / 3, atol=1e-6)
    steps = [RandomScale(0.5, 2.0), RandomCrop((16, 16), category_max_ratio=0.5), RandomFlip(0.5, 0.5), ColorJitter(), Normalize()]
    for item in range(20):
        sample = TrainingSamples(dataset, Pipeline(steps), 20, seed=1)[item]
        expected = torch.where(sample.mask == 255, 0.0, sample.mask / 3)  # padding weighs nothing
        torch.testing.assert_close(sample.weight, expected)
    plain = TrainingSamples(FolderDataset(str(weighted)), Pipeline(steps), 20, seed=1)[19]
    assert plain.weight.numel() == 0
    assert torch.equal(plain.image, sample.image)
    assert torch.equal(plain.mask, sample.mask)


def test_sixteen_bits_and_floats(weighted):
    folder = weighted / "weights" / "train"
    Image.fromarray(np.full((12, 14), 65535, np.uint16)).save(folder / "a.png")
    (folder / "b.png").unlink()
    np.save(folder / "b.npy", np.full((12, 14), 2.5, np.float32))
    dataset = FolderDataset(str(weighted), weights="weights")
    assert (dataset.read_weight(0) == 1).all()
    assert (dataset.read_weight(1) == 2.5).all()
    np.save(folder / "b.npy", np.full((12, 14), -1.0))
    with pytest.raises(ValueError, match=r"b\.npy holds weights that are negative or no numbers"):
        dataset.read_weight(1)


def section(root, **options):
    return {"type": "FolderDataset", "root": str(root), "transforms": [{"type": "Normalize"}], **options}


def test_the_trainer_gives_them_to_the_loss(weighted, tiny, tmp_path, monkeypatch):
    seen = []
    original = CrossEntropyLoss.forward

    def noting(self, logits, target, pixel_weight=None, **call):
        seen.append((self.training, target.clone(), pixel_weight))
        return original(self, logits, target, pixel_weight, **call)

    monkeypatch.setattr(CrossEntropyLoss, "forward", noting)
    data = {"train_dataset": section(weighted, weights="weights"), "val_dataset": section(weighted, split="val")}
    train(make_config(copy.deepcopy(tiny) | data | {"iters": 2}), tmp_path / "run")
    with_weights = [(target, weight) for _, target, weight in seen if weight is not None]
    assert len(with_weights) == 2
    for target, weight in with_weights:
        torch.testing.assert_close(weight, target / 3)
    assert len(seen) > 2  # evaluations count every pixel


def test_mistakes_are_explained(weighted, tiny, tmp_path):
    with pytest.raises(ValueError, match=r"weight_suffix '_c\.png' needs weights"):
        FolderDataset(str(weighted), weight_suffix="_c.png")
    data = {"train_dataset": section(weighted), "val_dataset": section(weighted, split="val", weights="weights")}
    with pytest.raises(ConfigError, match="is for training: evaluations count every pixel alike") as caught:
        train(make_config(tiny | data), tmp_path / "run")
    assert caught.value.key_path == "val_dataset.weights"

    class Own:
        def __call__(self, image, mask):
            return image, mask

    with pytest.raises(ValueError, match="Own does not say what to do with weights of pixels: set its attribute `geometric`"):
        Pipeline([Own()]).check_maps()
    (weighted / "weights" / "train" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"weights.train: 1 images have no weights \(a\.jpg\)"):
        FolderDataset(str(weighted), weights="weights")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(weighted / "weights" / "train" / "a.png")
    dataset = FolderDataset(str(weighted), weights="weights")
    with pytest.raises(ValueError, match=r"the weights of a are of size \(5, 5\), its mask of \(12, 14\)"):
        make_sample(dataset, Pipeline([]), 0, seed=0, weighted=True)
