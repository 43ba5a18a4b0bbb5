import json

import pytest
import torch
from safetensors.torch import load_file

from evenseg.config import ConfigError, load_config, make_config
from evenseg.data import TrainingSamples
from evenseg.engine import train
from evenseg.engine.identity import Identity
from evenseg.study import compare, config_of, failures, run_folder
from evenseg.study.plan import make_variants
from evenseg.study.worker import Job


def test_every_loss_and_seed_is_run_and_reported(tiny_study, tmp_path):
    report = compare(make_config(tiny_study), [4, 1], tmp_path / "study")
    assert report == tmp_path / "study" / "report.html"
    page = report.read_text(encoding="utf-8")
    assert "CE+LovaszHinge" in page
    assert "<script src=" not in page
    facts = json.loads((tmp_path / "study" / "study.json").read_text())
    assert facts["losses"] == ["CE", "CE+LovaszHinge"]
    assert facts["seeds"] == [4, 1]
    assert facts["classes"] == ["ground", "road"]
    assert facts["metric"] == "miou"
    summaries = {
        (name, seed): json.loads((run_folder(tmp_path / "study", name, seed) / "summary.json").read_text())
        for name in facts["losses"]
        for seed in facts["seeds"]
    }
    assert all((summary["name"], summary["seed"]) == key for key, summary in summaries.items())
    assert facts["seconds"] == pytest.approx(sum(summary["seconds"] for summary in summaries.values()), abs=0.01)
    assert load_config(tmp_path / "study" / "config.yaml").losses == tiny_study["losses"]


def test_runs_of_one_seed_share_data_and_first_weights(tiny_study, tmp_path, monkeypatch):
    seen = []
    original = TrainingSamples.__getitem__

    def noting(self, item):
        sample = original(self, item)
        seen.append((self.seed, item, sample.pair, float(sample.image.sum())))
        return sample

    monkeypatch.setattr(TrainingSamples, "__getitem__", noting)
    # a loss of weight zero changes nothing but the loss: both runs must end with the same weights
    same = {"types": [{"type": "MixedLoss", "losses": [{"type": "CrossEntropyLoss"}, {"type": "LovaszHingeLoss"}],
                       "coef": [1, 0]}], "coef": [1]}  # fmt: skip
    tiny_study["losses"] = {"a": tiny_study["losses"]["CE"], "b": same}
    compare(make_config(tiny_study), [7], tmp_path / "study")
    half = len(seen) // 2
    assert half == 6
    assert seen[:half] == seen[half:]
    first, second = (
        load_file(run_folder(tmp_path / "study", name, 7) / "checkpoints" / "best.safetensors") for name in "ab"
    )
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)


