"""Losses, models, data sets and the rest named by their import path."""

import sys
import textwrap

import pytest
import torch

from evenseg.config import ConfigError, make_config
from evenseg.engine import resolve, train
from evenseg.losses import build_loss

MODULE = """
    import torch
    from torch import nn
    from evenseg.data import SyntheticRoads
    from evenseg.losses import RecallLoss

    LIMIT = 3

    class Margin(nn.Module):
        def __init__(self, margin: float = 1.0, ignore_index: int = -100):
            super().__init__()
            self.margin, self.ignore_index = margin, ignore_index

        def forward(self, logits, target):
            assert target.dtype == torch.int64
            valid = target != self.ignore_index
            true = logits.gather(1, torch.where(valid, target, 0)[:, None])[:, 0]
            return ((self.margin - true).relu() * valid).mean()

    class Map(nn.Module):
        def forward(self, logits, target):
            return logits.sum(1)

    class Rarely(RecallLoss):
        "A loss on our statistics."

    class Two(nn.Module):
        def __init__(self, num_classes: int, width: int = 4):
            super().__init__()
            self.body, self.main, self.side = nn.Conv2d(3, width, 1), nn.Conv2d(width, num_classes, 1), nn.Conv2d(width, num_classes, 1)

        def forward(self, image):
            features = self.body(image)
            return {"out": self.main(features), "aux": self.side(features)}

    class Picky(nn.Module):
        def forward(self, image):
            return image.view(7)

    class Roads(SyntheticRoads):
        pass

    class Invert:
        def __init__(self, probability: float = 0.5):
            if probability < 0:
                raise ValueError("probability must not be negative")
            self.probability = probability

        def __call__(self, image, mask):
            return 255 - image, mask
"""


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "own_broken.py").write_text("import torch\nraise KeyError('what')\n")
    (tmp_path / "own_needy.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_every_part_can_be_ones_own(tiny, tmp_path):
    for split in ("train", "val"):
        tiny[f"{split}_dataset"]["type"] = "own_parts.Roads"
    tiny["train_dataset"]["transforms"].insert(0, {"type": "own_parts.Invert", "probability": 1})
    tiny["model"] = {"type": "own_parts.Two", "width": 3}
    tiny["optimizer"] = {"type": "torch.optim.RMSprop", "lr": 0.01}
    tiny["loss"] = {"types": [{"type": "own_parts.Margin", "margin": 2}, {"type": "CrossEntropyLoss"}], "coef": [1, 0.4]}
    folder = train(make_config(tiny), tmp_path / "run")
    rows = (folder / "metrics.jsonl").read_text()
    assert '"output0.Margin"' in rows
    assert '"output1.CrossEntropyLoss"' in rows
    assert "type: own_parts.Two" in (folder / "config.yaml").read_text()


def test_torch_losses_fit_as_they_are():
    section = {"types": [{"type": "torch.nn.CrossEntropyLoss"}], "coef": [1]}
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    target[0] = 255
    ours = build_loss({"type": "CrossEntropyLoss", "engine": "eager"}, ignore_index=255)(logits, target)
    torch.testing.assert_close(build_loss(section, ignore_index=255)(logits, target), ours)


def test_a_loss_on_our_statistics_shares_the_pass_of_a_mix():
    mix = build_loss(
        {
            "type": "MixedLoss",
            "losses": [{"type": name, "engine": "eager"} for name in ("own_parts.Rarely", "CrossEntropyLoss")],
            "coef": [1, 1],
        }
    )
    assert len(mix.losses[0].passes(two_channels=False)) == 1
    mix(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
    assert list(mix.terms) == ["Rarely", "CrossEntropyLoss"]


def test_a_foreign_loss_in_a_mix_has_its_own_name():
    mix = build_loss(
        {
            "type": "MixedLoss",
            "losses": [{"type": "own_parts.Margin"}, {"type": "CrossEntropyLoss", "engine": "eager"}],
            "coef": [1, 1],
        }
    )
    mix(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert list(mix.terms) == ["Margin", "CrossEntropyLoss"]
    with pytest.raises(ValueError, match="Margin takes no pixel_weight"):
        mix(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.ones(1, 4, 4))


@pytest.mark.parametrize(
    ("path", "value", "key_path", "message"),
    [
        ("model", {"type": "own_parts.Tow"}, "model.type", "the module own_parts has no 'Tow'; did you mean 'Two'?"),
        ("model", {"type": "own_prts.Two"}, "model.type", "cannot import own_prts.Two: there is no module 'own_prts'"),
        ("model", {"type": "own_parts.sub.Two"}, "model.type", "there is no module 'own_parts.sub'"),
        ("model", {"type": "own_broken.Two"}, "model.type", "importing own_broken failed: KeyError: 'what'"),
        ("model", {"type": "own_needy.Two"}, "model.type", "it needs the module 'no_such_package'"),
        ("model", {"type": "own_parts.LIMIT"}, "model.type", "own_parts.LIMIT is a int; it must be a class"),
        ("model", {"type": "own parts.Two"}, "model.type", "'own parts.Two' is no import path"),
        ("model", {"type": "own_parts.Two", "widht": 3}, "model.widht", "did you mean 'width'"),
        ("model", {"type": "own_parts.Two", "num_classes": 3}, "model.num_classes", "is 3, but the data set has 2"),
        ("model", {"type": "own_parts.Two"}, "loss.coef", "1 weights, but the model own_parts.Two has 2 outputs"),
        ("model", {"type": "own_parts.Invert"}, "model", "it built a Invert; a model must be a torch.nn.Module"),
        ("model", {"type": "own_parts.Picky"}, "model", r"does not take an image \(1, 3, 64, 64\)"),
        ("loss", {"type": "own_parts.Invert"}, "loss.type", "must be a class derived from torch's Module"),
        ("loss", {"type": "own_parts.Marge"}, "loss.type", "did you mean 'Margin'"),
        ("loss", {"type": "own_parts.Margin", "magin": 2}, "loss.magin", "did you mean 'margin'"),
        ("loss", {"type": "own_parts.Map"}, "loss", r"Map must give a scalar tensor, got a tensor of shape \(2, 8, 8\)"),
        ("loss", {"type": "own_parts.Margin", "margin": "a"}, "loss", "Margin fails on logits .*TypeError"),
        ("train_dataset", {"type": "own_parts.Two"}, "train_dataset.type", "derived from evenseg's SegmentationDataset"),
        ("optimizer", {"type": "own_parts.Two"}, "optimizer.type", "derived from torch's Optimizer"),
    ],
)
def test_what_does_not_fit_is_one_line(tiny, path, value, key_path, message):
    tiny[path] = value
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(make_config(tiny))
    assert caught.value.key_path == key_path
    assert "\n" not in str(caught.value)


def test_a_transform_of_ones_own_names_the_keyword_at_fault(tiny):
    tiny["train_dataset"]["transforms"] = [{"type": "own_parts.Invert", "probability": -1}]
    with pytest.raises(ConfigError, match=r"train_dataset.transforms\[0\].probability: probability must not be negative"):
        resolve(make_config(tiny))
