"""The benchmark runs, refuses wrong values, writes results of the agreed form, and the page says what they say."""

import copy
import json
import time

import pytest
import torch
from benchmarks.machine import ROOT
from benchmarks.peers import UnavailableError

from benchmarks import __main__ as command
from benchmarks import gate, registry, report, schema, speed, targets, worker
from evenseg import losses as L
from evenseg.bench.inputs import IGNORE, make_batch

TINY = ((2, 3, 32, 48), (2, 1, 32, 48))


@pytest.fixture(scope="module")
def quick_result(tmp_path_factory):
    """A quick run through the command line at tiny shapes, its processes replaced by calls, as the file holds it."""
    file = tmp_path_factory.mktemp("benchmarks") / "result.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "run", lambda job: worker.work(json.loads(json.dumps(job))))
        patch.setattr(command, "QUICK_SIZES", {2: (1_000, 4_000)})
        shapes = [word for shape in TINY for word in ("--shape", ",".join(map(str, shape)))]
        assert command.main(["--quick", *shapes, "--out", str(file)]) == 0
    return json.loads(file.read_text(encoding="utf-8"))


def test_quick_run_measures_every_row(quick_result):
    schema.check(quick_result)
    for part, regimes in (("speed", 2), ("memory", 1)):
        for shape in TINY:
            names = [r["row"] for r in quick_result[part] if tuple(r["shape"]) == shape]
            kinds = 2 * regimes if part == "speed" else 1
            assert sorted(names) == sorted([row.name for row in registry.ROWS] * kinds)
    ours = [r for r in quick_result["speed"] if r["provider"] in ("torch", "evenseg")]
    assert all(r["skipped"] is None and r["rounds"] in (2, 3) for r in ours)
    assert len(quick_result["gate"]) == 3 * 2 * len(gate.SMALL_SHAPES)


def test_rows_of_one_loss_agree(quick_result):
    """What is compared is the same loss: our histogram, our sort and SMP's Lovász give one value."""
    for shape in TINY:
        values = {
            r["row"]: r["value"]
            for r in quick_result["speed"]
            if tuple(r["shape"]) == shape and r["logits"] == "untrained" and r["regime"] == "default" and r["ratio"]
        }
        assert values["lovasz"] == pytest.approx(values["lovasz_sort"], abs=1e-3)
        if "smp_lovasz" in values:
            assert values["lovasz_sort"] == pytest.approx(values["smp_lovasz"], abs=1e-5)
        if shape[1] > 1:  # torch's BCE cannot leave pixels out
            assert values["ce"] == pytest.approx(values["baseline"], abs=1e-5)


def test_page_is_made_of_the_result(quick_result):
    page = report.render(quick_result)
    assert quick_result["machine"]["cpu"] in page
    assert "(2, 3, 32, 48)" in page
    assert "A quick run" in page
    row = next(r for r in quick_result["speed"] if r["row"] == "lovasz")
    assert report.number(row["ratio"]["median"]) in page
    changed = copy.deepcopy(quick_result)
    next(r for r in changed["speed"] if r["row"] == "lovasz")["ratio"] = {"median": 77.7, "q1": 66.6, "q3": 88.8}
    assert f"77.7 [66.6, 88.8], n=3 {report.SLOWER}" in report.render(changed)


def test_report_command_writes_the_page(quick_result, tmp_path, capsys):
    source, page = tmp_path / "r.json", tmp_path / "docs" / "performance.md"
    source.write_text(json.dumps(quick_result), encoding="utf-8")
    assert command.main(["report", str(source), "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == report.render(quick_result)
    source.write_text("{}", encoding="utf-8")
    assert command.main(["report", str(source), "--page", str(page)]) == 2
    assert "format is missing" in capsys.readouterr().err
    assert command.main(["report", str(tmp_path / "none.json"), "--page", str(page)]) == 2


def test_newest_is_chosen_by_date(quick_result, tmp_path):
    for name, date in (("a", "2026-03-01T00:00:00+00:00"), ("b", "2026-02-01T00:00:00+00:00")):
        (tmp_path / f"{name}.json").write_text(json.dumps(quick_result | {"date": date}), encoding="utf-8")
    assert report.newest(tmp_path).name == "a.json"
    with pytest.raises(ValueError, match="run `make bench`"):
        report.newest(tmp_path / "empty")


def test_shipped_page_is_that_of_the_newest_result():
    if not (page := ROOT / "docs" / "performance.md").exists():
        pytest.skip("no page of measured times yet")
    newest = report.load(report.newest(command.RESULTS))
    assert page.read_text(encoding="utf-8") == report.render(newest), "run `python -m benchmarks report`"
    assert not newest["quick"]
    for name, chart in report.plots(newest).items():
        assert (page.with_suffix("") / name).read_text(encoding="utf-8") == chart, "run `python -m benchmarks report`"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("machine"), "machine is missing"),
        (lambda r: r.update(extra=1), "extra is not known"),
        (lambda r: r["gate"].clear(), "gate is empty"),
        (lambda r: r["speed"][0].pop("ratio"), "wrong keys: ratio"),
        (lambda r: r["speed"][0].update(row="unheard"), "row is 'unheard'"),
        (lambda r: r["speed"][0].update(ratio=None), "must be measured or say why not"),
        (lambda r: r["speed"][0]["ratio"].update(q1=1e9), "not a median between its quartiles"),
        (lambda r: r.update(quick=False), "3 rounds of 'baseline'"),
        (lambda r: r["sizes"][0].update(sizes=[]), "holds no times"),
        (lambda r: r["memory"][0].update(extra_bytes=None), r"memory\[0\] must be measured"),
    ],
)
def test_schema_sees_what_does_not_fit(quick_result, change, message):
    broken = copy.deepcopy(quick_result)
    change(broken)
    with pytest.raises(ValueError, match=message):
        schema.check(broken)


