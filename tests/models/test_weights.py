import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evenseg.models import (
    SMP,
    ENet,
    LightUNet,
    OCRNet,
    TransformersSegformer,
    load_fitting,
    read_weights,
    without_pretrained,
)
from evenseg.models.pretrained import timm_trunk


def equal(one, other):
    """Names of the tensors that two networks have in common, with the same values."""
    one, other = one.state_dict(), other.state_dict()
    return [name for name in one if name in other and one[name].shape == other[name].shape and torch.equal(one[name], other[name])]


def small(num_classes=2, **keywords):
    return LightUNet(num_classes, widths=(4, 8), **keywords)


@pytest.fixture
def trained(tmp_path):
    """A network and the file with its weights."""
    torch.manual_seed(1)
    model = small(5)
    save_file(model.state_dict(), tmp_path / "trained.safetensors")
    return model, tmp_path / "trained.safetensors"


def test_another_number_of_classes_loads_what_fits(trained):
    old, file = trained
    torch.manual_seed(2)
    new = small(3)
    head = {name: value.clone() for name, value in new.state_dict().items() if name.startswith("head")}
    report = load_fitting(new, read_weights(file), file)
    assert report.other_shape == {"head.weight": ((5, 4, 1, 1), (3, 4, 1, 1)), "head.bias": ((5,), (3,))}
    assert (report.missing, report.unused) == ({}, {})
    assert set(report.loaded) == set(equal(old, new)) == set(old.state_dict()) - set(head)
    assert all(torch.equal(new.state_dict()[name], value) for name, value in head.items())
    lines = str(report).splitlines()
    assert lines[0] == f"{file}: {len(report.loaded)} of the network's {len(new.state_dict())} tensors loaded"
    assert lines[1:] == [
        "  skipped: head.weight: (5, 4, 1, 1) in the file, (3, 4, 1, 1) in the network",
        "  skipped: head.bias: (5,) in the file, (3,) in the network",
    ]
    assert report.to_dict()["other_shape"]["head.bias"] == {"file": [5], "network": [3]}


def test_more_channels_of_the_image_are_reported_too(trained):
    _, file = trained
    report = load_fitting(small(5, in_channels=4), read_weights(file), file)
    assert list(report.other_shape) == ["encoder.0.0.weight"]


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "_orig_mod.", "model._orig_mod.", "network."])
def test_checkpoints_as_training_programs_write_them(trained, tmp_path, wrapper, prefix):
    old, _ = trained
    content = {prefix + name: value for name, value in old.state_dict().items()}
    content["loss.weight"] = torch.ones(5)
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "last.ckpt")
    new = small(5)
    report = load_fitting(new, read_weights(tmp_path / "last.ckpt"), "last.ckpt")
    assert len(equal(old, new)) == len(report.loaded) == len(old.state_dict())


def test_a_prefix_that_the_network_has_is_put_before(tmp_path):
    model = SMP(2, encoder_name="resnet18")
    torch.save(model.network.state_dict(), tmp_path / "plain.pth")
    other = SMP(2, encoder_name="resnet18")
    assert load_fitting(other, read_weights(tmp_path / "plain.pth"), "plain").missing == {}
    assert len(equal(model, other)) == len(model.state_dict())


