import csv
import json
import math
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evenseg.config import ConfigError, load_config, make_config
from evenseg.engine import evaluate, train
from evenseg.engine.checkpoints import list_checkpoints, step_of
from evenseg.engine.recorder import Recorder
from evenseg.engine.run_folder import describe_environment


def rows(run, split=None):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if split in (None, row["split"])]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template), tmp_path_factory.mktemp("trained") / "run")


def test_metrics_rows(run):
    training, validation = rows(run, "train"), rows(run, "val")
    assert [row["step"] for row in training] == [1, 2, 3]
    # every eval_interval, and behind the last step once
    assert [row["step"] for row in validation] == [2, 3]
    for row in training:
        assert row["terms"]["CrossEntropyLoss"] == pytest.approx(row["loss"], rel=1e-5)
    assert [row["lr"] for row in training] == pytest.approx([0.01, 0.01 * (2 / 3) ** 0.9, 0.01 * (1 / 3) ** 0.9])
    for row in validation:
        assert set(row) == {
            "step", "split", "loss", "miou", "iou", "per_image_miou", "accuracy", "mean_accuracy", "mean_dice",
        }  # fmt: skip
        assert row["miou"] == pytest.approx(np.mean(row["iou"]))
        assert 0 <= row["per_image_miou"] <= 1
        assert math.isfinite(row["loss"])
    times = [json.loads(line) for line in (run / "times.jsonl").read_text().splitlines()]
    assert [(time["step"], time["split"]) for time in times] == [(row["step"], row["split"]) for row in rows(run)]
    assert [time["seconds"] for time in times] == sorted(time["seconds"] for time in times)


def test_the_sampler_of_the_configuration_is_used(run, tiny, tmp_path):
    tiny["sampler"] = {"type": "ClassBalancedCrop", "classes": ["road"]}
    tiny["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [16, 16]})
    aimed = train(make_config(tiny), tmp_path / "aimed")
    tiny["sampler"] = {"type": "Shuffle"}
    plain = train(make_config(tiny), tmp_path / "plain")
    assert rows(aimed, "train")[0]["loss"] != rows(plain, "train")[0]["loss"]
    assert load_config(aimed / "config.yaml").sampler.keywords == {"classes": ["road"]}


def test_csv_has_the_same_rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["split"], int(row["step"])) for row in table] == [(row["split"], row["step"]) for row in rows(run)]
    assert float(table[-1]["IoU road"]) == rows(run)[-1]["iou"][1]


def test_summary_and_environment(run):
    summary = json.loads((run / "summary.json").read_text())
    validation = rows(run, "val")
    assert summary["best"] == max(validation, key=lambda row: row["miou"])
    assert summary["last"] == validation[-1]
    assert summary["name"] == "CrossEntropy"
    assert summary["classes"] == ["ground", "road"]
    assert summary["colors"] == [[40, 54, 32], [255, 220, 60]]
    assert summary["steps"] == 3
    assert 0 < summary["seconds_per_step"] * 3 <= summary["seconds"]
    weights = load_file(run / "checkpoints" / "best.safetensors")
    buffers = [name for name in weights if "running" in name or "num_batches" in name]
    assert summary["parameters"] == sum(weights[name].numel() for name in weights if name not in buffers)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["versions"]["segmentation-models-pytorch"] is not None
    if (Path(__file__).parents[2] / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}", environment["evenseg_git"]["commit"])
        assert environment["evenseg_git"]["dirty"] in (True, False)
    assert environment["threads"] == torch.get_num_threads()


