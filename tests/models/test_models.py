import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from evenseg.models import MODELS, SMP, ENet, LightUNet, OCRNet, OwnModel, TransformersSegformer, architectures, more_parameters

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def smp_with(arch):
    smallest = {"encoder_name": "resnet18"}
    if arch == "DPT":
        smallest = {"encoder_name": "tu-vit_tiny_patch16_224", "decoder_fusion_channels": 16}
        smallest["decoder_intermediate_channels"] = [8, 8, 16, 16]
    return lambda **keywords: SMP(3, arch, **smallest, **keywords)


def segformer(**keywords):
    pytest.importorskip("transformers", reason="transformers is not installed")
    return TransformersSegformer(3, **keywords)


MAKE = {
    "ENet": lambda **keywords: ENet(3, **keywords),
    "LightUNet": lambda **keywords: LightUNet(3, widths=(4, 8, 8), **keywords),
    "LightUNet aux": lambda **keywords: LightUNet(3, widths=(4, 8, 8), aux=True, **keywords),
    "OCRNet": lambda **keywords: OCRNet(3, **keywords),
    "TransformersSegformer": segformer,
    **{f"SMP {arch}": smp_with(arch) for arch in architectures()},
}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_model_has_a_case():
    assert {name.split()[0] for name in MAKE} == set(MODELS)
    assert sum(name.startswith("SMP ") for name in MAKE) == len(architectures()) >= 12


@pytest.mark.parametrize("name", MAKE)
def test_any_size_and_any_number_of_channels(name):
    torch.manual_seed(0)
    model = MAKE[name](in_channels=5).eval()
    image = torch.randn(1, 5, 61, 50)
    padded = torch.zeros(1, 5, 61 + -61 % model.stride, 50 + -50 % model.stride)
    padded[:, :, :61, :50] = image
    with torch.no_grad():
        outputs, whole = model(image), model(padded)
    assert isinstance(outputs, list)
    assert len(outputs) == model.num_outputs
    for output, larger in zip(outputs, whole, strict=True):
        assert output.shape == (1, 3, 61, 50)
        assert larger.shape == (1, 3, *padded.shape[2:])
        torch.testing.assert_close(output, larger[:, :, :61, :50])


@pytest.mark.parametrize("name", MAKE)
def test_every_weight_learns(name):
    torch.manual_seed(0)
    model = MAKE[name]()
    outputs = model(torch.randn(2, 3, 37, 51))
    assert {output.shape for output in outputs} == {(2, 3, 37, 51)}
    sum(output.square().mean() for output in outputs).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    ("arch", "keywords", "idle"),
    [
        ("PSPNet", {}, ("encoder.layer3.", "encoder.layer4.")),
        ("Unet", {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 8]}, ("encoder.layer4.",)),
        ("Unet", {}, ()),
    ],
)
def test_parts_that_an_architecture_does_not_use_are_not_trained(arch, keywords, idle):
    model = SMP(2, arch, encoder_name="resnet18", **keywords)
    for name, parameter in model.network.named_parameters():
        assert parameter.requires_grad is not name.startswith(idle or ("-",)), name


class Small(nn.Module):
    stride = 4

    def __init__(self, channels=3):
        super().__init__()
        self.main, self.side = nn.Conv2d(channels, 2, 4, stride=4), nn.Conv2d(channels, 2, 2, stride=2)

    def forward(self, image):
        assert image.shape[-2] % 4 == image.shape[-1] % 4 == 0
        return {"out": self.main(image), "aux": self.side(image)}


def test_a_network_of_ones_own_is_padded_and_its_logits_get_the_images_size():
    model = OwnModel(Small(5), in_channels=5).eval()
    assert (model.num_outputs, model.stride) == (2, 4)
    image = torch.randn(1, 5, 61, 50)
    with torch.no_grad():
        main, side = model(image)
        padded = nn.functional.pad(image, (0, 2, 0, 3))
        coarse = model.network.main(padded)
    assert main.shape == side.shape == (1, 2, 61, 50)
    resized = nn.functional.interpolate(coarse, size=(64, 52), mode="bilinear", align_corners=False)
    assert torch.equal(main, resized[..., :61, :50])


def test_torchvisions_models_fit_as_they_are():
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    model = OwnModel(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)).eval()
    with torch.no_grad():
        (logits,) = model(torch.randn(1, 3, 61, 50))
    assert logits.shape == (1, 3, 61, 50)


DOCUMENTED = re.findall(r"^\| `(\{type: .*\})` \| ([\d.]+) M \| (\d) \| (\d+) \|$", PAGE, re.M)


def test_the_page_lists_every_model():
    listed = [yaml.safe_load(section) for section, *_ in DOCUMENTED]
    assert {section["type"] for section in listed} == set(MODELS)
    assert {section["arch"] for section in listed if section["type"] == "SMP"} == set(architectures())