def test_a_broken_off_study_goes_on(tiny_study, tmp_path):
    tiny_study["iters"] = 1
    config, study = make_config(tiny_study), tmp_path / "study"
    compare(config, [0], study)
    kept = run_folder(study, "CE", 0) / "times.jsonl"
    before = kept.stat().st_mtime_ns  # its seconds may be the same after a run of one step
    (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").unlink()
    said = []
    compare(config, [0], study, say=said.append)
    assert said == ["[1/2] CE, seed 0: finished before, kept"]
    assert kept.stat().st_mtime_ns == before
    assert (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").is_file()
    compare(config, [0], study, overwrite=True, say=said.append)
    assert len(said) == 1
    assert kept.stat().st_mtime_ns != before


def test_finished_runs_are_measured_on_splits_asked_for_later(tiny_study, tmp_path):
    config = make_config(tiny_study)
    compare(config, [0], tmp_path / "study", evaluate=[])
    results = [run_folder(tmp_path / "study", name, 0) / "evaluation" / "val.json" for name in tiny_study["losses"]]
    assert not any(file.exists() for file in results)
    compare(config, [0], tmp_path / "study", evaluate=["val"])
    assert all(file.exists() for file in results)


def test_finished_runs_of_another_configuration_are_not_mixed_in(tiny_study, tmp_path):
    tiny_study["iters"] = 1
    compare(make_config(tiny_study), [0], tmp_path / "study")
    tiny_study["optimizer"]["lr"] = 0.5
    with pytest.raises(ValueError, match=r"another configuration \(differs in optimizer\)"):
        compare(make_config(tiny_study), [0], tmp_path / "study")


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
def test_bad_seeds(tiny_study, tmp_path, seeds):
    with pytest.raises(ValueError, match="seeds must be different whole numbers"):
        compare(make_config(tiny_study), seeds, tmp_path / "study")


def test_needs_losses_and_a_folder_of_its_own(tiny, tiny_study, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no study folder"):
        compare(make_config(tiny_study), [0], tmp_path)
    single = dict(tiny_study, loss=tiny_study["losses"]["CE"], losses=None)
    with pytest.raises(ConfigError, match="compare needs `losses`"):
        compare(make_config(single), [0], tmp_path / "study")


def test_a_wrong_loss_stops_before_the_first_run(tiny_study, tmp_path):
    tiny_study["losses"]["CE+LovaszHinge"]["coef"] = [1, 2]
    with pytest.raises(ConfigError, match=r"losses.CE\+LovaszHinge.coef"):
        compare(make_config(tiny_study), [0], tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_loss_name(tiny_study):
    with pytest.raises(ConfigError, match="losses: unknown loss 'C'; allowed: CE, CE"):
        config_of(make_config(tiny_study), "C", 0)


def test_a_grid_of_values(tiny_study, tmp_path):
    tiny_study["iters"] = 1
    tiny_study["study"] = {"grid": {"optimizer.lr": [0.01, 0.02]}}
    study = tmp_path / "study"
    compare(make_config(tiny_study), [0], study)
    facts = json.loads((study / "study.json").read_text())
    assert facts["losses"] == ["CE,lr=0.01", "CE+LovaszHinge,lr=0.01", "CE,lr=0.02", "CE+LovaszHinge,lr=0.02"]
    assert facts["settings"]["CE,lr=0.02"] == {"optimizer.lr": 0.02}
    config = load_config(run_folder(study, "CE,lr=0.02", 0) / "config.yaml")
    assert config.optimizer.keywords == {"lr": 0.02}
    assert config.loss == tiny_study["losses"]["CE"]
    assert config.study is None
    assert "CE,lr=0.02" in (study / "report.html").read_text("utf-8")


def test_a_grid_makes_a_study_of_a_single_loss(tiny, tmp_path):
    variants = make_variants(make_config(tiny), {"loss.types.0.type": ["CrossEntropyLoss", "RecallLoss"], "iters": [1]})
    assert [variant.name for variant in variants] == ["CrossEntropy,type=CrossEntropyLoss,iters=1", "Recall,type=RecallLoss,iters=1"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"optimizer.lr": []}, r"study.grid.optimizer.lr: needs different values, at least one, got \[\]"),
        ({"optimizer.lr": [1, 1]}, r"study.grid.optimizer.lr: needs different values, at least one, got \[1, 1\]"),
        ({"optimiser.lr": [1]}, r"unknown key 'optimiser'; allowed: .*; did you mean 'optimizer'\?"),
        ({"optimizer.lrr": [1]}, r"optimizer.lrr: .*did you mean 'lr'"),
        ({"iters": [0]}, r"iters: .*greater than 0"),
        ({"seed": [1, 2]}, r"study.grid.seed: cannot be a key of the grid"),
        ({"train_dataset.type": ["a/b", "a-b"]}, r"study.grid: two combinations are both called 'CE.*,type=a-b'"),
    ],
)
def test_a_grid_that_cannot_be(tiny_study, tmp_path, grid, message):
    with pytest.raises(ConfigError, match=message):
        compare(make_config(tiny_study), [0], tmp_path / "study", grid=grid)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_run_does_not_stop_the_others(tiny_study, tmp_path):
    """1e30 makes the loss infinite or nan within a step."""
    tiny_study["losses"] = {"CE": tiny_study["losses"]["CE"]}
    study, said = tmp_path / "study", []
    grid = {"optimizer.lr": [1e30, 0.01]}
    compare(make_config(tiny_study), [0], study, grid=grid, say=said.append)
    (line,) = failures(study)
    assert line.startswith("CE,lr=1e+30, seed 0: failed: the")
    assert "diverged" in line or "loss became" in line
    assert (run_folder(study, "CE,lr=0.01", 0) / "summary.json").is_file()
    page = (study / "report.html").read_text("utf-8")
    assert "CE,lr=1e+30, seed 0: failed: the" in page
    before = (run_folder(study, "CE,lr=0.01", 0) / "metrics.jsonl").read_text()
    said.clear()
    compare(make_config(tiny_study), [0], study, grid=grid, say=said.append)
    assert said[0].startswith("[1/2] CE,lr=1e+30, seed 0: failed before (--retry-failed trains it again): the")
    assert len(said) == 2
    compare(make_config(tiny_study), [0], study, grid=grid, retry_failed=True, say=said.append)
    assert any(line.startswith("[1/2] CE,lr=1e+30, seed 0: failed: ") for line in said)
    assert (run_folder(study, "CE,lr=0.01", 0) / "metrics.jsonl").read_text() == before


def test_a_run_that_fails_by_a_mistake_of_ours_shows_where(tiny_study, tmp_path, monkeypatch):
    def broken(samples, index):
        raise RuntimeError("no such device")

    monkeypatch.setattr(TrainingSamples, "__getitem__", broken)
    said = []
    compare(make_config(tiny_study), [0], tmp_path / "study", say=said.append)
    traces = [text for text in said if text.startswith("Traceback")]
    assert len(traces) == 2
    assert all("in broken" in text and text.endswith("RuntimeError: no such device") for text in traces)
    assert failures(tmp_path / "study")[0] == "CE, seed 0: failed: RuntimeError: no such device"


def test_lagging_runs_are_pruned_only_if_asked_and_never_the_baseline(tiny_study, tmp_path, monkeypatch):
    import optuna

    monkeypatch.setattr(Job, "_pruner", lambda self: optuna.pruners.ThresholdPruner(lower=1.1))
    study, config = tmp_path / "study", make_config(tiny_study)
    compare(config, [0], study, prune=True)
    assert (run_folder(study, "CE", 0) / "summary.json").is_file()
    assert not (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").exists()
    assert "CE+LovaszHinge, seed 0: pruned at step 2 of 3 with mIoU" in (study / "report.html").read_text("utf-8")
    assert failures(study) == []
    said = []
    compare(config, [0], study, prune=True, say=said.append)
    assert "pruned before (without --prune it is trained)" in said[1]
    compare(config, [0], study)
    assert (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").is_file()


def test_workers_share_the_runs(tiny_study, tmp_path):
    tiny_study["iters"] = 1
    study = tmp_path / "study"
    compare(make_config(tiny_study), [0, 1], study, workers=2, storage=f"sqlite:///{tmp_path}/shared.db")
    facts = json.loads((study / "study.json").read_text())
    assert facts["unfinished"] == []
    for name in facts["losses"]:
        for seed in (0, 1):
            rows = (run_folder(study, name, seed) / "metrics.jsonl").read_text().splitlines()
            assert len(rows) == 2, "one training row and one validation row: trained once"


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("mysterydb://host/db", "the storage 'mysterydb://host/db' cannot be opened: .*mysterydb"),
        ("sqlite:/study.db", "is neither a database URL, like sqlite:///study.db, nor the path of a journal file"),
        ("", "is neither a database URL"),
        ("sqlite:///nowhere/study.db", "the storage 'sqlite:///nowhere/study.db' cannot be made: there is no folder nowhere"),
        ("nowhere/journal.log", "cannot be made: there is no folder nowhere"),
        (".", "the storage '.' is a folder"),
        ("notes.txt", "the storage 'notes.txt' cannot be (used|opened): "),
        ("sqlite:///notes.txt", "the storage 'sqlite:///notes.txt' cannot be (used|opened): .*not a database"),
    ],
)
def test_a_storage_that_cannot_be_used_leaves_nothing(tiny_study, tmp_path, monkeypatch, storage, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no journal\n" * 100)
    with pytest.raises(ValueError, match=message):
        compare(make_config(tiny_study), [0], "study", storage=storage)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "no journal\n" * 100


def test_a_journal_in_the_study_folder_may_be_named(tiny_study, tmp_path):
    tiny_study |= {"iters": 1, "losses": {"CE": tiny_study["losses"]["CE"]}}
    assert compare(make_config(tiny_study), [0], tmp_path / "study", storage=str(tmp_path / "study" / "our.log")).is_file()
    assert (tmp_path / "study" / "our.log").is_file()


def test_a_run_trained_on_its_own_is_taken_over(tiny_study, tmp_path):
    """And the results count, not the storage: it may be deleted."""
    tiny_study["iters"] = 1
    config, study = make_config(tiny_study), tmp_path / "study"
    train(config_of(config, "CE", 0), run_folder(study, "CE", 0))
    said = []
    compare(config, [0], study, say=said.append)
    assert said == ["[1/2] CE, seed 0: finished before, kept"]
    (study / "optuna_journal.log").unlink()
    compare(config, [0], study, say=said.append)
    assert said[1:] == ["[1/2] CE, seed 0: finished before, kept", "[2/2] CE+LovaszHinge, seed 0: finished before, kept"]


def test_a_phase_may_be_written_as_a_step_or_as_a_fraction(tiny_study, tmp_path):
    """It is the same run, and a finished one is kept."""
    tiny_study["iters"] = 2
    tiny_study["losses"] = {"CE": tiny_study["losses"]["CE"] | {"phases": [{"start": 1, "types": [{"type": "DiceLoss"}]}]}}
    compare(make_config(tiny_study), [0], tmp_path / "study")
    tiny_study["losses"]["CE"]["phases"][0]["start"] = 0.5
    said, config = [], make_config(tiny_study)
    compare(config, [0], tmp_path / "study", say=said.append)
    assert said == ["[1/1] CE, seed 0: finished before, kept"]
    assert config.losses["CE"]["phases"][0]["start"] == 0.5
    Identity(config_of(config, "CE", 0)).check(Identity(load_config(run_folder(tmp_path / "study", "CE", 0) / "config.yaml")).as_dict())
    tiny_study["iters"] = 4
    with pytest.raises(ValueError, match=r"another configuration \(differs in iters, "):
        compare(make_config(tiny_study), [0], tmp_path / "study")


@pytest.mark.parametrize(("keywords", "message"), [({"workers": 0}, "workers must be"), ({"evaluate": ["test"]}, "test split")])
def test_other_bad_input(tiny_study, tmp_path, keywords, message):
    with pytest.raises(ValueError, match=message):
        compare(make_config(tiny_study), [0], tmp_path / "study", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_a_study_on_several_devices_is_refused(tiny_study, tmp_path):
    tiny_study["devices"] = 2
    with pytest.raises(ConfigError, match=r"devices: compare trains every run on one device, several runs at a time with --workers"):
        compare(make_config(tiny_study), [0], tmp_path / "study")
    assert list(tmp_path.iterdir()) == []
