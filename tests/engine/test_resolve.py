import numpy as np
import pytest
import torch

from evenseg.config import ConfigError, make_config
from evenseg.data import FolderDataset
from evenseg.engine import check_signatures, resolve


def folder_section(root, split="train", **keywords):
    section = {"type": "FolderDataset", "root": str(root), "split": split, "transforms": [{"type": "Normalize"}]}
    return section | keywords


def masks(**values):
    return {split: {"a": np.array([[0, 1, value, 1]] * 4)} for split, value in values.items()}


def test_a_good_configuration_gives_the_parts(tiny):
    experiment = resolve(make_config(tiny))
    model, loss = experiment.build_model(), experiment.build_loss()
    value = loss(model(torch.randn(2, 3, 32, 32)), torch.zeros(2, 32, 32, dtype=torch.uint8))
    assert value.item() > 0
    assert experiment.classes.names == ("ground", "road")


@pytest.mark.parametrize(
    ("path", "value", "key_path", "parts"),
    [
        ("model.type", "Enet", "model.type", ["unknown model type 'Enet'", "did you mean 'ENet'"]),
        ("model.width", 3, "model.width", ["unknown key 'width'", "did you mean 'widths'"]),
        ("model.widths", "wide", "model.widths", ["got 'wide'"]),
        ("model.num_classes", 5, "model.num_classes", ["is 5", "data set has 2"]),
        ("optimizer.type", "adam", "optimizer.type", ["did you mean 'Adam'"]),
        ("optimizer.momentm", 0.9, "optimizer.momentm", ["unknown key 'momentm'"]),
        ("optimizer.lr", "fast", "optimizer.lr", ["got 'fast'"]),
        ("optimizer.lr", -1.0, "optimizer.lr", ["Invalid learning rate: -1.0"]),
        ("optimizer.betas", [2.0, 0.9], "optimizer.betas", ["Invalid beta parameter at index 0: 2.0"]),
        ("optimizer.params", [], "optimizer.params", ["is filled in by the run; leave it out"]),
        ("optimizer.weight", 1, "optimizer.weight", ["allowed: weight_decay, ", ", ... (10 in all); did you mean 'weight_decay'?"]),
        ("lr_scheduler.type", "Pol", "lr_scheduler.type", ["did you mean 'Poly'"]),
        ("lr_scheduler.power", "a", "lr_scheduler.power", ["got 'a'"]),
        ("lr_scheduler.warmup_iters", -2, "lr_scheduler.warmup_iters", ["must not be negative, got -2"]),
        ("train_dataset.type", "FolderDatset", "train_dataset.type", ["did you mean 'FolderDataset'"]),
        ("train_dataset.lenght", 3, "train_dataset.lenght", ["did you mean 'length'"]),
        ("train_dataset.split", "trian", "train_dataset.split", ["'train', 'val' or 'test'"]),
        ("train_dataset.transforms", [{"type": "RandomCrp"}], "train_dataset.transforms[0].type", ["'RandomCrop'"]),
        ("train_dataset.transforms", [{"type": "RandomCrop"}], "train_dataset.transforms[0].size", ["missing"]),
        ("train_dataset.transforms", [{"type": "RandomCrop", "size": [0, 4]}], "train_dataset.transforms[0].size",
         ["(0, 4)"]),
        ("train_dataset.transforms", [{"type": "RandomCrop", "size": [1, 4]}], "train_dataset.transforms[0].size",
         ["smaller than the 2 pixels"]),
        ("train_dataset.transforms", [{"type": "Normalize"}, {"type": "RandomFlip"}], "train_dataset.transforms[0]",
         ["must come last"]),
        ("val_dataset.transforms", [{"type": "RandomFlip"}], "val_dataset.transforms[0]", ["full image size"]),
        ("loss.types", [{"type": "CrossEntropyLos"}], "loss.types[0].type", ["'CrossEntropyLoss'"]),
        ("loss.types", [{"type": "LovaszHingeLoss", "num_bin": 9}], "loss.types[0].num_bin", ["'num_bins'"]),
        ("loss.types", [{"type": "CrossEntropyLoss", "weight": [1, 2, 3]}], "loss.types[0].weight", ["3", "2"]),
        ("loss.types", [{"type": "CrossEntropyLoss"}] * 2, "loss.coef", ["1 entries for 2"]),
        ("loss.coef", [1, 0.4], "loss.coef", ["2 weights", "the model LightUNet has 1 output"]),
        ("loss.coeff", [1], "loss.coeff", ["'coef'"]),
        ("device", "cuda", "device", ["no GPU"]),
        ("sampler", {"type": "EquiBatch"}, "sampler.type", ["unknown sampler type", "did you mean 'Equibatch'"]),
        ("sampler", {"type": "Equibatch", "clases": ["road"]}, "sampler.clases", ["did you mean 'classes'"]),
        ("sampler", {"type": "Equibatch", "classes": ["raod"]}, "sampler.classes[0]", ["unknown class 'raod'", "'road'"]),
        ("sampler", {"type": "Shuffle", "length": 3}, "sampler.length", ["is filled in by the run"]),
        ("sampler", {"type": "ClassBalancedCrop"}, "sampler.type", ["has no RandomCrop"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_before_training(tiny, path, value, key_path, parts):
    if path == "device" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    node = tiny
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    with pytest.raises(ConfigError) as caught:
        resolve(make_config(tiny, file="tiny.yml"))
    message = str(caught.value)
    assert caught.value.key_path == key_path
    assert message.startswith(f"tiny.yml: {caught.value.key_path}: ")
    assert message.count(caught.value.key_path + ": ") == 1
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_types_beside_two_coefficients_and_outputs_are_counted(tiny):
    tiny["loss"] = {"types": [{"type": "CrossEntropyLoss"}] * 2, "coef": [1, 0.4]}
    with pytest.raises(ConfigError, match=r"loss.types: 2 entries, but the model LightUNet has 1 output; give one per"):
        resolve(make_config(tiny))


def test_names_are_checked_before_any_data_is_read(tiny, monkeypatch):
    tiny["train_dataset"] = folder_section("nowhere")
    tiny["loss"]["types"][0]["typo"] = 1
    with pytest.raises(ConfigError) as caught:
        resolve(make_config(tiny))
    assert caught.value.key_path == "loss.types[0].typo"


def test_every_loss_of_a_study_is_checked(tiny_study):
    tiny_study["losses"]["CE+LovaszHinge"]["types"][0]["losses"][1]["num_bin"] = 3
    with pytest.raises(ConfigError) as caught:
        check_signatures(make_config(tiny_study))
    assert caught.value.key_path == "losses.CE+LovaszHinge.types[0].losses[1].num_bin"


def test_smp_keywords_are_checked_against_the_architecture(tiny):
    tiny["model"] = {"type": "SMP", "arch": "Unet", "encoder_nam": "resnet18"}
    with pytest.raises(ConfigError, match=r"model.encoder_nam: unknown key .*did you mean 'encoder_name'"):
        resolve(make_config(tiny))


def test_a_loss_that_cannot_take_the_classes(tiny, make_folder):
    root = make_folder(masks(train=2, val=2), classes=("a", "b", "c"))
    tiny["train_dataset"], tiny["val_dataset"] = folder_section(root), folder_section(root, "val")
    tiny["loss"]["types"] = [{"type": "LovaszHingeLoss"}]
    with pytest.raises(ConfigError, match=r"^loss"):
        resolve(make_config(tiny))


def test_labels_outside_stop_with_the_files_named(tiny, make_folder):
    root = make_folder(masks(train=0, val=9))
    tiny["train_dataset"], tiny["val_dataset"] = folder_section(root), folder_section(root, "val")
    with pytest.raises(ConfigError, match=r"^val_dataset: .*1 of 1 masks hold values.*a \(value 9: 4 pixels\)"):
        resolve(make_config(tiny))


def test_missing_folder_is_named_with_its_key(tiny):
    tiny["val_dataset"] = folder_section("no/such/place")
    with pytest.raises(ConfigError, match=r"^val_dataset: the data set folder no/such/place does not exist"):
        resolve(make_config(tiny))


def test_classes_of_training_and_validation_must_agree(tiny, make_folder):
    tiny["train_dataset"] = folder_section(make_folder(masks(train=0)))
    with pytest.raises(ConfigError, match=r"^val_dataset: its classes \(ground, road; .* \(ground, crack; "):
        resolve(make_config(tiny))


def test_different_sizes_need_a_crop(tiny, make_folder):
    train = {"a": np.eye(4), "b": np.eye(6)}
    root = make_folder({"train": train, "val": train})
    tiny["train_dataset"], tiny["val_dataset"] = folder_section(root), folder_section(root, "val")
    with pytest.raises(ConfigError, match=r"train_dataset.transforms: the images have 2 different sizes"):
        resolve(make_config(tiny))
    tiny["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [4, 4]})
    assert isinstance(resolve(make_config(tiny)).train.dataset, FolderDataset)


def test_the_crop_ignores_what_the_data_set_ignores(tiny, make_folder):
    root = make_folder(masks(train=200, val=0), ignore_index=200)
    tiny["train_dataset"], tiny["val_dataset"] = folder_section(root), folder_section(root, "val")
    tiny["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [8, 8]})
    experiment = resolve(make_config(tiny))
    assert experiment.train.pipeline.transforms[0].ignore_index == 200
    ignored = torch.full((1, 4, 4), 200, dtype=torch.uint8)
    assert experiment.build_loss()([torch.randn(1, 2, 4, 4)], ignored).item() == 0


@pytest.mark.parametrize(
    ("phase", "key_path", "part"),
    [
        ({"start": 3, "types": [{"type": "LovaszHingeLoss"}]}, "loss.phases[0].start", "the run ends after 3 steps"),
        ({"start": 1, "types": [{"type": "LovaszHingeLos"}]}, "loss.phases[0].types[0].type", "'LovaszHingeLoss'"),
        ({"start": 1, "types": [{"type": "DiceLoss"}], "coef": [1, 2]}, "loss.phases[0].coef", "has 1 output"),
        ({"start": 1, "types": [{"type": "CrossEntropyLoss", "weight": [1]}]}, "loss.phases[0].types[0].weight", "2"),
    ],
)
def test_phases_are_checked_like_the_section(tiny, phase, key_path, part):
    tiny["loss"]["phases"] = [phase]
    with pytest.raises(ConfigError) as caught:
        resolve(make_config(tiny))
    assert caught.value.key_path == key_path
    assert part in str(caught.value)
