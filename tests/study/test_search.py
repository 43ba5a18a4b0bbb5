"""Searching the numbers of a loss: what is tried, what is kept, and how a search goes on."""

import csv
import json
import re
from pathlib import Path

import optuna
import pytest
import yaml

from evenseg import build_loss
from evenseg.config import ConfigError, load_config, make_config
from evenseg.losses.auto_seg import METRICS
from evenseg.report import search_page
from evenseg.study import search, worker
from evenseg.study.search import Job, SearchQueue, single_loss, trial_key
from evenseg.study.search_samplers import PPO2Sampler
from evenseg.study.search_space import make_space

FOCAL = {"types": [{"type": "FocalLoss", "gamma": 2.0}], "coef": [1]}
CURVES = {"types": [{"type": "AutoSegLoss", "metric": "mIoU", "parameters": "identity"}], "coef": [1]}
GAMMA = {"loss.types[0].gamma": {"low": 0.5, "high": 5.0}}


@pytest.fixture
def focal(tiny):
    """A configuration whose focal gamma is searched."""
    tiny["loss"] = FOCAL
    tiny["search"] = {"parameters": GAMMA, "proxy": {"iters": 2}, "trials": 4, "sampler": {"type": "Random"}}
    return tiny


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: mIoU is highest at gamma 3. Lists the configurations that were trained."""
    seen = []

    def fake(experiment, folder, title, callbacks, *, overwrite=False):
        config = experiment.config
        seen.append(config)
        gamma = config.loss["types"][0].get("gamma", 0.0)
        if isinstance(gamma, str):
            raise ValueError(f"gamma cannot be {gamma}")
        score = 0.9 - (gamma - 3) ** 2 / 20 + 0.001 * config.seed
        folder.mkdir(parents=True)
        row = {"step": config.iters, "miou": score, "iou": [1.0, score / 2], "accuracy": 0.5}
        from evenseg.config import dump_config

        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "summary.json").write_text(json.dumps({"best": row, "last": row, "seconds": 2.5}))

    monkeypatch.setattr(worker, "train_or_go_on", fake)
    return seen


def table(folder):
    with (folder / "search.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_trains_and_leaves_a_loss_a_table_and_a_page(tiny, tmp_path):
    tiny["loss"] = CURVES
    tiny["search"] = {
        "parameters": {"loss.types[0].parameters": "curves"},
        "proxy": {"iters": 1, "val_dataset.length": 2},
        "trials": 3,
        "sampler": {"type": "PPO2", "samples": 2},
    }
    said = []
    page = search(make_config(tiny), tmp_path / "s", say=said.append)
    assert page == tmp_path / "s" / "search.html"
    assert [line.split(":")[0] for line in said] == [f"trial {n} of 3" for n in range(3)]
    rows = table(tmp_path / "s")
    assert [row["state"] for row in rows] == ["finished"] * 3
    assert float(rows[0]["loss.types[0].parameters[0]"]) == 0.25
    assert 0 <= float(rows[1]["loss.types[0].parameters[7]"]) <= 1
    best = yaml.safe_load((tmp_path / "s" / "best_loss.yml").read_text())
    build_loss(best["loss"], num_classes=2)
    run = load_config(tmp_path / "s" / "trials" / "trial-0001" / "seed-0" / "config.yaml")
    assert run.iters == 1
    assert run.search is None
    assert len(run.loss["types"][0]["parameters"]) == 12
    assert not (tmp_path / "s" / "trials" / "trial-0001" / "seed-0" / "checkpoints").exists()
    assert load_config(tmp_path / "s" / "config.yaml").search.trials == 3
    text = page.read_text("utf-8")
    assert "mIoU: AND" in text
    assert "mIoU: OR" in text
    assert "<script src=" not in text


def test_the_best_values_are_pasted_as_a_loss(focal, tmp_path, trained):
    search(make_config(focal), tmp_path / "s", trials=8)
    rows = table(tmp_path / "s")
    assert float(rows[0]["loss.types[0].gamma"]) == 2.0, "the first trial is the loss as it is written"
    gammas = [float(row["loss.types[0].gamma"]) for row in rows]
    assert len(set(gammas)) == 8
    nearest = min(gammas, key=lambda gamma: abs(gamma - 3))
    text = (tmp_path / "s" / "best_loss.yml").read_text()
    assert yaml.safe_load(text) == {"loss": {"types": [{"type": "FocalLoss", "gamma": nearest}], "coef": [1]}}
    assert "the best of 8 by Random), 85.00 % as it was written" in text
    assert all(config.iters == 2 for config in trained)
    assert sum(float(row["seconds"]) for row in rows) == 20


def test_a_search_goes_on_and_is_the_one_that_was_never_broken_off(focal, tmp_path, trained):
    focal["search"]["sampler"] = {"type": "PPO2", "samples": 3}
    config = make_config(focal)
    search(config, tmp_path / "whole" / "s", trials=7)
    for trials in (2, 5, 7):
        search(config, tmp_path / "parts" / "s", trials=trials)
    assert len(trained) == 14
    assert table(tmp_path / "parts" / "s") == table(tmp_path / "whole" / "s")
    assert len({row["loss.types[0].gamma"] for row in table(tmp_path / "whole" / "s")}) == 7


@pytest.mark.parametrize("sampler", ["TPE", "Random"])
def test_samplers_of_optuna_do_not_repeat_themselves_when_they_go_on(focal, tmp_path, trained, sampler):
    focal["search"]["sampler"] = {"type": sampler}
    for trials in (2, 3, 4):
        search(make_config(focal), tmp_path / "s", trials=trials)
    search(make_config(focal), tmp_path / "again" / "s", trials=4)
    assert len({row["loss.types[0].gamma"] for row in table(tmp_path / "s")}) == 4
    assert table(tmp_path / "s") == table(tmp_path / "again" / "s")


def make_job(config, folder, storage, trials=6):
    section = config.search.model_copy(update={"trials": trials})
    space = make_space(config, section.parameters)
    return Job(folder, config, None, section, space, storage, "test", "cpu", folder.name, ("ground", "road"))


@pytest.mark.parametrize("storage", ["{}/journal.log", "sqlite:///{}/study.db"])
def test_a_trial_of_a_dead_process_is_trained_with_its_own_values(focal, tmp_path, storage):
    storage = storage.format(tmp_path)
    job, elsewhere = (make_job(make_config(focal), tmp_path / name, storage) for name in ("here", "there"))
    dead = SearchQueue(job)
    dead.begin()
    with dead.claim() as claim:
        claim.finish(0.5)
    lost = dead._ask(dead.entries[trial_key(1)])  # and its process dies here, without a lock
    queue = SearchQueue(job)
    with queue.claim() as claim:
        assert claim.entry.key == trial_key(1)
        assert claim.params == lost.params
        with SearchQueue(elsewhere).claim() as other:
            assert other.entry.key == trial_key(2), "the one before is being trained"
            assert other.params != claim.params
            other.finish(0.1)
        claim.finish(0.2)
    assert [trial.value for _, trial in sorted(queue.trials().items())] == [0.5, 0.2, 0.1]


def test_a_round_waits_for_the_one_before(focal, tmp_path):
    focal["search"]["sampler"] = {"type": "PPO2", "samples": 2}
    jobs = [make_job(make_config(focal), tmp_path / name, f"{tmp_path}/journal.log", trials=4) for name in "abc"]
    first, second, third = map(SearchQueue, jobs)
    first.begin()
    with first.claim() as one, second.claim() as two:
        assert (one.entry.key, two.entry.key) == (trial_key(0), trial_key(1))
        with third.claim() as none:
            assert none is None
        assert third.unfinished()
        one.finish(0.5)
        two.fail("diverged")
        with third.claim() as claim:
            assert claim.entry.key == trial_key(2)
            claim.finish(0.6)


def test_a_trial_that_fails_is_told_and_the_search_goes_on(focal, tmp_path, trained):
    focal["search"] |= {"parameters": {"loss.types[0].gamma": {"choices": [2.0, "high"]}}, "trials": 6, "seed": 1}
    page = search(make_config(focal), tmp_path / "s")
    rows = table(tmp_path / "s")
    failed = [row for row in rows if row["state"] == "failed"]
    assert failed
    assert len(failed) < 6
    assert all(row["loss.types[0].gamma"] == "high" and "gamma" in row["reason"] for row in failed)
    assert "without a result" in page.read_text("utf-8")


def test_several_seeds_are_averaged_and_one_class_can_be_the_metric(focal, tmp_path, trained):
    focal["search"] |= {"seeds": [0, 10], "metric": "iou.road", "trials": 1}
    search(make_config(focal), tmp_path / "s")
    (row,) = table(tmp_path / "s")
    assert float(row["value"]) == pytest.approx((0.85 + 0.86) / 4)
    assert float(row["seconds"]) == 5
    assert [config.seed for config in trained] == [0, 10]
    facts = json.loads((tmp_path / "s" / "search.json").read_text())
    assert facts["metric"] == "iou.road"
    assert "IoU of road" in (tmp_path / "s" / "search.html").read_text()


def test_one_of_several_losses(focal, tmp_path, trained):
    focal["losses"] = {"CE": {"types": [{"type": "CrossEntropyLoss"}], "coef": [1]}, "F.1": focal.pop("loss")}
    search(make_config(focal), tmp_path / "s", loss="F.1")
    assert yaml.safe_load((tmp_path / "s" / "best_loss.yml").read_text())["loss"]["types"][0]["type"] == "FocalLoss"
    assert {config.loss["types"][0]["type"] for config in trained} == {"FocalLoss"}


def test_proxies_follow_the_file(focal, write_yaml, tmp_path, trained):
    """Interpolations are resolved behind the changes of the proxy runs."""
    focal["val_dataset"]["size"] = "${train_dataset.size}"
    focal["search"]["proxy"] = {"train_dataset.size": 16}
    search(load_config(write_yaml(focal)), tmp_path / "s", trials=1)
    assert trained[0].val_dataset.keywords["size"] == 16


def test_workers_share_a_search(focal, tmp_path):
    focal["search"] |= {"proxy": {"iters": 1}, "trials": 2}
    search(make_config(focal), tmp_path / "s", workers=2)
    assert [row["state"] for row in table(tmp_path / "s")] == ["finished"] * 2


def test_lagging_runs_are_pruned(focal, tmp_path, monkeypatch):
    def fake(experiment, folder, title, callbacks, *, overwrite=False):
        (report,) = callbacks
        recorder = worker.Recorder(None, None, iters=4, log_interval=1, eval_interval=1)
        trainer = type("Trainer", (), {"callbacks": [recorder]})
        score = 0.9 if abs(experiment.config.loss["types"][0]["gamma"] - 2) < 0.75 else 0.1
        for step in range(1, 5):
            recorder.last = {"step": step, "miou": score, "iou": [score, score]}
            report.on_validation_end(trainer, None)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"last": recorder.last, "seconds": 1}))

    monkeypatch.setattr(worker, "train_or_go_on", fake)
    focal["search"] |= {"prune": True, "trials": 16, "proxy": {"iters": 4}}
    focal["search"]["parameters"] = {"loss.types[0].gamma": {"choices": [1.0, 2.0, 2.5, 5.0]}}
    search(make_config(focal), tmp_path / "s")
    rows = table(tmp_path / "s")
    assert rows[0]["state"] == "finished"
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert all("with miou 10.00 %: in the lower half of the runs at that step" in row["reason"] for row in pruned)


MISTAKES = [
    ({"parameters": {"optimizer.lr": {"low": 0.1, "high": 1}}}, "search.parameters.optimizer.lr: only keys of the loss section"),
    ({"parameters": {"loss.types[0].gama": {"low": 0.1, "high": 1}}}, r"there is no value to begin with: .* keys type, gamma; write one"),
    ({"parameters": {"loss.types[1].gamma": {"low": 0.1, "high": 1}}}, r"loss.types has 1 entries, counted from 0; write one"),
    ({"parameters": {"loss.types[0].gamma": {"low": 3, "high": 5}}}, r"begin with, 2.0, is not within \[3, 5\]"),
    ({"parameters": {"loss.types[0].type": {"low": 3, "high": 5}}}, "a range is for a number, but the configuration has 'FocalLoss'"),
    ({"parameters": {"loss.types[0].gamma": {"choices": [1, 3]}}}, r"begin with, 2.0, is none of the choices \[1, 3\]"),
    ({"parameters": {"loss.types[0].gamma": "curves"}}, r"curves are the `parameters` of an AutoSegLoss; loss.types\[0\] is 'FocalLoss'"),
    ({"parameters": {"loss.types[3].parameters": "curves"}}, "there is no such loss: loss.types has 1 entries"),
    ({"proxy": {"iterss": 3}}, r"search.proxy.iterss: unknown key 'iterss'; .* did you mean 'iters'"),
    ({"proxy": {"iters": 0}}, "search.proxy.iters: input should be greater than 0"),
    ({"proxy": {"loss.coef": [2]}}, "search.proxy.loss.coef: cannot be changed in a proxy run"),
    ({"metric": "mIoU"}, r"search.metric: unknown metric 'mIoU'; .*did you mean 'miou'"),
    ({"metric": "iou.raod"}, r"search.metric: unknown metric 'iou.raod'; .*did you mean 'iou.road'"),
    ({"sampler": {"type": "PPO"}}, r"search.sampler.type: unknown sampler type 'PPO'; .*did you mean 'PPO2'"),
    ({"sampler": {"type": "PPO2", "sample": 3}}, r"search.sampler.sample: unknown key 'sample'; .*did you mean 'samples'"),
    ({"sampler": {"type": "PPO2", "samples": 1}}, "search.sampler.samples: samples must be at least 2"),
    ({"sampler": {"type": "TPE", "seed": 3}}, "search.sampler.seed: is filled in by the run; leave it out"),
]


@pytest.mark.parametrize(("section", "message"), MISTAKES)
def test_mistakes_are_found_before_anything_is_written(focal, tmp_path, section, message):
    focal["search"] |= section
    with pytest.raises(ConfigError, match=message):
        search(make_config(focal), tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("searched", "message"),
    [
        ({"low": 1}, "needs low < high, got low 1.0 and high None"),
        ({"low": 2, "high": 1}, "needs low < high"),
        ({"low": 0, "high": 1, "log": True}, "log needs low > 0, got 0"),
        ({"low": 0.5, "high": 2, "integer": True}, "integer needs whole low and high, got 0.5"),
        ({"low": 0, "high": 1, "choices": [1, 2]}, "give one of: low and high, choices, curves"),
        ({"choices": [1]}, "choices needs different values, at least two"),
        ({"choices": [1, 2], "log": True}, "log and integer are for a range"),
        ("curve", "input should be"),
        ({}, "give one of: low and high, choices, curves"),
    ],
)
def test_ranges_that_cannot_be(focal, searched, message):
    focal["search"]["parameters"] = {"loss.types[0].gamma": searched}
    with pytest.raises(ConfigError, match=message) as error:
        make_config(focal)
    assert error.value.key_path == "search.parameters.loss.types[0].gamma"


def test_other_mistakes(focal, tmp_path, trained):
    with pytest.raises(ConfigError, match="search: there is no `search` section"):
        search(make_config({**focal, "search": None}), tmp_path / "s")
    with pytest.raises(ConfigError, match="loss: --loss CE: the file has one `loss` only"):
        search(make_config(focal), tmp_path / "s", loss="CE")
    several = {**focal, "loss": None, "losses": {"F": FOCAL, "C": CURVES}}
    with pytest.raises(ConfigError, match="losses: say with --loss which of them is searched: F, C"):
        search(make_config(several), tmp_path / "s")
    with pytest.raises(ConfigError, match="losses: unknown loss 'G'; allowed: F, C"):
        search(make_config(several), tmp_path / "s", loss="G")
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        search(make_config(focal), tmp_path / "s", workers=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no study folder"):
        search(make_config(focal), tmp_path / "full")
    search(make_config(focal), tmp_path / "s", trials=1)
    focal["optimizer"]["lr"] = 0.5
    with pytest.raises(ValueError, match="holds a search of another configuration"):
        search(make_config(focal), tmp_path / "s", trials=1)


def test_curves_are_searched_in_their_own_coding():
    def space_of(loss, curves="curves"):
        config = {
            "train_dataset": {"type": "SyntheticRoads"}, "val_dataset": {"type": "SyntheticRoads"}, "model": {"type": "ENet"},
            "optimizer": {"type": "SGD"}, "loss": {"types": [loss], "coef": [1]}, "iters": 1, "batch_size": 1,
            "search": {"parameters": {"loss.types[0].parameters": curves}},
        }  # fmt: skip
        made = make_config(config)
        return make_space(made, made.search.parameters)

    one = space_of({"type": "AutoSegLoss"})
    assert len(one.dimensions) == 12
    assert one.settings(one.start)["loss.types[0].parameters"] == pytest.approx(METRICS["mIoU"].published, abs=1e-6)
    two = space_of({"type": "AutoSegLoss", "metric": ["mIoU", "BF1"], "parameters": {"BF1": "identity"}})
    settings = two.settings(two.start)["loss.types[0].parameters"]
    assert settings["BF1"] == [0.5] * 8
    assert two.dimensions[-1].name == "loss.types[0].parameters.BF1[7]"
    more = space_of({"type": "AutoSegLoss", "metric": "mAcc", "parameters": "identity"}, {"curves": 3})
    assert more.settings(more.start)["loss.types[0].parameters"] == pytest.approx([k / 6 for k in range(1, 6) for _ in "xy"], abs=1e-6)
    with pytest.raises(ConfigError, match="another number of pieces than is searched; begin with 'identity'"):
        space_of({"type": "AutoSegLoss"}, {"curves": 3})
    with pytest.raises(ConfigError, match=r"loss.types\[0\]: metric: unknown name 'IoU'"):
        space_of({"type": "AutoSegLoss", "metric": "IoU"})


def test_the_report_knows_the_curves_of_every_metric():
    assert {name: metric.curves for name, metric in METRICS.items()} == search_page._COUNT


def test_cma_says_what_it_lacks(focal, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    focal["search"]["sampler"] = {"type": "CMA"}
    with pytest.raises(ConfigError, match=r"search\.sampler\.type: CMA needs the package cmaes"):
        search(make_config(focal), tmp_path / "s")


def test_the_sampler_is_one_of_optuna(focal):
    sampler = PPO2Sampler(make_space(make_config(focal), make_config(focal).search.parameters), samples=2)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("loss.types[0].gamma", 0.5, 5.0), n_trials=1)
    assert study.best_value == 2.0


def test_the_example_of_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "searching.md").read_text("utf-8")
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.S).group(1))
    crop = {"type": "RandomCrop", "size": [32, 32]}
    data = {"type": "SyntheticRoads", "transforms": [{"type": "RandomFlip"}, crop, {"type": "Normalize"}]}
    config = make_config(
        {
            "train_dataset": data, "val_dataset": {"type": "SyntheticRoads"}, "model": {"type": "ENet"}, "optimizer": {"type": "SGD"},
            "iters": 9, "batch_size": 1,
        }
        | example
    )
    space = make_space(config, config.search.parameters)
    assert len(space.dimensions) == 15
    changed = single_loss(config, None, {**config.search.proxy, **space.settings(space.start)})
    assert changed.iters == 100
    assert changed.train_dataset.transforms[1].keywords["size"] == [96, 96]
    build_loss(changed.loss, num_classes=2)
