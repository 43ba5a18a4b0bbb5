import pytest
import torch
from torch import nn

from evenseg.models import OCRNet
from evenseg.models.ocrnet import ObjectAttention, object_regions


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def ocrnet():
    torch.manual_seed(0)
    return OCRNet(19)


def test_parameters_are_those_of_the_published_configuration(ocrnet):
    # 9.562 + 2.521 million; PaddleSeg's OCRNet-HRNet-W18 at 19 classes has 12.1
    trunk, total = parameters(ocrnet.backbone), parameters(ocrnet)
    assert (trunk, total - trunk) == (9_562_260, 2_520_862)
    assert round(total / 1e6, 2) == 12.08
    # per class: one row of 270 and one of 512 weights, each with a bias
    assert parameters(OCRNet(2)) == total - 17 * (270 + 1 + 512 + 1)


def test_w48_joins_720_channels():
    with torch.device("meta"):
        model = OCRNet(19, backbone="hrnet_w48")
    assert model.auxiliary[0][0].in_channels == 720
    assert parameters(model) == 65_325_120 + 5_049_862


def test_main_output_comes_first_and_depends_on_the_auxiliary(ocrnet):
    ocrnet.eval()
    image = torch.randn(1, 3, 40, 70)
    with torch.no_grad():
        main, auxiliary = ocrnet(image)
        assert main.shape == auxiliary.shape == (1, 19, 40, 70)
        ocrnet.auxiliary[1].bias += 1
        shifted_main, shifted = ocrnet(image)
        # a softmax over the pixels ignores what is added to all of them
        torch.testing.assert_close(shifted_main, main, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(shifted, auxiliary + 1, rtol=1e-5, atol=1e-3)
        ocrnet.head.bias += 1
        torch.testing.assert_close(ocrnet(image)[0], shifted_main + 1, rtol=1e-5, atol=1e-3)
        ocrnet.head.bias -= 1
        ocrnet.auxiliary[1].bias -= 1


def test_every_weight_of_the_head_learns_from_the_main_output_alone():
    torch.manual_seed(0)
    model = OCRNet(2)
    main, _ = model(torch.randn(2, 3, 64, 64))
    main.square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_object_regions_are_weighted_means():
    torch.manual_seed(0)
    pixels, logits = torch.randn(2, 5, 3, 4), torch.randn(2, 3, 3, 4)
    regions = object_regions(pixels, logits)
    assert regions.shape == (2, 5, 3, 1)
    for image in range(2):
        for label in range(3):
            weight = logits[image, label].exp() / logits[image, label].exp().sum()
            torch.testing.assert_close(regions[image, :, label, 0], (pixels[image] * weight).sum((1, 2)))
    # one pixel that is certain is the object
    logits[0, 1, 2, 3] = 100
    torch.testing.assert_close(object_regions(pixels, logits)[0, :, 1, 0], pixels[0, :, 2, 3])


def test_object_regions_in_half_precision():
    pixels = torch.ones(1, 1, 1024, 512, dtype=torch.float16)
    regions = object_regions(pixels, torch.zeros(1, 2, 1024, 512, dtype=torch.float16))
    assert regions.dtype == torch.float16
    assert regions.flatten().tolist() == pytest.approx([1, 1], rel=1e-3)


def test_attention_is_the_formula():
    torch.manual_seed(0)
    attention = ObjectAttention(8, 4).eval()
    pixels, objects = torch.randn(1, 8, 2, 3), torch.randn(1, 8, 5, 1)
    with torch.no_grad():
        context = attention(pixels, objects)
        keys, values = attention.key(objects)[0, :, :, 0], attention.down(objects)[0, :, :, 0]
        query = attention.query(pixels)[0]
        for row in range(2):
            for column in range(3):
                likeness = (query[:, row, column] @ keys / 2).softmax(0)
                mixed = (values @ likeness).view(1, 4, 1, 1)
                torch.testing.assert_close(context[0, :, row, column], attention.up(mixed)[0, :, 0, 0])


def test_options():
    model = OCRNet(2, dropout=0.3, align_corners=True, in_channels=5).eval()
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout2d)} == {0.3}
    coarse = []
    model.head.register_forward_hook(lambda module, inputs, output: coarse.append(output))
    with torch.no_grad():
        main, _ = model(torch.randn(1, 5, 64, 64))
    assert main.shape == (1, 2, 64, 64)
    # with aligned corners a corner pixel is the corner cell
    torch.testing.assert_close(main[..., 0, -1], coarse[0][..., 0, -1])


def test_branches_meet_by_bilinear_interpolation(ocrnet):
    meetings = [module for module in ocrnet.backbone.modules() if isinstance(module, nn.Upsample)]
    # upwards from each coarser branch: 1 module of 2 branches, 4 of 3, 3 of 4
    assert len(meetings) == 1 * 1 + 4 * 3 + 3 * 6
    assert {(module.mode, module.align_corners) for module in meetings} == {("bilinear", False)}


def test_the_head_starts_as_paddlesegs(ocrnet):
    convolutions = [module for module in ocrnet.join.modules() if isinstance(module, nn.Conv2d)]
    assert [module.weight.std().item() for module in convolutions] == [pytest.approx(0.001, rel=0.02)]
    assert not any(module.bias.any() for module in convolutions)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"backbone": "hrnet_w19"}, "unknown backbone 'hrnet_w19'; allowed: hrnet_w18, "),
        ({"pretrained": "imagenet"}, "pretrained: .* 'imagenet'; allowed: none, hrnet_w18.ms_"),
    ],
)
def test_bad_values(keywords, message):
    with pytest.raises(ValueError, match=message):
        OCRNet(**{"num_classes": 2} | keywords)
