import pytest
import torch
from torch import nn

from evenseg.models import MODELS, SMP, ENet, LightUNet, OCRNet, architectures, more_parameters

MAKE = {
    "ENet": lambda: ENet(3),
    "LightUNet": lambda: LightUNet(3, widths=(4, 8, 8)),
    "OCRNet": lambda: OCRNet(3),
    "SMP": lambda: SMP(3, "Unet", encoder_name="resnet18", encoder_weights=None),
}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_model_has_a_case():
    assert set(MAKE) == set(MODELS)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("size", [(64, 64), (37, 51)])
def test_logits_have_the_image_size_and_every_weight_learns(name, size):
    torch.manual_seed(0)
    model = MAKE[name]()
    outputs = model(torch.randn(2, 3, *size))
    assert isinstance(outputs, list)
    assert len(outputs) == model.num_outputs
    assert {output.shape for output in outputs} == {(2, 3, *size)}
    sum(output.square().mean() for output in outputs).backward()
    untouched = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert untouched == []


@pytest.mark.parametrize("name", MAKE)
def test_an_odd_size_is_the_padded_image_cut_back(name):
    model = MAKE[name]().eval()
    image = torch.randn(1, 3, 61, 50)
    padded = torch.zeros(1, 3, 64, 64)
    padded[:, :, :61, :50] = image
    if model.stride < 32:
        padded = padded[:, :, :, : 50 + -50 % model.stride]
    with torch.no_grad():
        assert torch.equal(model(image)[0], model(padded)[0][:, :, :61, :50])


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


@pytest.mark.parametrize("arch", ["FPN", "DeepLabV3Plus", "Linknet"])
def test_other_smp_architectures_take_any_size(arch):
    model = SMP(2, arch, encoder_name="resnet18").eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 65, 70))[0].shape == (1, 2, 65, 70)


def test_smp_errors():
    assert "Unet" in architectures()
    with pytest.raises(ValueError, match=r"unknown arch 'Unett'; allowed: .*Unet"):
        SMP(2, "Unett")
    with pytest.raises(ValueError, match="resnet1818"):
        SMP(2, "Unet", encoder_name="resnet1818")


def test_smp_keywords_come_from_the_architecture():
    names = more_parameters("SMP", {"arch": "Unet"})
    assert {"encoder_name", "encoder_weights", "decoder_channels"} <= set(names)
    assert not {"classes", "activation", "in_channels"} & set(names)
    assert more_parameters("ENet", {}) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ENet(0), "num_classes must be at least 1"),
        (lambda: ENet(2, dropout=1.0), "dropout must be in"),
        (lambda: LightUNet(2, widths=()), "widths must be positive"),
        (lambda: LightUNet(0), "num_classes"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
