"""Images that become unreadable after the data has been checked."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader
from typer.testing import CliRunner

from evenseg.cli import app
from evenseg.config import ConfigError, make_config
from evenseg.data import EvaluationSamples, FolderDataset, Pipeline, TrainingSamples, UnreadableFileError
from evenseg.engine import evaluate, resolve, resume, run
from evenseg.engine.recorder import Recorder
from evenseg.engine.unreadable import clear_data_errors


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture
def root(make_folder):
    rng = np.random.default_rng(0)
    masks = {split: {f"{split}{i}": rng.integers(0, 2, (16, 16)) for i in range(4)} for split in ("train", "val")}
    return make_folder(masks)


@pytest.fixture
def folders(tiny, root):
    """A configuration on a folder of eight JPEGs."""
    for split in ("train", "val"):
        transforms = tiny[f"{split}_dataset"]["transforms"]
        tiny[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split, "transforms": transforms}
    return tiny | {"iters": 6, "eval_interval": 2}


def test_skipped_images_are_counted_and_named(folders, root, tmp_path, capfd):
    folders["on_unreadable"] = "skip"
    experiment = resolve(make_config(folders))
    truncate(root / "images/train/train1.jpg")
    (root / "masks/train/train2.png").unlink()
    truncate(root / "images/val/val0.jpg")
    folder = run(experiment, tmp_path / "run")
    files = json.loads((folder / "unreadable.json").read_text())["files"]
    by_name = {row["message"].split()[0].rpartition("/")[2]: row for row in files}
    assert set(by_name) == {"train1.jpg", "train2.png", "val0.jpg"}
    assert "train1.jpg cannot be read as an image" in by_name["train1.jpg"]["message"]
    assert "train2.png does not exist" in by_name["train2.png"]["message"]
    # twelve items are three passes over the four pairs; the pairs drawn in place of others may be unreadable, too
    assert by_name["train1.jpg"]["skipped"]["train"] >= 3
    assert by_name["train2.png"]["skipped"]["train"] >= 3
    assert by_name["val0.jpg"]["skipped"] == {"train": 0, "val": 3}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["unreadable"] == 3
    assert summary["steps"] == 6
    assert not (folder / "overlays" / "val0.json").exists()
    assert (folder / "overlays" / "val1.json").is_file()
    line = capfd.readouterr().err.splitlines()[-1]
    assert "3 unreadable pairs skipped" in line
    assert "train1.jpg" in line
    assert str(folder / "unreadable.json") in line
    measured = evaluate(folder)
    assert measured["images"] == 3
    assert measured["unreadable"] == [by_name["val0.jpg"]["message"]]
    assert measured["miou"] == summary["best"]["miou"]


def test_the_loss_and_scores_leave_skipped_images_out(folders, root, tmp_path):
    folders |= {"on_unreadable": "skip", "iters": 1}
    experiment = resolve(make_config(folders))
    truncate(root / "images/val/val3.jpg")
    with_gap = json.loads((run(experiment, tmp_path / "gap") / "summary.json").read_text())["last"]
    (root / "images/val/val3.jpg").unlink()
    (root / "masks/val/val3.png").unlink()
    without = json.loads((run(resolve(make_config(folders)), tmp_path / "without") / "summary.json").read_text())["last"]
    assert with_gap | {"time": 0} == without | {"time": 0}


def test_stopping_is_one_line_and_keeps_what_was_saved(folders, root, tmp_path, monkeypatch):
    original = Recorder.on_train_batch_end

    def damage(self, trainer, *args):
        original(self, trainer, *args)
        if trainer.global_step == 3:
            for file in (root / "images/train").iterdir():
                truncate(file)

    monkeypatch.setattr(Recorder, "on_train_batch_end", damage)
    with pytest.raises(UnreadableFileError) as caught:
        run(resolve(make_config(folders)), tmp_path / "run")
    message = str(caught.value)
    assert "\n" not in message
    assert "images/train/train" in message
    assert ".jpg cannot be read as an image" in message
    assert message.endswith("`on_unreadable: skip` goes on without images that cannot be read")
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").is_file()
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "unreadable.json").exists()
    # train0 was repaired, the others are left out
    monkeypatch.undo()
    Image.new("RGB", (16, 16)).save(root / "images/train/train0.jpg")
    resume(tmp_path / "run", ["on_unreadable=skip"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["unreadable"] == 3


def test_the_command_says_so_in_one_line(folders, root, write_yaml, tmp_path, monkeypatch):
    original = Recorder.on_train_start

    def damage(self, *args):
        original(self, *args)
        for file in (root / "images/val").iterdir():
            truncate(file)

    monkeypatch.setattr(Recorder, "on_train_start", damage)
    file = write_yaml(folders)
    result = CliRunner().invoke(app, ["train", str(file), "--output", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "images/val/val0.jpg cannot be read as an image" in result.stderr
    result = CliRunner().invoke(app, ["train", str(file), "--output", str(tmp_path / "run"), "--set", "on_unreadable=maybe"])
    assert result.exit_code == 2
    assert "on_unreadable: " in result.stderr
    assert "'stop' or 'skip'" in result.stderr


def test_unreadable_files_before_training(folders, root):
    truncate(root / "images/train/train1.jpg")
    with pytest.raises(ConfigError, match=r"^train_dataset: .*train1\.jpg cannot be read as an image"):
        resolve(make_config(folders))
    folders["on_unreadable"] = "skip"
    facts_of_three = resolve(make_config(folders))
    assert len(facts_of_three.train.dataset) == 4
    for file in (root / "images/train").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^train_dataset: .*none of the pairs can be read, the last one because"):
        resolve(make_config(folders))


def test_nothing_to_evaluate_is_said(folders, root, tmp_path):
    folders["on_unreadable"] = "skip"
    experiment = resolve(make_config(folders))
    for file in (root / "images/val").iterdir():
        truncate(file)
    with pytest.raises(ValueError, match=r"none of the images to evaluate can be read, the last one because .*val3\.jpg"):
        run(experiment, tmp_path / "run")


def samples(root, on_unreadable="skip", seed=0, **keywords):
    return TrainingSamples(FolderDataset(str(root)), Pipeline([]), 12, seed, on_unreadable=on_unreadable, **keywords)


def test_what_stands_in_is_a_function_of_seed_and_item(root):
    truncate(root / "images/train/train1.jpg")
    first, second = samples(root), samples(root)
    forwards = [first[item] for item in range(12)]
    backwards = [second[item] for item in reversed(range(12))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert (one.pair, one.unreadable) == (other.pair, other.unreadable)
        assert torch.equal(one.image, other.image)
    bad = [sample for sample in forwards if sample.unreadable]
    assert len(bad) == 3
    assert all("train1.jpg" in sample.unreadable for sample in bad)
    assert all(sample.pair != 1 for sample in forwards)
    # readable items are those of a folder where all can be read
    whole = samples(root, "stop")
    for item, sample in enumerate(forwards):
        if not sample.unreadable:
            assert whole[item].pair == sample.pair


def test_class_samplers_replace_a_pair_by_one_of_the_same_class(root):
    from evenseg.data import SAMPLERS, check_data

    sampler = SAMPLERS["Equibatch"](4, 0, check_data(FolderDataset(str(root))))
    truncate(root / "images/train/train1.jpg")
    found = samples(root, sampler=sampler)
    assert any(found[item].unreadable for item in range(12))
    for item in range(12):
        assert sampler.draw(item).aim == sampler.draw(item + 12 * sampler.period).aim
        assert found[item].pair != 1


def test_twenty_failures_in_a_row_stop(root):
    found = samples(root)
    for file in (root / "images/train").iterdir():
        file.unlink()
    with pytest.raises(UnreadableFileError, match=r"20 pairs drawn one after the other cannot be read, .*does not exist"):
        found[0]


def test_evaluation_marks_what_it_could_not_read(root):
    dataset = FolderDataset(str(root))
    (root / "masks/train/train2.png").write_bytes(b"")
    sample = EvaluationSamples(dataset, Pipeline([]), "skip")[2]
    assert "train2.png cannot be read as an image" in sample.unreadable
    assert (sample.mask == 255).all()
    assert sample.image.shape == (3, 1, 1)
    with pytest.raises(UnreadableFileError, match=r"train2\.png cannot be read"):
        EvaluationSamples(dataset, Pipeline([]))[2]


def test_both_in_a_worker_process(root):
    truncate(root / "images/train/train1.jpg")
    both = ConcatDataset([samples(root), samples(root, "stop")])
    loader = DataLoader(both, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    batches = []
    with pytest.raises(UnreadableFileError) as caught, clear_data_errors():
        batches.extend(loader)  # keeps what came before the error
    skipping = batches[:3]
    assert all(batch.image.shape == (4, 3, 16, 16) for batch in skipping)
    assert sum(bool(words) for batch in skipping for words in batch.unreadable) == 3
    message = str(caught.value)
    assert message.startswith(str(root / "images/train/train1.jpg"))
    assert "\n" not in message
    assert "Traceback" not in message
    assert "on_unreadable: skip" in message


def test_other_errors_of_workers_lose_their_traceback():
    lines = ["Caught ValueError in DataLoader worker process 0.", "Original Traceback (most recent call last):", "  File"]
    with pytest.raises(ValueError, match=r"^a\.png has 4 channels$"), clear_data_errors():
        raise ValueError("\n".join([*lines, "ValueError: a.png has 4 channels"]))
    with pytest.raises(ValueError, match=r"^the loss became nan$"), clear_data_errors():
        raise ValueError("the loss became nan")
    killed = r"a data worker was killed \(DataLoader worker .*use fewer num_workers"
    with pytest.raises(ValueError, match=killed), clear_data_errors():
        raise RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly")
    with pytest.raises(RuntimeError, match="out of memory"), clear_data_errors():
        raise RuntimeError("CUDA out of memory")