class Half(L.LovaszSoftmaxLoss):
    """Right value, wrong gradient."""

    def forward(self, logits, target, pixel_weight=None):
        value = super().forward(logits, target, pixel_weight)
        return value if self.method == "sort" else value.detach() + (value - value.detach()) / 2


class Shifted(L.LovaszSoftmaxLoss):
    """Right gradient, wrong value."""

    def forward(self, logits, target, pixel_weight=None):
        value = super().forward(logits, target, pixel_weight)
        return value if self.method == "sort" else value + 1e-3


class Weighted(L.CrossEntropyLoss):
    """Another mean."""

    def __init__(self):
        super().__init__(weight=[1.1, 1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "wrong", "what"),
    [
        ("LovaszSoftmaxLoss", Half, "Lovász against its sort"),
        ("LovaszSoftmaxLoss", Shifted, "Lovász against its sort"),
        ("CrossEntropyLoss", Weighted, "cross-entropy against torch"),
    ],
)
def test_no_times_for_wrong_values(monkeypatch, capsys, tmp_path, name, wrong, what):
    monkeypatch.setattr(registry.L, name, wrong)
    monkeypatch.setattr(worker, "run", lambda job: pytest.fail("measured in spite of wrong values"))
    assert command.main(["--quick", "--out", str(tmp_path / "r.json")]) == 1
    assert f"the values are wrong, so no times: {what}" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_gate_refuses_nan():
    nan = (float("nan"), torch.ones(2))
    with pytest.raises(gate.GateError, match="value off by nan"):
        gate.compare("x", nan, (1.0, torch.ones(2)), 1.0, 1.0, 1.0)


def test_process_has_the_regime_it_is_named_after(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "5")
    assert "MALLOC_TOP_PAD_" not in worker.environment("default")
    assert worker.environment("kept")["MALLOC_TOP_PAD_"] == "1000000000"


def test_measuring_process_answers_or_fails(capfd):
    job = {"task": "memory", "regime": "kept", "shapes": [TINY[0]], "providers": ["torch"]}
    [row] = worker.run(job)["rows"]
    assert row["row"] == "baseline"
    assert row["extra_bytes"] >= 2 * 3 * 32 * 48 * 4  # the gradient at least
    with pytest.raises(worker.WorkerError, match=r"memory \(kept\) ended with code 1"):
        worker.run(job | {"providers": ["nobody"]})
    assert "unknown providers ['nobody']" in capfd.readouterr().err


def sleeper(seconds):
    """A row that takes at least that long."""

    def make(batch):
        def call():
            time.sleep(seconds)
            return batch.logits.mean()

        return call

    return make


def missing(batch):
    raise UnavailableError("not here")


@pytest.fixture
def fake_rows(monkeypatch):
    rows = [
        registry.Case("lovasz", "lovasz", "evenseg", "ours", sleeper(0.0)),
        registry.Case("quick", "lovasz", "smp", "quick", sleeper(0.001), heavy=True),
        registry.Case("slow", "lovasz", "smp", "slow", sleeper(0.3), heavy=True),
        registry.Case("very_slow", "focal", "smp", "very slow", sleeper(0.8), heavy=True),
        registry.Case("sum", "mix", "smp", "sum", sleeper(60), heavy=True, parts=("slow", "very_slow")),
        registry.Case("missing", "mix", "monai", "missing", missing, heavy=True),
    ]
    monkeypatch.setattr(speed, "cases", lambda shape, providers: [r for r in rows if r.provider in providers])


PLAN = speed.Plan(rounds=7, fewest=3, seconds=0.1, slow=0.25, very_slow=0.7)


