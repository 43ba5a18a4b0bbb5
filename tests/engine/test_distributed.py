"""Several processes: the run is that of one process with the joined batch, and every validation image counts once."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, is_first_process, resolve
from evenseg.engine.checkpoints import list_checkpoints
from evenseg.engine.distributed import each_for_itself, gather
from evenseg.losses import build_loss

DRILL = Path(__file__).with_name("two_processes.py")


def rows(run, split):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["split"] == split]


def drill(folder, *jobs):
    done = subprocess.run(
        [sys.executable, str(DRILL), str(folder), *jobs], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for report in reports:
        assert all(code == 0 for codes in report["codes"].values() for code in codes), done.stderr
    assert len(reports) == len(jobs)
    return done


@pytest.fixture(scope="module")
def template(tiny_template):
    """Uneven images among the slots; an odd number of validation images; statistic, ranked and own losses in one mix."""
    eager = {"engine": "eager"}
    mix = [{"type": "LovaszSoftmaxLoss"} | eager, {"type": "CrossEntropyLoss"} | eager, {"type": "DiceLoss"} | eager]
    mapping = copy.deepcopy(tiny_template)
    mapping["loss"] = {
        "types": [{"type": "MixedLoss", "losses": mix, "coef": [1, 0.5, 1]}, {"type": "RecallLoss"} | eager],
        "coef": [1, 0.4],
        "phases": [{"start": 3, "types": [{"type": "JaccardLoss", "memory": 0.5} | eager]}],
    }
    mapping |= {"model": {"type": "Plain"}, "batch_size": 4, "iters": 5, "eval_interval": 2, "checkpoint_interval": 3}
    return mapping | {"optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}, "ema": {"decay": 0.5}, "accumulate": 2}


@pytest.fixture(scope="module")
def runs(template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    few = copy.deepcopy(template) | {"iters": 1, "accumulate": 1}
    few["val_dataset"]["length"] = 1
    del few["loss"]["phases"]
    norms = copy.deepcopy(template) | {"model": {"type": "LightUNet", "widths": [4, 8]}, "iters": 3}
    norms["loss"] = {"types": [{"type": "CrossEntropyLoss", "sync": False}], "coef": [1]}
    files = {}
    for name, mapping in {"plain": template, "few": few, "norms": norms}.items():
        files[name] = folder / f"{name}.yml"
        files[name].write_text(yaml.safe_dump(mapping))
    done = drill(folder, *[f"{name}={file}" for name, file in files.items()], "plain")
    (folder / "said").write_text(done.stderr)
    return folder


def test_two_processes_train_as_one_with_the_joined_batch(runs):
    """Loss, every term, every metric, the weights and their moving average."""
    one, two = runs / "plain-1", runs / "plain-2"
    assert len(rows(one, "train")) == 5
    for split in ("train", "val"):
        for alone, together in zip(rows(one, split), rows(two, split), strict=True):
            assert alone["step"] == together["step"]
            assert alone["loss"] == pytest.approx(together["loss"], rel=1e-5)
            assert alone.get("terms", {}) == pytest.approx(together.get("terms", {}), rel=1e-5)
            assert alone.get("iou", []) == pytest.approx(together.get("iou", []), abs=2e-3)
    states = [torch.load(list_checkpoints(run / "checkpoints")[0], weights_only=True)["state_dict"] for run in (one, two)]
    assert states[0].keys() == states[1].keys()
    assert any(name.startswith("averaged.module.") for name in states[0])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6)


def test_an_odd_number_of_validation_images_counts_each_once(runs):
    """Three images among two processes, and one image, which the second process must not count again."""
    for name, images in (("plain", 3), ("few", 1)):
        one, two = rows(runs / f"{name}-1", "val")[-1], rows(runs / f"{name}-2", "val")[-1]
        assert one["accuracy"] == pytest.approx(two["accuracy"], abs=1 / (images * 32 * 32))
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_measured_is_what_is_kept(runs):
    """Running means of batch normalisation differ between the processes; those of the first are measured and kept."""
    best = json.loads((runs / "norms-2" / "summary.json").read_text())["best"]
    row = evaluate(runs / "norms-2")
    assert row["miou"] == best["miou"]
    assert row["iou"] == best["iou"]


def test_only_the_first_process_writes(runs):
    lines = (runs / "plain-2" / "times.jsonl").read_text().splitlines()
    assert len(lines) == len(rows(runs / "plain-2", "train")) + len(rows(runs / "plain-2", "val"))


def test_a_run_of_two_processes_goes_on(runs):
    whole, resumed = runs / "plain-2", runs / "plain-resumed"
    assert (runs / "said").read_text().count("going on from step 4 of 5") == 1
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    before, after = (load_file(run / "checkpoints" / "best.safetensors") for run in (whole, resumed))
    assert all(torch.equal(after[name], before[name]) for name in after)


def test_the_command_starts_its_own_processes(tiny, write_yaml, tmp_path):
    """`devices: 2`, which Lightning makes of the command by calling it again."""
    config = write_yaml(tiny | {"devices": 2, "iters": 2})
    command = [sys.executable, "-m", "evenseg", "train", str(config), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run")]
    assert done.stderr.count("step 2/2") == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2


def test_the_processes_of_torchrun_must_divide_the_batch(tiny, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "4", "RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="batch_size: 6 does not divide evenly among 4 processes x 1 micro-batches"):
        resolve(make_config(tiny | {"batch_size": 6}))
    assert not is_first_process()


def test_without_other_processes_nothing_is_exchanged():
    assert list(gather({3: "c", 1: "a"}).items()) == [(1, "a"), (3, "c")]


def test_losses_are_not_synchronised_in_evaluations():
    section = {"types": [{"type": "MixedLoss", "losses": [{"type": "DiceLoss"}, {"type": "DiceLoss", "sync": False}], "coef": [1, 1]}],
               "coef": [1]}  # fmt: skip
    loss = build_loss(section, sync=True)
    parts = loss.losses[0].losses
    assert [part.sync for part in parts] == [True, False]
    with each_for_itself(loss):
        assert [part.sync for part in parts] == [False, False]
    assert [part.sync for part in parts] == [True, False]
    assert [part.sync for part in build_loss(section).losses[0].losses] == [False, False]