def test_a_run_folder_gives_its_best_weights(trained, tmp_path):
    old, file = trained
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    file.rename(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert read_weights(tmp_path / "run").keys() == old.state_dict().keys()
    with pytest.raises(FileNotFoundError, match=r"is no run folder with weights: it has no checkpoints/best.safetensors"):
        read_weights(tmp_path)


class Tripwire:
    def __reduce__(self):
        return (pytest.fail, ("the file ran code",))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("gone.pth", None, "there is no file"),
        ("code.pth", lambda file: torch.save({"state_dict": Tripwire()}, file), "holds more than tensors and plain values"),
        ("cut.pth", lambda file: file.write_bytes(b"PK\x03\x04 cut"), "is damaged"),
        ("empty.pth", lambda file: file.write_bytes(b""), "is damaged"),
        ("text.safetensors", lambda file: file.write_bytes(b"no weights"), "is no readable safetensors file"),
        ("list.pth", lambda file: torch.save([torch.ones(2)], file), "holds no weights"),
        ("numbers.pth", lambda file: torch.save({"state_dict": {"epoch": 3}}, file), "holds no weights"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, write, message):
    file = tmp_path / name
    if write is not None:
        write(file)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_weights(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused_and_nothing_changes(trained):
    _, file = trained
    model = ENet(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"holds the weights of another network: 0 of its \d+ tensors fit ENet, which has") as caught:
        load_fitting(model, read_weights(file), file)
    assert "(the largest is encoder.1.3.weight (8, 8, 3, 3) in the file, stage2.0.branch.3.weight (32, 32, 3, 3)" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    wider = LightUNet(5, widths=(16, 32))
    with pytest.raises(ValueError, match="another network"):
        load_fitting(wider, read_weights(file), file)


def test_old_checkpoints_without_counters_of_batches(trained):
    old, _ = trained
    weights = {name: value for name, value in old.state_dict().items() if "num_batches" not in name}
    assert load_fitting(small(5), weights, "old").missing == {}


def test_weights_of_an_encoder_alone_fit_a_whole_network(tmp_path):
    torch.manual_seed(0)
    encoder = SMP(2, encoder_name="resnet18").network.encoder
    names = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    report = load_fitting(SMP(2, "DeepLabV3Plus", encoder_name="resnet18"), names, "encoder")
    assert len(report.loaded) == len(names)
    assert all(".encoder." not in name for name in report.missing)
    assert str(report).splitlines()[-1] == f"  not in the file: {len(report.missing) - 8} more"


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_a_trunk_from_a_file(tmp_path, in_channels):
    import timm

    torch.manual_seed(0)
    # with the classifier that such files have
    classifier = timm.create_model("hrnet_w18_small", pretrained=False)
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "hrnet.pth")
    model = OCRNet(2, backbone="hrnet_w18_small", pretrained=str(tmp_path / "hrnet.pth"), in_channels=in_channels)
    assert len(equal(model.backbone, classifier)) == len(model.backbone.state_dict()) - (in_channels != 3)
    if in_channels == 1:
        # a grey image counts as the same image in three channels
        grey = torch.randn(1, 1, 32, 32)
        torch.testing.assert_close(model.backbone.conv1(grey), classifier.conv1(grey.expand(1, 3, 32, 32)))
    with pytest.raises(ValueError, match=r"another network|lacks \d+ of the \d+ tensors of this trunk"):
        OCRNet(2, backbone="hrnet_w18", pretrained=str(tmp_path / "hrnet.pth"))


def test_an_encoder_of_smp_from_a_file(tmp_path):
    donor = SMP(2, encoder_name="resnet18").network.encoder
    torch.save(donor.state_dict(), tmp_path / "resnet18.pth")
    model = SMP(3, "UPerNet", encoder_name="resnet18", pretrained=str(tmp_path / "resnet18.pth"))
    assert len(equal(donor, model.network.encoder)) == len(donor.state_dict())
    with pytest.raises(ValueError, match=r"lacks \d+ of the \d+ tensors of this trunk"):
        SMP(3, encoder_name="resnet34", pretrained=str(tmp_path / "resnet18.pth"))
    with pytest.raises(FileNotFoundError, match=r"there is no file gone\.pth"):
        SMP(3, encoder_name="resnet18", pretrained="gone.pth")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: OCRNet(2, pretrained="hrnet_w18_ssld.paddle_in1k"), "hrnet_w18_ssld.paddle_in1k"),
        (lambda: OCRNet(2, pretrained="ms_in1k"), "hrnet_w18.ms_in1k"),
        (lambda: SMP(2, encoder_name="resnet18", pretrained="imagenet"), "imagenet"),
        (lambda: SMP(2, encoder_name="resnet18", encoder_weights="imagenet"), "imagenet"),
        (lambda: SMP(2, encoder_name="tu-resnet18.a1_in1k", pretrained="imagenet"), "imagenet"),
    ],
)
def test_weights_that_cannot_be_fetched(make, name, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=f"pretrained: the weights '{name}' are not in the local cache and cannot be fetched") as caught:
        make()
    assert str(caught.value).endswith("write none, or the path of a file that holds them")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_belong_to_the_network():
    with pytest.raises(ValueError, match=r"hrnet_w18_ssld.paddle_in1k are weights of hrnet_w18_ssld, .* otherwise than hrnet_w48"):
        timm_trunk("hrnet_w48", "hrnet", "hrnet_w18_ssld.paddle_in1k", 3, feature_location="")
    with pytest.raises(ValueError, match=r"Wrong pretrained weights `imagenette`.*Available options are"):
        SMP(2, encoder_name="resnet18", pretrained="imagenette")
    with pytest.raises(ValueError, match="say the same thing; give one"):
        SMP(2, encoder_name="resnet18", pretrained="a", encoder_weights="b")


def test_evaluation_needs_no_pretrained_weights():
    from torchvision.models.segmentation import fcn_resnet50

    section = {"pretrained": "imagenet", "encoder_weights": "imagenet", "dropout": 0.2}
    assert without_pretrained(SMP, section) == {"pretrained": "none", "encoder_weights": "none", "dropout": 0.2}
    assert isinstance(SMP(2, encoder_name="resnet18", pretrained="none", encoder_weights="none"), nn.Module)
    assert without_pretrained(fcn_resnet50, {"aux_loss": True}) == {"aux_loss": True, "weights": None, "weights_backbone": None}


def test_segformer_of_transformers_loads_a_folder_with_other_classes(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    donor = TransformersSegformer(3)
    donor.network.save_pretrained(tmp_path / "mit")
    model = TransformersSegformer(5, pretrained=str(tmp_path / "mit"))
    assert len(equal(donor, model)) == len(model.state_dict()) - 2
    with pytest.raises(FileNotFoundError, match=r"there is no file gone\.safetensors"):
        TransformersSegformer(5, pretrained="gone.safetensors")