@pytest.mark.parametrize(("section", "millions", "outputs", "stride"), DOCUMENTED)
def test_the_page_says_what_is_built(section, millions, outputs, stride):
    keywords = yaml.safe_load(section)
    name = keywords.pop("type")
    if name == "TransformersSegformer":
        pytest.importorskip("transformers", reason="transformers is not installed")
    # without memory, where the encoder can be built so
    with torch.device("cpu" if "mit_" in section else "meta"):
        model = MODELS[name](19, **keywords)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert (f"{trained / 1e6:.2f}", model.num_outputs, model.stride) == (millions, int(outputs), int(stride))


def test_enet_size_is_the_papers():
    # 0.36 million; by hand for stage 1: 4 * (2 * 64 * 16 + 9 * 16 * 16 + norms and slopes)
    assert parameters(ENet(2)) == 355_447
    assert parameters(ENet(19)) - parameters(ENet(2)) == 17 * 16 * 9
    norms_and_slopes = 3 * (16 + 16 + 64) + 64
    assert parameters(ENet(2).stage1) == 4 * (2 * 64 * 16 + 9 * 16 * 16 + norms_and_slopes)


def test_enet_layout():
    model = ENet(5)
    dilations = [
        [m.dilation[0] for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for block in model.stage2
    ]
    assert dilations == [[1], [2], [], [4], [1], [8], [], [16]]
    asymmetric = [m.kernel_size for m in model.stage3[2].modules() if isinstance(m, nn.Conv2d)]
    assert asymmetric == [(1, 1), (5, 1), (1, 5), (1, 1)]
    assert not any(isinstance(module, nn.PReLU) for stage in (model.up4, model.stage4) for module in stage.modules())
    assert {m.p for m in model.stage1.modules() if isinstance(m, nn.Dropout2d)} == {0.01}
    assert {m.p for m in model.stage2.modules() if isinstance(m, nn.Dropout2d)} == {0.1}


@pytest.mark.parametrize(("channels", "filters", "mixed"), [(1, 15, 0), (3, 13, 0), (20, 13, 3)])
def test_enet_starts_with_sixteen_channels_whatever_the_image_has(channels, filters, mixed):
    start = ENet(2, in_channels=channels).initial
    assert start.convolution.weight.shape == (filters, channels, 3, 3)
    assert parameters(start.mix) == mixed * channels
    assert start(torch.randn(2, channels, 8, 8)).shape == (2, 16, 4, 4)


def test_smp_keywords_come_from_the_architecture():
    names = more_parameters("SMP", {"arch": "Unet"})
    assert {"encoder_name", "encoder_weights", "decoder_channels"} <= set(names)
    assert not {"classes", "activation", "in_channels"} & set(names)
    assert more_parameters("ENet", {}) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ENet(0), "num_classes must be at least 1"),
        (lambda: ENet(2, in_channels=0), "in_channels must be at least 1, got 0"),
        (lambda: ENet(2, dropout=1.0), "dropout must be in"),
        (lambda: LightUNet(2, widths=()), "widths must be positive"),
        (lambda: LightUNet(0), "num_classes"),
        (lambda: SMP(2, "Unett"), r"unknown arch 'Unett'; allowed: .*; did you mean 'Unet'\?"),
        (lambda: SMP(2, encoder_name="resnet1818"), r"unknown encoder_name 'resnet1818'; allowed: resnet18, .*did you mean 'resnet18'\?"),
        (lambda: SMP(2, encoder_name="tu-hrnet_w19"), r"unknown encoder_name 'tu-hrnet_w19'; .*did you mean 'tu-hrnet_w18'\?"),
        (lambda: SMP(2, "DeepLabV3Plus", encoder_name="tu-hrnet_w18"),
         "DeepLabV3Plus cannot be built on tu-hrnet_w18: this encoder cannot keep the resolution that it needs"),
        (lambda: SMP(2, encoder_name="resnet18", decoder_channel=[8]), r"'decoder_channel'; .*did you mean 'decoder_channels'"),
    ],
)  # fmt: skip
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_without_transformers_its_model_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="needs the package transformers, which is not installed") as caught:
        TransformersSegformer(2)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown variant 'b9'; allowed: b0, b1"):
        TransformersSegformer(2, variant="b9")


def test_segformer_sizes_are_the_papers():
    # table 1 of the paper: encoder 3.4 and decoder 0.4 million for B0, 81.4 and 3.3 for B5
    pytest.importorskip("transformers", reason="transformers is not installed")
    with torch.device("meta"):
        sizes = {variant: parameters(TransformersSegformer(150, variant=variant)) for variant in ("b0", "b5")}
    assert {variant: round(size / 1e6, 1) for variant, size in sizes.items()} == {"b0": 3.8, "b5": 84.7}
