"""Starting from weights of another run, and networks whose inputs or outputs are not the usual ones."""

import json
import shutil
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, resolve, resume, train
from evenseg.engine.checkpoints import list_checkpoints
from evenseg.models import LightUNet


def three_classes(make_folder):
    """Sections of a data set with one class more than SyntheticRoads."""
    masks = {split: {"a": np.arange(64).reshape(8, 8) % 3} for split in ("train", "val")}
    root = make_folder(masks, classes=("a", "b", "c"))
    return {
        f"{split}_dataset": {"type": "FolderDataset", "root": str(root), "split": split, "transforms": [{"type": "Normalize"}]}
        for split in ("train", "val")
    }


@pytest.fixture(scope="module")
def donor(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template | {"iters": 1}), tmp_path_factory.mktemp("donor") / "run")


def test_finetuning_on_other_classes_says_what_it_skipped(tiny, tmp_path, donor, make_folder, capfd):
    tiny |= three_classes(make_folder)
    tiny |= {"init_weights": str(donor), "iters": 1, "batch_size": 1, "optimizer": {"type": "SGD", "lr": 1e-12}}
    folder = train(make_config(tiny), tmp_path / "run")
    report = json.loads((folder / "init_weights.json").read_text())
    assert report["source"] == str(donor)
    assert report["other_shape"] == {
        "head.weight": {"file": [2, 4, 1, 1], "network": [3, 4, 1, 1]},
        "head.bias": {"file": [2], "network": [3]},
    }
    assert (report["missing"], report["unused"]) == ({}, {})
    said = capfd.readouterr().err
    assert said.count("init_weights: ") == 1
    assert "  skipped: head.weight: (2, 4, 1, 1) in the file, (3, 4, 1, 1) in the network\n" in said
    old, new = (load_file(path / "checkpoints" / "best.safetensors") for path in (donor, folder))
    trained = [name for name in report["loaded"] if name.endswith(("weight", "bias"))]
    assert len(trained) > 10
    for name in trained:
        torch.testing.assert_close(new[name], old[name])


def test_a_run_needs_its_first_weights_no_more(tiny, tmp_path, donor):
    weights = shutil.copytree(donor, tmp_path / "copy") / "checkpoints" / "best.safetensors"
    tiny |= {"init_weights": str(weights), "iters": 1}
    folder = train(make_config(tiny), tmp_path / "run")
    weights.unlink()
    assert evaluate(folder)["miou"] == json.loads((folder / "summary.json").read_text())["best"]["miou"]
    assert resolve(make_config(tiny), fresh=False).build_model(pretrained=False).num_outputs == 1


@pytest.mark.parametrize("checkpoints", [0, 1])
def test_going_on_needs_them_where_there_is_no_checkpoint_yet(tiny, tmp_path, donor, checkpoints):
    weights = shutil.copytree(donor, tmp_path / "copy") / "checkpoints" / "best.safetensors"
    tiny |= {"init_weights": str(weights), "iters": 2, "eval_interval": 1, "checkpoint_interval": 1}
    folder = train(make_config(tiny), tmp_path / "run")
    ended = load_file(folder / "checkpoints" / "best.safetensors")
    # as if it had been killed behind its first step, or before it
    (folder / "summary.json").unlink()
    for file in list_checkpoints(folder / "checkpoints")[: 2 - checkpoints]:
        file.unlink()
    if checkpoints:
        weights.unlink()
    resume(folder)
    again = load_file(folder / "checkpoints" / "best.safetensors")
    assert all(torch.equal(again[name], value) for name, value in ended.items())
    if not checkpoints:
        (folder / "summary.json").unlink()
        for file in list_checkpoints(folder / "checkpoints"):
            file.unlink()
        weights.unlink()
        with pytest.raises(ConfigError, match="init_weights: there is no file"):
            resume(folder)


def test_an_encoder_from_a_file_is_not_needed_for_an_evaluation(tiny, tmp_path):
    from evenseg.models import SMP

    file = tmp_path / "encoder.pth"
    torch.save(SMP(2, encoder_name="resnet18").network.encoder.state_dict(), file)
    tiny["model"] = {"type": "SMP", "arch": "FPN", "encoder_name": "resnet18", "pretrained": str(file)}
    folder = train(make_config(tiny | {"iters": 1}), tmp_path / "run")
    file.unlink()
    assert evaluate(folder)["images"] == 3
    with pytest.raises(ConfigError, match=r"^model: there is no file .*encoder.pth"):
        resolve(make_config(tiny))


def test_torchvisions_network_is_measured_without_the_network(tiny, tmp_path, monkeypatch):
    def offline(*args, **keywords):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = "torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    tiny |= {"model": {"type": network, "weights_backbone": None}, "iters": 1}
    folder = train(make_config(tiny), tmp_path / "run")
    assert evaluate(folder)["images"] == 3
    tiny["model"] = {"type": network}
    with pytest.raises(ConfigError, match=r"^model: <urlopen error Name or service not known>"):
        resolve(make_config(tiny))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "gone.safetensors", r"there is no file .*gone\.safetensors"),
        (lambda path: path, "is no run folder with weights"),
        (lambda path: save_file(LightUNet(2, widths=(32, 64)).state_dict(), path / "w.safetensors") or path / "w.safetensors",
         r"holds the weights of another network: \d of its \d+ tensors fit LightUNet"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_used_stop_before_anything_is_written(tiny, tmp_path, make, message):
    tiny["init_weights"] = str(make(tmp_path))
    with pytest.raises(ConfigError, match=rf"^tiny\.yml: init_weights: .*{message}"):
        train(make_config(tiny, file="tiny.yml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def five_channels(tmp_path, tiny):
    """The tiny configuration on images of five channels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 65536, (40, 33, 5)).astype(np.uint16))
        mask = rng.integers(0, 2, (40, 33)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.txt").write_text("a.npy a.png\nb.npy b.png\n")
    normalize = {"type": "Normalize", "mean": [0.5], "std": [0.5]}
    for split in ("train", "val"):
        tiny[f"{split}_dataset"] = {"type": "ListDataset", "root": str(tmp_path), "file": "pairs.txt", "channels": 5,
                                    "classes": ["ground", "road"], "transforms": [normalize]}  # fmt: skip
    return tiny | {"iters": 1}


def test_the_network_takes_as_many_channels_as_the_images_have(five_channels, tmp_path):
    folder = train(make_config(five_channels), tmp_path / "run")
    weights = load_file(folder / "checkpoints" / "best.safetensors")
    assert weights["encoder.0.0.weight"].shape[1] == 5
    assert evaluate(folder)["images"] == 2
    shown = np.asarray(Image.open(folder / "overlays" / "a_image.png"))
    assert (shown.shape, shown.min(), shown.max()) == ((40, 33, 3), 0, 255)


def test_channels_that_do_not_fit_are_named(five_channels):
    five_channels["model"]["in_channels"] = 4
    with pytest.raises(ConfigError, match=r"^model.in_channels: is 4, but the images of train_dataset have 5 channels"):
        resolve(make_config(five_channels))
