import json

import pytest
import torch
from safetensors.torch import load_file

from evenseg.config import ConfigError, load_config, make_config
from evenseg.data import TrainingSamples
from evenseg.study import compare, config_of, run_folder


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
    before = kept.read_text()
    (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").unlink()
    said = []
    compare(config, [0], study, say=said.append)
    assert said == ["[1/2] CE, seed 0: finished before, kept"]
    assert kept.read_text() == before
    assert (run_folder(study, "CE+LovaszHinge", 0) / "summary.json").is_file()
    compare(config, [0], study, overwrite=True, say=said.append)
    assert len(said) == 1
    assert kept.read_text() != before


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
