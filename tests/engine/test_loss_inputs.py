"""What the trainer passes to losses that read the image and the network's features."""

import json

import pytest
import torch
from torch import nn

from evenseg.config import ConfigError, EvaluationSection, make_config
from evenseg.data import TRANSFORMS, Classes, Sample
from evenseg.engine import cross_check, train
from evenseg.engine.loss_inputs import LossInputs
from evenseg.engine.measure import ImageMeter
from evenseg.engine.module import SegmentationModule
from evenseg.losses import DenseCRFLoss, DynamicFeatureLoss, MixedLoss, PhasedLoss
from evenseg.models import SMP, ENet, LightUNet, OCRNet, OwnModel, WithFeatures, feature_head

CRF = {"type": "DenseCRFLoss", "max_cells": 256}
DYNAMIC = {"type": "DynamicFeatureLoss", "max_cells": 256}


def beside_cross_entropy(*losses):
    parts = [{"type": "CrossEntropyLoss"}, *losses]
    return {"types": [{"type": "MixedLoss", "losses": parts, "coef": [1] * len(parts)}], "coef": [1]}


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (lambda: ENet(3), 16),
        (lambda: LightUNet(3, widths=(4, 8, 8)), 4),
        (lambda: OCRNet(3, backbone="hrnet_w18_small"), 512),
        (lambda: SMP(3, arch="DeepLabV3Plus", encoder_name="resnet18"), 256),
        (lambda: SMP(3, arch="Segformer", encoder_name="mit_b0"), 256),
    ],
    ids=["ENet", "LightUNet", "OCRNet", "DeepLabV3Plus", "Segformer"],
)
def test_the_features_are_what_the_head_reads(build, channels):
    model = build().eval()
    image = torch.randn(2, 3, 40, 72)
    with torch.no_grad():
        plain = model(image)
    *outputs, features = WithFeatures(model)(image)
    for one, other in zip(plain, outputs, strict=True):
        torch.testing.assert_close(one, other)
    assert features.shape[:2] == (2, channels)
    assert not features.requires_grad
    # what covers the padding is cut off
    shape = [length / 40 * 72 for length in features.shape[2:3]]
    assert features.shape[3] == pytest.approx(shape[0], abs=1)
    assert not feature_head(model)._forward_pre_hooks


def test_features_are_cut_to_the_image():
    model = LightUNet(2, widths=(4, 8, 8))
    assert WithFeatures(model)(torch.randn(1, 3, 21, 34))[-1].shape == (1, 4, 21, 34)


class Headless(nn.Module):
    num_outputs = 1

    def __init__(self, num_classes):
        super().__init__()
        self.only = nn.Conv2d(3, num_classes, 1)

    def forward(self, image):
        return self.only(image)


class Unused(Headless):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.head = nn.Conv2d(3, num_classes, 1)


def test_a_network_without_features_is_named():
    with pytest.raises(ValueError, match=r"^Headless shows no feature map: give it an attribute `head`, the module that makes"):
        feature_head(OwnModel(Headless(2)))
    with pytest.raises(ValueError, match="OwnModel made its logits without its `head`"):
        WithFeatures(OwnModel(Unused(2)))(torch.randn(1, 3, 8, 8))


def test_a_network_without_features_is_found_before_training(tiny):
    tiny["model"] = {"type": f"{__name__}.Headless"}
    cross_check(make_config(tiny | {"loss": beside_cross_entropy(CRF)}))
    with pytest.raises(ConfigError, match="Headless shows no feature map") as caught:
        cross_check(make_config(tiny | {"loss": beside_cross_entropy(DYNAMIC)}))
    assert caught.value.key_path == "loss"


class WantsDepth(nn.Module):
    requires = ("depth",)

    def forward(self, logits, target, depth):
        return logits.mean()


def test_what_a_loss_may_require(tiny):
    with pytest.raises(ConfigError, match="a loss requires 'depth'; the trainer passes image and features"):
        cross_check(make_config(tiny | {"loss": {"types": [{"type": f"{__name__}.WantsDepth"}], "coef": [1]}}))


