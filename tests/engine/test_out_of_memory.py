"""Too little memory is one line that says what takes less, and costs nothing that was saved."""

import importlib
import json
import sys
import textwrap

import pytest
import torch
from typer.testing import CliRunner

from evenseg.cli import app
from evenseg.config import make_config
from evenseg.engine import evaluate, resume, train
from evenseg.engine.out_of_memory import OutOfMemoryError, naming_lack_of_memory

HUNGRY = """
    import torch
    from torch import nn

    SAID = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB of which 1 GiB is free."
    full = {"calls": 0, "from": 3}

    class Hungry(nn.CrossEntropyLoss):
        "Runs out of memory at the given call."
        def forward(self, logits, target):
            if torch.is_grad_enabled():
                full["calls"] += 1
            if full["calls"] > full["from"]:
                raise torch.cuda.OutOfMemoryError(SAID)
            return super().forward(logits, target.long())
"""


@pytest.fixture
def hungry(tiny, tmp_path, monkeypatch):
    """A configuration whose loss runs out of memory after so many steps, and the module that says when."""
    (tmp_path / "hungry.py").write_text(textwrap.dedent(HUNGRY))
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["loss"] = {"type": "hungry.Hungry"}
    tiny |= {"iters": 6, "batch_size": 4, "eval_interval": 2}
    tiny["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [16, 16]})
    yield tiny
    sys.modules.pop("hungry", None)


def test_in_training_it_is_one_line_and_the_run_goes_on_in_parts(hungry, write_yaml, tmp_path):
    result = CliRunner().invoke(app, ["train", str(write_yaml(hungry)), "--output", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: the memory of the GPU is full (CUDA out of memory); lower batch_size (now 4) or "
        "train_dataset.transforms[0].size (now [16, 16]), set precision=bf16, or keep the numbers and set accumulate=2, which "
        "takes the batch in parts (now 1); if it happens in an evaluation, set evaluation.window=[HEIGHT, WIDTH]; the "
        f"checkpoints before step 3 are kept: `evenseg train --resume {tmp_path / 'run'} --set accumulate=2` goes on from there"
    )
    assert "Traceback" not in result.output
    assert [file.name.partition("-")[0] for file in (tmp_path / "run" / "checkpoints").glob("*.ckpt")] == ["step"]
    importlib.import_module("hungry").full["from"] = 100
    resume(tmp_path / "run", ["accumulate=2"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 6


def test_before_the_first_step_nothing_is_left(hungry, tmp_path):
    importlib.import_module("hungry").full["from"] = 0
    with pytest.raises(OutOfMemoryError, match=r"lower batch_size \(now 4\)") as caught:
        train(make_config(hungry), tmp_path / "run")
    assert "--resume" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_in_an_evaluation_windows_are_advised(tiny, tmp_path, monkeypatch):
    run = train(make_config(tiny | {"iters": 1}), tmp_path / "run")
    from evenseg.engine.measure import ImageMeter

    def full(self, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(ImageMeter, "measure", full)
    with pytest.raises(OutOfMemoryError, match=r"CUDA out of memory.*--window HEIGHT WIDTH"):
        evaluate(run)
    with pytest.raises(OutOfMemoryError, match=r"smaller windows than 16 16 \(--window\)"):
        evaluate(run, overrides=["evaluation.window=[16, 16]"])


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="a shape"), naming_lack_of_memory(lambda: ""):
        raise RuntimeError("a shape")
    with pytest.raises(OutOfMemoryError, match="the memory of the machine is full"), naming_lack_of_memory(lambda: "less"):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory: you tried")
