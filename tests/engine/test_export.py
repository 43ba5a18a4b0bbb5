"""Exported networks answer as PyTorch does, at sizes they were not exported at."""

import json
import sys

import numpy as np
import pytest
import torch

from evenseg.config import make_config
from evenseg.engine import export, train
from evenseg.engine.loaded_run import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template), tmp_path_factory.mktemp("exported") / "run")


def logits(run, image):
    with torch.no_grad():
        return load_run(run).predictor.model(image)[0]


@pytest.mark.parametrize("size", [(40, 24), (33, 50), (8, 9)])
def test_torchscript(run, tmp_path, size):
    file, difference = export(run, "torchscript", tmp_path / "net.pt")
    assert file == tmp_path / "net.pt"
    assert difference < 1e-5
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(torch.jit.load(str(file))(image), logits(run, image), atol=1e-5, rtol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt", "net.pt.json"]
    facts = json.loads((tmp_path / "net.pt.json").read_text())
    assert facts["classes"] == ["ground", "road"]
    assert facts["transforms"] == [{"type": "Normalize"}]


@pytest.mark.parametrize(
    "model", [{"type": "ENet"}, {"type": "SMP", "arch": "UPerNet", "encoder_name": "resnet18"}], ids=lambda m: m["type"]
)
def test_torchscript_of_other_networks(tiny, tmp_path, model):
    run = train(make_config(tiny | {"model": model, "iters": 1}), tmp_path / "run")
    file, difference = export(run, "torchscript")
    assert difference < 1e-5
    image = torch.randn(1, 3, 40, 57)
    torch.testing.assert_close(torch.jit.load(str(file))(image), logits(run, image), atol=1e-5, rtol=1e-4)


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


def test_onnx_of_any_size(run, onnxruntime):
    file, difference = export(run, "onnx")
    assert file == run / "export" / "model.onnx"
    assert difference < 1e-4
    facts = json.loads((run / "export" / "model.onnx.json").read_text())
    assert facts["size_multiple_of"] == 1
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [value.shape for value in session.get_inputs()] == [["batch", 3, "height", "width"]]
    assert [value.shape for value in session.get_outputs()] == [["batch", 2, "height", "width"]]
    for n, height, width in ((1, 40, 72), (3, 33, 50), (2, 1, 9)):
        image = torch.randn(n, 3, height, width)
        (found,) = session.run(["logits"], {"image": image.numpy()})
        np.testing.assert_allclose(found, logits(run, image), atol=1e-4)
    # the weights are in the file
    assert sorted(path.name for path in (run / "export").iterdir()) == ["model.onnx", "model.onnx.json"]


def a_little_more(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return 1.01 * logits[:, :, : image.shape[2], : image.shape[3]]


def test_a_result_that_differs_is_not_written(run, tmp_path, monkeypatch):
    module = sys.modules[export.__module__]
    monkeypatch.setattr(module, "cut_logits", a_little_more)
    with pytest.raises(
        ValueError, match=r"differs from PyTorch by 0\.01 of the largest logit, more than 0\.001; nothing was"
    ):
        export(run, "torchscript", tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())


def test_missing_packages_and_formats(run, monkeypatch):
    module = sys.modules[export.__module__]
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match=r"--format onnx needs onnxscript; pip install 'evenseg\[export\]'"):
        export(run, "onnx")
    with pytest.raises(ValueError, match="unknown format 'tflite'; allowed: onnx, torchscript"):
        export(run, "tflite")
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        export(run / "checkpoints", "torchscript")