def test_config_check_tries_the_loss_on_a_made_up_image(tiny):
    cross_check(make_config(tiny | {"loss": beside_cross_entropy(CRF, DYNAMIC)}))
    with pytest.raises(ConfigError, match=r"sigma_rgb=15 is for a larger unit; for images in 0\.\.1 it is 0.0588"):
        cross_check(make_config(tiny | {"loss": beside_cross_entropy(CRF | {"sigma_rgb": 15})}))


def test_the_image_is_that_before_normalisation(tiny):
    tiny["train_dataset"]["transforms"][-1] = {"type": "Normalize", "mean": [0.2, 0.5, 0.7], "std": [0.1, 0.2, 0.3]}
    tiny["val_dataset"]["transforms"] = []
    inputs = LossInputs(DenseCRFLoss(), make_config(tiny))
    image, mask = torch.rand(2, 3, 5, 6), torch.zeros(5, 6)
    normalise = TRANSFORMS["Normalize"](mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.3))
    seen = torch.stack([normalise(one, mask)[0] for one in image])
    _, context = inputs.context([], seen, training=True)
    torch.testing.assert_close(context["image"], image, atol=1e-6, rtol=0)
    assert inputs.context([], image, training=False)[1]["image"] is image
    outputs = [torch.zeros(1), torch.ones(1)]
    assert LossInputs(MixedLoss([DenseCRFLoss()], [1]), make_config(tiny)).context(outputs, seen, training=True)[0] is outputs
    assert LossInputs(None, None).context(outputs, seen, training=True) == (outputs, {})


def test_what_reaches_the_loss_in_training_and_validation(tiny, tmp_path, monkeypatch):
    """The image shows the mask's roads; features belong to it, whatever micro-batches, windows and scales there are."""
    seen = []
    original = DynamicFeatureLoss.forward

    def noting(self, logits, target, pixel_weight=None, **context):
        seen.append((torch.is_grad_enabled(), logits.shape, {name: value.clone() for name, value in context.items()}))
        return original(self, logits, target, pixel_weight, **context)

    monkeypatch.setattr(DynamicFeatureLoss, "forward", noting)
    tiny |= {"loss": beside_cross_entropy(CRF, DYNAMIC), "accumulate": 2, "iters": 1, "eval_interval": 1, "ema": {"decay": 0.5}}
    tiny["evaluation"] = {"window": [24, 20], "scales": [0.5], "flip": True}
    train(make_config(tiny), tmp_path / "run")
    seen = [entry for entry in seen if entry[2]["features"].shape[1] == 4]  # without the trial of `cross_check`, of 8x8
    training = [entry for entry in seen if entry[0] and entry[1][2] == 32]
    validation = [entry for entry in seen if entry[1][2:] == (24, 20)]
    assert len(training) == 1
    assert len(validation) == 3 * 4  # 3 images of 2x2 windows
    for _, shape, context in (*training, *validation):
        image, features = context["image"], context["features"]
        assert image.shape == (shape[0], 3, *shape[2:])
        assert 0 <= image.min() < image.max() <= 1.0001
        assert len(features) == shape[0]
    assert training[0][2]["features"].shape == (2, 4, 32, 32)
    assert validation[0][2]["features"].shape == (1, 4, 12, 10)
    assert len({context["image"].sum().item() for _, _, context in validation}) == len(validation)


def test_windows_get_their_part_of_the_image():
    image, mask = torch.arange(1 * 3 * 6 * 8.0).view(1, 3, 6, 8), torch.zeros(1, 6, 8, dtype=torch.long)
    seen = []

    def loss(outputs, window, part):
        seen.append((outputs[0], part))
        return torch.zeros(())

    meter = ImageMeter(Classes(("a", "b"), ((0, 0, 0), (1, 1, 1))), EvaluationSection(window=(4, 4)))
    meter.measure(lambda x: [x[:, :2]], Sample(image, mask, torch.tensor([0]), ""), loss)
    assert len(seen) == 6  # two rows of three, overlapping
    for output, part in seen:
        assert torch.equal(output, part[:, :2])


