"""`evenseg bench`: it measures what was asked for, after the values were checked, and never when they are wrong."""

import json

import pytest
import torch
from typer.testing import CliRunner

from evenseg import bench
from evenseg.bench import gate
from evenseg.cli import app


def test_costs_of_the_default_losses():
    costs = bench.measure_losses((1, 3, 16, 24), rounds=3)
    assert [c.loss for c in costs] == list(bench.DEFAULT_LOSSES[False])
    for c in costs:
        assert c.ratio["q1"] <= c.ratio["median"] <= c.ratio["q3"]
        assert c.bytes_moved == 3 * 3 * 16 * 24 * 4
        assert c.nanoseconds_per_pixel == pytest.approx(c.seconds["median"] * 1e9 / (16 * 24))
        assert c.extra_bytes is None


def test_losses_that_need_images_are_refused():
    with pytest.raises(ValueError, match="crf needs image beside logits and labels"):
        bench.measure_losses((1, 3, 16, 16), {"crf": {"type": "DenseCRFLoss"}}, rounds=3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gate_compares_every_loss_on_sums(dtype):
    lines = bench.check_kernels("cpu", dtype)
    assert any(line.startswith("LovaszSoftmaxLoss at (2, 5, 48, 40)") for line in lines)
    assert any(line.startswith("LovaszHingeLoss at (2, 1, 48, 40)") for line in lines)


def test_nothing_is_timed_when_a_value_is_wrong(monkeypatch):
    monkeypatch.setattr(gate, "VALUE", -1.0)
    done = CliRunner().invoke(app, ["bench", "--shape", "1,3,16,16", "--rounds", "3", "--device", "cpu"])
    assert done.exit_code == 1
    assert "value off by" in done.output
    assert "nothing was timed" in done.output
    assert "ns/pixel" not in done.output


def test_command_writes_what_it_shows(tmp_path):
    file = tmp_path / "bench.json"
    words = ["bench", "--shape", "1,3,16,16", "--loss", "DiceLoss", "--loss", "{type: FocalLoss, gamma: 1.0}", "--rounds", "3"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--json", str(file)])
    assert done.exit_code == 0, done.output
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [row["loss"] for row in found["rows"]] == ["DiceLoss", "{type: FocalLoss, gamma: 1.0}"]
    assert found["machine"]["torch"] == torch.__version__
    assert "DiceLoss" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "1,4"], "--shape must be N,C,H,W, four whole numbers above 0, got '1,4'"),
        (["--dtype", "int8"], "--dtype must be one of float32, bfloat16, float16, got 'int8'"),
        (["--device", "tpu"], "--device must be auto, cpu or cuda, got 'tpu'"),
        (["--loss", "DiceLos"], "unknown loss 'DiceLos'; did you mean 'DiceLoss'?"),
        (["--loss", "{type: ["], "is neither a name nor a mapping in YAML"),
    ],
)
def test_mistakes_are_one_line(words, message):
    done = CliRunner().invoke(app, ["bench", *words])
    assert done.exit_code == 2
    assert message in done.output