def test_slow_rows_get_fewer_rounds_and_are_not_repeated(fake_rows):
    earlier = {}
    rows = {r["row"]: r for r in speed.measure_shape(TINY[0], "default", "untrained", ("evenseg", "smp", "monai"), PLAN, earlier)}
    assert rows["lovasz"]["rounds"] == 7
    assert 3 <= rows["quick"]["rounds"] <= 7
    assert rows["slow"]["rounds"] == rows["very_slow"]["rounds"] == 1
    assert rows["sum"]["seconds"]["median"] == pytest.approx(
        rows["slow"]["seconds"]["median"] + rows["very_slow"]["seconds"]["median"]
    )
    assert "sum of its parts" in rows["sum"]["note"]
    assert rows["missing"]["skipped"] == "not here"
    assert set(earlier) == {"slow", "very_slow", "sum"}

    rows = {r["row"]: r for r in speed.measure_shape(TINY[0], "default", "trained", ("evenseg", "smp"), PLAN, earlier)}
    assert "untrained-like logits only" in rows["slow"]["skipped"]
    assert "measured once" in rows["very_slow"]["skipped"]
    assert rows["sum"]["skipped"]

    rows = {r["row"]: r for r in speed.measure_shape(TINY[0], "kept", "untrained", ("evenseg", "smp"), PLAN, earlier)}
    assert rows["slow"]["rounds"] == 1
    assert rows["very_slow"]["skipped"]


def test_targets_are_judged(quick_result):
    def row(name, ratio, shape, regime="default"):
        q = {"median": ratio, "q1": ratio, "q3": ratio}
        template = next(r for r in quick_result["speed"] if r["row"] == name)
        return template | {"shape": shape, "regime": regime, "logits": "untrained", "ratio": q, "skipped": None}

    def memory(name, extra):
        template = next(r for r in quick_result["memory"] if r["row"] == name)
        return template | {"shape": [4, 2, 512, 512], "extra_bytes": extra}

    sizes = next(r for r in quick_result["sizes"] if r["row"] == "lovasz")
    result = quick_result | {
        "quick": False,
        "speed": [
            row("lovasz", 0.69, [2, 19, 512, 1024]), row("lovasz", 1.01, [2, 19, 512, 1024], "kept"),
            row("mix", 1.2, [8, 1, 512, 512]), row("smp_lovasz", 20.0, [2, 19, 512, 1024]),
        ],
        "memory": [memory("baseline", 100), memory("lovasz", 100), memory("mix", 101)],
        "sizes": [sizes | {"flatness": 1.31}, sizes | {"flatness": 9.0, "row": "baseline"}],
    }  # fmt: skip
    got = [
        (t["what"].split()[0], t["row"], t["regime"], t["limit"], round(t["measured"], 2), t["met"]) for t in targets.judge(result)
    ]
    assert got == [
        ("time", "lovasz", "default", 0.7, 0.69, True),
        ("time", "lovasz", "kept", 1.0, 1.01, False),
        ("time", "mix", "default", 1.5, 1.2, True),
        ("times", "lovasz", "default", 30.0, 28.99, False),
        ("extra", "lovasz", None, 1.0, 1.0, True),
        ("extra", "mix", None, 1.0, 1.01, False),
        ("time", "lovasz", sizes["regime"], 1.3, 1.31, False),
    ]
    page = report.render(result | {"targets": targets.judge(result)})
    assert "**3 of 7 targets are met, 4 missed.**" in page
    assert page.count("**missed**") == 4
    assert (
        "| time beside the baseline | lovasz | (2, 19, 512, 1024) | default allocator, untrained-like | ≤ 0.7 | 0.69 | met |"
        in page
    )


def test_batches_are_what_they_are_called():
    batch, again = make_batch(TINY[0], "untrained"), make_batch(TINY[0], "untrained")
    assert torch.equal(batch.logits, again.logits)
    assert bool((batch.target[:, :4] == IGNORE).all())
    assert int((batch.target == IGNORE).sum()) == 2 * 4 * 48
    assert IGNORE not in batch.without_ignored()
    valid = batch.target != IGNORE

    def right(kind):
        b = make_batch(TINY[0], kind)
        return (b.logits.argmax(1) == b.target)[valid].float().mean().item()

    assert right("trained") > right("untrained") > 0.5
    assert set(make_batch(TINY[1], "trained").target.unique().tolist()) == {0, 1, IGNORE}
    with pytest.raises(ValueError, match="logits must be one of untrained, trained, got 'half'"):
        make_batch(TINY[0], "half")


def test_bad_options_are_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--shape", "1,2,x,4"])
    assert "'1,2,x,4' is not a shape N,C,H,W" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"unknown providers \['nobody'\]"):
        registry.cases(TINY[0], ["nobody"])