def test_accumulation_phases_and_a_second_run_change_nothing(tiny, tmp_path):
    """The phase without a context goes before the one with it."""
    tiny["loss"] = {"types": [{"type": "CrossEntropyLoss"}], "coef": [1], "phases": [{"start": 1, **beside_cross_entropy(DYNAMIC)}]}
    tiny["model"] = {"type": f"{__name__}.Plain"}
    runs = {}
    for name, more in {"one": {}, "again": {}, "parts": {"accumulate": 2}}.items():
        folder = train(make_config(tiny | more), tmp_path / name)
        runs[name] = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
    assert runs["one"] == runs["again"]
    for one, other in zip(runs["one"], runs["parts"], strict=True):
        assert json.loads(one)["terms"] == pytest.approx(json.loads(other)["terms"], rel=1e-5)
    assert list(json.loads(runs["one"][-1])["terms"]) == ["CrossEntropyLoss", "DynamicFeatureLoss"]


class Plain(nn.Module):
    """Without batch normalisation, whose statistics differ between whole batches and parts."""

    num_outputs, stride = 1, 1

    def __init__(self, num_classes):
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, num_classes, 1)

    def forward(self, image):
        return [self.head(self.features(image).relu())]


def test_padding_is_ignored_by_labels_and_outside_the_region(tiny):
    tiny["train_dataset"]["transforms"] = [{"type": "RandomCrop", "size": [48, 48], "padding_index": 254}, {"type": "Normalize"}]
    config = make_config(tiny | {"loss": beside_cross_entropy(CRF)})
    assert cross_check(config).classes is not None
    inputs = LossInputs(DenseCRFLoss(), config)
    mask = torch.tensor([[[0, 1, 255, 254]]], dtype=torch.uint8)
    labels, weight = inputs.labels(mask, 255)
    assert labels.tolist() == [[[0, 1, 255, 255]]]
    assert labels.dtype == torch.uint8
    assert weight.tolist() == [[[1, 1, 1, 0]]]
    crop = TRANSFORMS["RandomCrop"]((4, 4), padding_index=254, category_max_ratio=0.5)
    _, cut = crop(torch.zeros(3, 2, 4, dtype=torch.uint8), torch.tensor([[0, 0, 1, 1], [0, 255, 1, 1]], dtype=torch.uint8))
    assert cut[2:].eq(254).all()
    assert cut[1, 1] == 255


def test_padding_changes_no_step(tiny, tmp_path):
    """An image of 32x32 in a crop of 48x48: logits under the padding get no gradient from any loss."""
    tiny["train_dataset"]["transforms"] = [{"type": "RandomCrop", "size": [48, 48], "padding_index": 254}, {"type": "Normalize"}]
    config = make_config(tiny | {"loss": beside_cross_entropy(CRF)})
    mix = MixedLoss([DenseCRFLoss(max_cells=None)], [1])
    module = SegmentationModule(LightUNet(2, widths=(4, 8)), Classes(("a", "b"), ((0, 0, 0), (1, 1, 1))), mix, config)
    logits = torch.randn(1, 2, 48, 48, requires_grad=True)
    mask = torch.full((1, 48, 48), 255, dtype=torch.uint8)
    mask[:, 32:] = 254
    labels, weight = module.inputs.labels(mask, 255)
    module._loss_of(logits, labels, torch.zeros(1, 3, 48, 48), weight, training=True).backward()
    assert logits.grad[:, :, 32:].abs().max() == 0
    assert logits.grad[:, :, :32].abs().max() > 0


@pytest.mark.parametrize("label", [1, 255, 256, -1])
def test_padding_needs_a_label_of_its_own(tiny, label):
    tiny["train_dataset"]["transforms"] = [{"type": "RandomCrop", "size": [48, 48], "padding_index": label}, {"type": "Normalize"}]
    with pytest.raises(ConfigError, match=rf"is {label}; padded pixels need a label in 2\.\.255 that is no class") as caught:
        cross_check(make_config(tiny))
    assert caught.value.key_path == "train_dataset.transforms[0].padding_index"


def test_phases_require_what_any_of_them_requires():
    assert PhasedLoss([nn.Identity(), DynamicFeatureLoss()], [0, 1]).requires == ("image", "features")