def test_the_commit_of_the_users_project_is_kept(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "configs", elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def git(*arguments):
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", project, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def recorded(config_file=None):
        return describe_environment(0, config_file)["project_git"]

    monkeypatch.chdir(project)
    assert recorded() is None
    git("init")
    assert recorded() is None, "no commit yet"
    (project / "model.py").write_text("a = 1")
    git("add", "model.py")
    git("commit", "-m", "first")
    (project / "notes.txt").write_text("not kept by git")
    assert recorded() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (project / "model.py").write_text("a = 2")
    assert recorded() == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    monkeypatch.chdir(elsewhere)
    assert recorded() is None
    assert recorded(project / "configs" / "a.yml") == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert recorded(project / "configs" / "a.yml") is None


def test_last_checkpoint_loads_without_running_code(run):
    last = list_checkpoints(run / "checkpoints")[0]
    assert step_of(last) == 3
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 3
    assert checkpoint["optimizer_states"][0]["state"]


def test_overlays(run):
    summaries = sorted((run / "overlays").glob("*.json"))
    assert len(summaries) == 3
    for file in summaries:
        row = json.loads(file.read_text())
        assert row["name"] == file.stem
        target = Image.open(file.with_name(f"{file.stem}_target.png"))
        prediction = Image.open(file.with_name(f"{file.stem}_prediction.png"))
        assert (target.mode, prediction.mode) == ("P", "P")
        assert target.getpalette()[3:6] == [255, 220, 60]
        right, labelled = np.asarray(prediction) == 1, np.asarray(target) == 1
        union = (right | labelled).sum()
        assert row["iou"][1] == pytest.approx((right & labelled).sum() / union if union else float("nan"))
        assert Image.open(file.with_name(f"{file.stem}_image.png")).mode == "RGB"


def test_evaluate_repeats_the_best_row(run, capfd):
    row = evaluate(run)
    best = json.loads((run / "summary.json").read_text())["best"]
    assert row["miou"] == best["miou"]
    assert row["iou"] == best["iou"]
    assert row["loss"] is None
    confusion = np.array(row["confusion"])
    assert confusion.sum() == 3 * 32 * 32
    assert row["recall"][0] == pytest.approx(confusion[0, 0] / confusion[0].sum())
    assert json.loads((run / "evaluation" / "val.json").read_text()) == row
    assert "Lightning" not in capfd.readouterr().out


def test_evaluate_other_splits(run, tmp_path):
    assert evaluate(run, "train")["images"] == 5
    with pytest.raises(ConfigError, match=r"config\.yaml: test_dataset: the run's configuration has none"):
        evaluate(run, "test")
    section = "test_dataset={type: SyntheticRoads, split: test, length: 2, size: 32}"
    assert evaluate(run, "test", [section])["images"] == 2
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        evaluate(tmp_path)


def test_the_configuration_of_a_run_trains_again_to_the_same_numbers(run, tmp_path, capfd):
    again = train(load_config(run / "config.yaml"), tmp_path / "again")
    assert (run / "metrics.jsonl").read_bytes() == (again / "metrics.jsonl").read_bytes()
    first, second = (load_file(folder / "checkpoints" / "best.safetensors") for folder in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    noise = capfd.readouterr()
    assert "TPU" not in noise.out + noise.err
    assert "Tip" not in noise.out + noise.err


def test_a_finished_run_is_kept_unless_asked_for(tiny, tmp_path):
    tiny["iters"] = tiny["eval_interval"] = 1
    config, folder = make_config(tiny), tmp_path / "deep" / "run"
    train(config, folder)
    with pytest.raises(ValueError, match="holds a finished run; choose another --output or pass --overwrite"):
        train(config, folder)
    (folder / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"was broken off; go on with `evenseg train --resume .*run`, choose another"):
        train(config, folder)
    for checkpoint in list_checkpoints(folder / "checkpoints"):
        checkpoint.unlink()
    train(config, folder)  # there was nothing to go on from
    train(config, folder, overwrite=True)
    assert (folder / "summary.json").is_file()


def test_a_folder_of_something_else_is_never_touched(tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="exists and is no run folder"):
        train(make_config(tiny), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_start_leaves_nothing(tiny, tmp_path, monkeypatch):
    def fail(self, *args):
        raise RuntimeError("no power")

    monkeypatch.setattr(Recorder, "on_train_start", fail)
    with pytest.raises(RuntimeError, match="no power"):
        train(make_config(tiny), tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_not_finished_and_says_so(tiny, tmp_path, monkeypatch, capfd):
    tiny["eval_interval"] = 1
    original = Recorder.on_train_batch_end

    def interrupt(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 2:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Recorder, "on_train_batch_end", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(make_config(tiny), tmp_path / "run")
    finally:
        # Lightning leaves the signal ignored
        signal.signal(signal.SIGINT, handler)
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == [1, 2]
    assert not (tmp_path / "run" / "summary.json").exists()
    assert f"broken off at step 2; `evenseg train --resume {tmp_path / 'run'}` goes on" in capfd.readouterr().err


def test_half_precision_trains(tiny, tmp_path):
    tiny["precision"] = "bf16"
    run = train(make_config(tiny), tmp_path / "run")
    full = train(make_config(dict(tiny, precision="fp32")), tmp_path / "full")
    assert rows(run, "train")[0]["loss"] == pytest.approx(rows(full, "train")[0]["loss"], rel=0.02)
    assert rows(run, "train")[0]["loss"] != rows(full, "train")[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path):
    tiny["optimizer"] = {"type": "SGD", "lr": 1e30}
    tiny["iters"] = 8
    with pytest.raises(ValueError, match=r"the loss became (nan|inf) before step"):
        train(make_config(tiny), tmp_path / "run")


def test_smp_model_trains(tiny, tmp_path):
    tiny["model"] = {"type": "SMP", "arch": "Unet", "encoder_name": "resnet18", "encoder_weights": None}
    tiny["iters"] = 1
    run = train(make_config(tiny), tmp_path / "run")
    assert json.loads((run / "summary.json").read_text())["parameters"] > 14_000_000


def test_phases_switch_the_loss_and_no_row_mixes_them(tiny, tmp_path, capfd):
    lovasz = {"types": [{"type": "LovaszHingeLoss"}], "coef": [1]}
    tiny["log_interval"] = 3
    tiny["loss"] = tiny["loss"] | {"phases": [{"start": 2, **lovasz}]}
    run = train(make_config(tiny), tmp_path / "run")
    found = [(row["step"], row["phase"], list(row["terms"])) for row in rows(run, "train")]
    assert found == [(2, 0, ["CrossEntropyLoss"]), (3, 1, ["LovaszHingeLoss"])]
    # an evaluation uses the loss of the step before it
    assert [(row["step"], row["phase"]) for row in rows(run, "val")] == [(2, 0), (3, 1)]
    assert json.loads((run / "summary.json").read_text())["name"] == "CrossEntropy, then LovaszHinge"
    assert "step 2: phase 1 of the loss begins (LovaszHingeLoss)" in capfd.readouterr().err


def test_ocrnet_trains_on_both_outputs(tiny, tmp_path):
    tiny["model"] = {"type": "OCRNet", "pretrained": "none"}
    mix = {"type": "MixedLoss", "losses": [{"type": "CrossEntropyLoss"}, {"type": "LovaszSoftmaxLoss"}], "coef": [0.8, 0.2]}
    tiny |= {"loss": {"types": [mix, {"type": "CrossEntropyLoss"}], "coef": [1, 0.4]}, "iters": 1}
    tiny["train_dataset"]["size"] = 64
    path = train(make_config(tiny), tmp_path / "ocrnet")
    (row,) = rows(path, "train")
    terms = row["terms"]
    assert list(terms) == ["output0.CrossEntropyLoss", "output0.LovaszSoftmaxLoss", "output1.CrossEntropyLoss"]
    assert row["loss"] == pytest.approx(0.8 * terms["output0.CrossEntropyLoss"] + 0.2 * terms["output0.LovaszSoftmaxLoss"]
                                        + 0.4 * terms["output1.CrossEntropyLoss"], rel=1e-5)  # fmt: skip
    assert len(rows(path, "val")) == 1
