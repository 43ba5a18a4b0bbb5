"""From the loss section of a config to a module."""

from collections import OrderedDict

import pytest
import torch
from cases import close

import evenseg
from evenseg import build_loss
from evenseg import losses as L
from evenseg.losses.build import LossConfigError
from evenseg.losses.edge_network import EdgeNetwork

SECTION = {
    "types": [
        {
            "type": "MixedLoss",
            "losses": [{"type": "CrossEntropyLoss"}, {"type": "LovaszSoftmaxLoss"}],
            "coef": [0.8, 0.2],
        },
        {"type": "CrossEntropyLoss"},
    ],
    "coef": [1, 0.4],
}


def data():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (2, 16, 12), generator=g)
    y[0, :2] = 255
    return torch.randn(2, 3, 16, 12, generator=g), torch.randn(2, 3, 8, 6, generator=g), y


def test_the_section_of_the_design():
    main, auxiliary, y = data()
    loss = build_loss(SECTION, num_classes=3, ignore_index=255)
    value = loss([main, auxiliary], y)
    resized = torch.nn.functional.interpolate(auxiliary, size=(16, 12), mode="bilinear", align_corners=False)
    ce = L.CrossEntropyLoss()
    expected = 0.8 * ce(main, y) + 0.2 * L.LovaszSoftmaxLoss()(main, y) + 0.4 * ce(resized, y)
    assert close(value, expected, 1e-6)
    assert list(loss.terms) == ["output0.CrossEntropyLoss", "output0.LovaszSoftmaxLoss", "output1.CrossEntropyLoss"]
    assert close(loss.terms["output1.CrossEntropyLoss"], ce(resized, y), 1e-6)
    assert not any(term.requires_grad for term in loss.terms.values())


def test_one_type_serves_all_outputs():
    main, _, y = data()
    loss = build_loss({"types": [{"type": "DiceLoss"}], "coef": [1, 0.4, 0.2]})
    assert close(loss([main, main, main], y), 1.6 * L.DiceLoss()(main, y), 1e-6)
    assert list(loss.terms) == [f"output{i}.DiceLoss" for i in range(3)]


def test_a_bare_loss_and_a_bare_tensor():
    main, _, y = data()
    loss = build_loss({"type": "DiceLoss", "smooth_num": 1, "smooth_den": 1, "classes": [0, 2]})
    expected = L.DiceLoss(smooth_num=1, smooth_den=1, classes=[0, 2])(main, y)
    assert torch.equal(loss(main, y), expected)
    assert torch.equal(loss([main], y), expected)
    assert list(loss.terms) == ["DiceLoss"]
    weight = torch.rand(y.shape)
    assert torch.equal(loss(main, y, weight), L.DiceLoss(smooth_num=1, smooth_den=1, classes=[0, 2])(main, y, weight))


def test_a_mapping_counts_in_its_order():
    # what torchvision's DeepLabV3 and FCN return
    main, auxiliary, y = data()
    loss = build_loss(SECTION, num_classes=3, ignore_index=255)
    assert torch.equal(loss(OrderedDict(out=main, aux=auxiliary), y), loss([main, auxiliary], y))
    single = build_loss({"type": "DiceLoss"})
    assert torch.equal(single({"out": main}, y), single(main, y))
    with pytest.raises(ValueError, match=r"the model gives 2 outputs, the loss section has 1 \(one entry of loss.coef per"):
        single({"out": main, "aux": auxiliary}, y)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: {"out": x, "aux": None}, "output 'aux' of the model is a NoneType; a loss takes tensors of logits"),
        (lambda x: 3, "the model gives a int; a loss takes a tensor, a list or a mapping of them"),
        (lambda x: [[x], x], "output 0 of the model is a list"),
    ],
)
def test_outputs_that_are_no_tensors(wrap, message):
    main, _, y = data()
    with pytest.raises(ValueError, match=message):
        build_loss(SECTION)(wrap(main), y)


def test_torchvision_outputs_train():
    import evenseg._torchvision  # noqa: F401  (first: lets torchvision import beside a CPU torch)
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large  # isort: skip

    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    outputs = model(torch.randn(2, 3, 32, 32))
    assert list(outputs) == ["out"]
    build_loss({"type": "LovaszSoftmaxLoss"})(outputs, torch.arange(2048).view(2, 32, 32) % 3).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(20,), (6, 5), (4, 5, 3)])
def test_outputs_are_resized_in_any_dimension(shape):
    coarse = torch.randn(2, 3, *[max(1, s // 2) for s in shape], generator=torch.manual_seed(0))
    y = torch.randint(0, 3, (2, *shape), generator=torch.manual_seed(0))
    kind = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    resized = torch.nn.functional.interpolate(coarse, size=shape, mode=kind, align_corners=False)
    assert torch.equal(build_loss({"type": "DiceLoss"})(coarse, y), L.DiceLoss()(resized, y))


def test_ignore_index_of_the_data_unless_set():
    loss = build_loss({"types": [{"type": "MixedLoss", "coef": [1, 1], "losses": [
        {"type": "DiceLoss"}, {"type": "DiceLoss", "ignore_index": 7}]}], "coef": [1]}, ignore_index=0)  # fmt: skip
    assert [part.ignore_index for part in loss.losses[0].losses] == [0, 7]
    assert build_loss({"type": "DiceLoss", "ignore_index": None}, ignore_index=0).losses[0].ignore_index is None


def test_every_loss_builds_from_its_name():
    for name, cls in L.LOSSES.items():
        section = {"type": name}
        if name == "MixedLoss":
            section |= {"losses": [{"type": "DiceLoss"}], "coef": [2]}
        if name == "SemanticEdgeAwareLoss":
            with pytest.raises(LossConfigError, match=r"^loss: SemanticEdgeAwareLoss needs the keyword 'edges'"):
                build_loss(section)
            section["edges"] = EdgeNetwork(2, hidden=4)
        loss = build_loss(section)
        assert type(loss.losses[0]) is cls
    assert evenseg.build_loss is build_loss


def test_weights_are_buffers_that_follow_the_module():
    loss = build_loss({"type": "CrossEntropyLoss", "weight": [1, 2, 3]}, num_classes=3)
    assert [name for name, _ in loss.named_buffers()] == ["losses.0.weight"]
    assert loss.to("meta").losses[0].weight.device.type == "meta"
