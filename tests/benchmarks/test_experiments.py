"""A study becomes a section of docs/results.md with every run in it; an experiment goes on where its time was over."""

import json
import tarfile
from pathlib import Path

import pytest
import yaml
from benchmarks.experiments import __main__ as command
from benchmarks.experiments.plan import EXPERIMENTS
from benchmarks.experiments.results import merge, section

from benchmarks import experiments

ROOT = Path(experiments.__file__).parents[2]


@pytest.fixture
def study(tmp_path):
    """Two losses, three seeds."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"losses": ["CE", "Mix"], "seeds": [0, 1, 2]}), encoding="utf-8")
    for loss, shift in (("CE", 0.0), ("Mix", 0.02)):
        for seed in range(3):
            run = folder / "runs" / loss / f"seed-{seed}"
            (run / "evaluation").mkdir(parents=True)
            score = 0.5 + shift + 0.01 * seed * (1 + shift)
            summary = {"best": {"miou": score + 0.1, "step": 90}, "last": {"miou": score}, "seconds": 12.0}
            test = {
                "miou": score, "per_image_miou": score, "mean_accuracy": score, "mean_boundary_f1": score, "classes": ["a", "b"],
                "iou": [score, None], "calibration": {"ece": 0.01},
            }  # fmt: skip
            (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
            (run / "evaluation" / "test.json").write_text(json.dumps(test), encoding="utf-8")
    return folder


def test_section_holds_every_run(study):
    text = section(study, "A study", "What was run.")
    assert "| CE | 51.00 ± 1.00 |" in text
    assert "| Mix | +2.02 | +1.97 to +2.07 | 3 of 3 |" in text
    assert text.count("| CE | ") + text.count("| Mix | ") == 2 + 1 + 2 + 6
    assert "| CE | 51.0 | - |" in text  # a class without a value


def test_unfinished_runs_are_named(study):
    (study / "runs" / "Mix" / "seed-1" / "evaluation" / "test.json").unlink()
    with pytest.raises(ValueError, match=r"seed-1: test.json is missing; finish the study with --evaluate test"):
        section(study, "A study", "")
    with pytest.raises(ValueError, match="is no study"):
        section(study / "runs", "A study", "")


def test_a_section_replaces_its_former_self():
    page = merge("# Results\n", "one", "first")
    page = merge(page, "two", "second")
    again = merge(page, "one", "third")
    assert "first" not in again
    assert again.index("third") < again.index("second")
    assert merge(again, "one", "third") == again


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_configuration(name, tmp_path):
    from evenseg.config import load_config

    file = command.config_of(EXPERIMENTS[name], tmp_path)
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["iters"] == EXPERIMENTS[name].settings["iters"]
    losses = load_config(file, []).losses
    assert len(losses) == 7 + len(EXPERIMENTS[name].losses)


def test_only_finished_runs_are_packed_and_no_weights(study, tmp_path, monkeypatch):
    name = next(iter(EXPERIMENTS))
    out = tmp_path / "out"
    out.mkdir()
    study.rename(out / name)
    (out / name / "runs" / "CE" / "seed-0" / "best.safetensors").write_bytes(b"0")
    (out / name / "runs" / "CE" / "seed-1" / "summary.json").unlink()
    monkeypatch.setattr(command.subprocess, "run", lambda *a, **k: type("Done", (), {"returncode": 0}))
    assert command.run(EXPERIMENTS[name], out, 1.0, None, []) == 0
    with tarfile.open(out / f"{name}.tar.gz") as archive:
        names = archive.getnames()
    assert f"{name}/runs/CE/seed-0/summary.json" in names
    assert not any(("seed-1" in n and "/CE/" in n) or n.endswith("safetensors") for n in names)
