"""`evenseg fit-edges`, and runs whose loss reads the file that it writes."""

import copy
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evenseg import build_loss
from evenseg.cli import app
from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, fit_edges, resume, train
from evenseg.engine.recorder import Recorder
from evenseg.losses.edge_network import EdgeNetwork, edge_maps, load_edges
from oracles import semantic_edges as oracle


@pytest.fixture(scope="module")
def settings(tiny_template):
    mapping = copy.deepcopy(tiny_template)
    mapping["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [24, 24]})
    return mapping | {"batch_size": 4}


@pytest.fixture(scope="module")
def fitted(settings, tmp_path_factory):
    return fit_edges(make_config(settings), tmp_path_factory.mktemp("edges") / "roads.safetensors", iters=150, hidden=8)


def with_edges(settings, file):
    mix = [{"type": "CrossEntropyLoss"}, {"type": "SemanticEdgeAwareLoss", "edges": str(file)}]
    types = [{"type": "MixedLoss", "losses": mix, "coef": [1, 0.5]}]
    return copy.deepcopy(settings) | {"loss": {"types": types, "coef": [1]}}


def test_edges_are_where_classes_meet():
    y = np.random.default_rng(0).integers(0, 3, (2, 7, 9))
    y[0, 2:4, 3] = 255
    y[1, :, 5:] = 1
    edges, known = edge_maps(torch.from_numpy(np.where(y == 255, -1, y)), 3)
    for n in range(2):
        expected, around = oracle.edges(y[n], 3)
        np.testing.assert_array_equal(edges[n].numpy(), expected)
        np.testing.assert_array_equal(known[n, 0].numpy(), around)
    assert not edges[1, :, :, 7:].any()


def test_the_network_learns_where_edges_are(fitted):
    assert fitted.last_loss < 0.5 * fitted.first_loss
    assert min(fitted.f1) > 0.7
    network = load_edges(fitted.file)
    assert network.settings["classes"] == ["ground", "road"] == list(fitted.classes)
    assert network.settings["iters"] == 150


def test_a_fit_repeats(settings, tmp_path):
    files = [fit_edges(make_config(settings), tmp_path / f"{i}.safetensors", iters=2, hidden=4).file for i in range(2)]
    first, second = (load_file(file) for file in files)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match=r"0\.safetensors exists; choose another --output or pass --overwrite"):
        fit_edges(make_config(settings), files[0], iters=1)


def test_a_run_goes_on_and_is_evaluated_without_the_original_file(settings, fitted, tmp_path, monkeypatch):
    original = tmp_path / "edges.safetensors"
    shutil.copy(fitted.file, original)
    config = make_config(with_edges(settings, original))
    whole = train(config, tmp_path / "whole")
    report = Recorder.on_train_batch_end

    def stop(self, trainer, *arguments):
        report(self, trainer, *arguments)
        if trainer.global_step == 2:
            raise RuntimeError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="no power"):
            train(config, tmp_path / "broken")
    original.unlink()
    broken = resume(tmp_path / "broken")
    for name in ("metrics.jsonl", "checkpoints/best.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert "SemanticEdgeAwareLoss" in (broken / "metrics.jsonl").read_text()
    assert evaluate(broken)["miou"] == evaluate(whole)["miou"]
    with pytest.raises(ConfigError, match=r"edges.safetensors does not exist .* `evenseg fit-edges CONFIG` writes"):
        train(config, tmp_path / "another")


def test_the_edge_network_is_not_trained(settings, fitted, tmp_path):
    run = train(make_config(with_edges(settings, fitted.file)), tmp_path / "run")
    (kept,) = (run / "files").iterdir()
    assert kept.read_bytes() == fitted.file.read_bytes()
    loss = build_loss({"type": "SemanticEdgeAwareLoss", "edges": str(kept)})
    assert not any(p.requires_grad for p in loss.parameters())
    z = torch.randn(1, 2, 8, 8, requires_grad=True)
    loss(z, torch.randint(0, 2, (1, 8, 8))).backward()
    assert z.grad.any()


def test_files_that_cannot_be_used(settings, fitted, tmp_path):
    other, damaged = tmp_path / "other.safetensors", tmp_path / "damaged.safetensors"
    save_file({"weight": torch.ones(2)}, other)
    damaged.write_bytes(fitted.file.read_bytes()[:100])
    three = tmp_path / "three.safetensors"
    EdgeNetwork(3, hidden=4).save(three)
    for file, message in (
        (tmp_path / "none.safetensors", r"none\.safetensors does not exist \(looked in .*\); `evenseg fit-edges CONFIG` writes"),
        (other, "other.safetensors holds other weights than those of an edge network"),
        (damaged, "damaged.safetensors is damaged or no safetensors file"),
        (three, "three.safetensors was fitted to 3 classes, here there are 2"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            train(make_config(with_edges(settings, file)), tmp_path / "run")
        assert caught.value.key_path == "loss.types[0].losses[1].edges"
        assert str(caught.value).count("edges: ") == 1
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"^edges: .*three.safetensors was fitted to 3 classes, here there are 2"):
        build_loss({"type": "SemanticEdgeAwareLoss", "edges": str(three)})(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8).long())


def test_the_command(settings, write_yaml, tmp_path):
    config, file = write_yaml(settings), tmp_path / "new" / "e.safetensors"
    run = CliRunner().invoke(app, ["fit-edges", str(config), "-o", str(file), "--iters", "3", "--hidden", "4"])
    assert run.exit_code == 0, run.output
    lines = run.stdout.strip().splitlines()
    assert lines[-1] == str(file)
    assert f"{{type: SemanticEdgeAwareLoss, edges: {file}}}" in lines[-2]
    assert "F1 of edge pixels on val_dataset" in lines[-3]
    again = CliRunner().invoke(app, ["fit-edges", str(config), "-o", str(file)])
    assert again.exit_code == 2
    assert "exists; choose another --output or pass --overwrite" in again.stderr


def test_masks_of_different_sizes_need_a_crop(make_folder, tiny, tmp_path):
    root = make_folder({"train": {"a": np.zeros((8, 9)), "b": np.ones((9, 8))}})
    section = {"type": "FolderDataset", "root": str(root), "transforms": []}
    config = make_config(tiny | {"train_dataset": section, "val_dataset": section})
    with pytest.raises(ConfigError, match=r"masks have different sizes \(\(8, 9\), \(9, 8\)\), so batch_size 2 needs a RandomCrop"):
        fit_edges(config, tmp_path / "e.safetensors", iters=2)
