"""The pages: their numbers against numpy, what is missing, one seed, one loss, escaping, no network, bad folders."""

import ast
import base64
import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, Browser, DoesNotRunError

import evenseg.report
from conftest import CLASSES, STEPS, png, write_run, write_study
from evenseg.report import write_run_report, write_study_report
from evenseg.report.statistics import bootstrap_interval, paired_difference

VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """The parts of a page a test asks for: tags with attributes, tables as text, headings, text without scripts."""

    def __init__(self, file):
        super().__init__()
        self.source = Path(file).read_text(encoding="utf-8")
        self.tags, self.tables, self.scripts, self.styles, self.texts = [], [], [], [], []
        self.open = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" in self.open:
            self.styles.append(data)
        else:
            self.texts.append(data)
            if {"td", "th"} & set(self.open):
                self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def table(self, first_header):
        for table in self.tables:
            if table[0][0] == first_header[0] and first_header[1] in table[0]:
                return [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in table]
        raise AssertionError(f"no table with header {first_header}")

    def charts(self):
        """The figures by id."""
        ids = [attrs["data-chart"] for tag, attrs in self.tags if tag == "script" and "data-chart" in attrs]
        figures = [json.loads(text) for text in self.scripts if text.startswith('{"data"')]
        return dict(zip(ids, figures))


@pytest.fixture(scope="module")
def page(study):
    return Page(write_study_report(study[0]))


def of(best, loss, value):
    return np.array([100 * value(row) for (name, _), row in best.items() if name == loss])


def shown(values):
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def test_the_page_is_written_into_the_study(study, page):
    assert (study[0] / "report.html").is_file()
    assert not list(study[0].glob("*.part"))


def test_score_table_equals_numpy(study, page):
    _, best = study
    table = page.table(("loss", "mIoU, best"))
    header = table[0]
    assert [row[0] for row in table[1:]] == ["CE", "CE + Lovász hinge", "BCE + Dice"]
    columns = {"mIoU, best": "miou", "per-image mIoU": "per_image_miou", "mean accuracy": "mean_accuracy"}
    for row in table[1:]:
        for title, key in (columns | {"mean Dice": "mean_dice"}).items():
            assert row[header.index(title)] == shown(of(best, row[0], lambda r, key=key: r[key]))
        assert row[header.index("seconds/step")] == "0.1010 ± 0.0010"
        assert row[header.index("n")] == "3"


def test_last_score_is_that_of_the_last_step(study, page):
    folder, _ = study
    last = []
    for seed in range(3):
        rows = (folder / "runs" / "CE" / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        last.append(100 * json.loads(rows[-1])["miou"])
    table = page.table(("loss", "mIoU, best"))
    assert table[1][table[0].index("mIoU, last")] == shown(last)


def test_class_table_equals_numpy(study, page):
    _, best = study
    table = page.table(("class", "CE"))
    assert [row[0] for row in table[1:]] == CLASSES
    for c, row in enumerate(table[1:]):
        base = of(best, "CE", lambda r, c=c: r["iou"][c])
        assert row[1] == shown(base)
        for column, loss in ((2, "CE + Lovász hinge"), (3, "BCE + Dice")):
            values = of(best, loss, lambda r, c=c: r["iou"][c])
            delta = np.mean(values - base)
            arrow = "▲ +" if delta > 0 else "▼ −"
            assert row[column] == f"{shown(values)}{arrow}{abs(delta):.2f}"


def test_difference_table_equals_the_paired_interval(study, page):
    _, best = study
    table = page.table(("loss", "mean difference"))
    base = of(best, "CE", lambda r: r["miou"])
    for row in table[1:]:
        values = of(best, row[0], lambda r: r["miou"])
        result = paired_difference(values, base)
        assert float(row[1].replace("−", "-")) == pytest.approx(np.mean(values - base), abs=0.005)
        low, high = (float(v.replace("−", "-")) for v in row[2].split(" to "))
        assert (low, high) == (pytest.approx(result.low, abs=0.005), pytest.approx(result.high, abs=0.005))
        assert tuple(float(v.replace("−", "-")) for v in row[3].split(" to ")) == pytest.approx(
            bootstrap_interval(values - base), abs=0.005
        )
        assert row[4] == "3"
        assert float(row[5]) == pytest.approx(result.p, abs=0.005)
        assert row[7].lower().startswith(result.verdict)


def test_headline_states_the_largest_difference_with_its_interval(study, page):
    _, best = study
    difference = np.mean(of(best, "CE + Lovász hinge", lambda r: r["miou"]) - of(best, "CE", lambda r: r["miou"]))
    assert f"CE + Lovász hinge beats CE by {difference:.2f} points of mIoU (95 % interval +" in page.text
    assert "With only 3 paired seeds" in page.text
    assert "2 losses are compared with the baseline" in page.text


def test_curves_are_means_with_a_band_from_lowest_to_highest(study, page):
    folder, _ = study
    by_seed = []
    for seed in range(3):
        lines = (folder / "runs" / "CE" / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        by_seed.append([100 * r["miou"] for r in map(json.loads, lines) if r["split"] == "val"])
    traces = [t for t in page.charts()["curve"]["data"] if t["meta"]["series"] == 0]
    bands = [t for t in traces if t["meta"]["role"] == "band"]
    (line,) = (t for t in traces if t["meta"]["role"] == "line")
    assert line["x"] == STEPS
    np.testing.assert_allclose(line["y"], np.mean(by_seed, axis=0))
    np.testing.assert_allclose(bands[0]["y"], np.min(by_seed, axis=0))
    np.testing.assert_allclose(bands[1]["y"], np.max(by_seed, axis=0))
    assert "Band: from the lowest to the highest seed." in page.text


def test_training_loss_by_term(study, page):
    folder, _ = study
    chart = page.charts()["loss-1"]
    lines = {t["name"]: t for t in chart["data"] if t["meta"]["role"] == "line"}
    assert list(lines) == ["loss", "CrossEntropyLoss", "LovaszSoftmaxLoss"]
    runs = [folder / "runs" / "CE + Lovász hinge" / f"seed-{s}" / "metrics.jsonl" for s in range(3)]
    rows = [[r for r in map(json.loads, f.read_text().splitlines()) if r["split"] == "train"] for f in runs]
    for term in ("CrossEntropyLoss", "LovaszSoftmaxLoss"):
        np.testing.assert_allclose(lines[term]["y"], np.mean([[r["terms"][term] for r in run] for run in rows], axis=0))
    # a loss that is its only term is drawn once
    assert [t["name"] for t in page.charts()["loss-0"]["data"] if t["meta"]["role"] == "line"] == ["loss"]


def test_pictures_are_the_files_from_worst_to_best(study, page):
    folder, _ = study
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 4 * (2 + 3)
    assert all(attrs["alt"] for attrs in images)
    urls = {attrs["alt"]: attrs["src"] for attrs in images}
    file = folder / "runs" / "BCE + Dice" / "seed-0" / "overlays" / "image_5_prediction.png"
    prefix, data = urls["Prediction of BCE + Dice for image image_5"].split(",")
    assert prefix == "data:image/png;base64"
    assert base64.b64decode(data) == file.read_bytes()
    headings = re.findall(r"<h3>((?:Worst: |Best: )?image_\d)", page.source)
    assert headings == ["image_5", "image_4", "image_1", "image_0"]
    assert "the worst · mean per-image mIoU" in page.text
    assert "the best · mean per-image mIoU" in page.text


def assert_loads_nothing(page):
    """No address outside the page in any attribute or style, and a policy that forbids the rest."""
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"):
            assert attrs.get(name, "data:").startswith(("data:", "#")), (tag, name)
        assert "url(" not in (attrs.get("style") or "")
        assert tag not in ("iframe", "object", "embed", "base")
    for style in page.styles:
        assert "url(" not in style
        assert "@import" not in style
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data: blob:;")
    assert "http" not in policies[0]
    ours = [script for script in page.scripts if "plotly.js v" not in script]
    assert not [script for script in ours if "http:" in script or "https:" in script]
    assert sum("plotly.js v" in script for script in page.scripts) == 1, "plotly.js is inlined exactly once"


def test_pages_load_nothing_from_the_network(study, page):
    assert_loads_nothing(page)
    assert_loads_nothing(Page(write_run_report(study[0] / "runs" / "CE" / "seed-0")))


def test_accessible_tables_and_charts(page):
    cells = [attrs for tag, attrs in page.tags if tag == "th"]
    assert cells
    assert all(attrs.get("scope") in ("row", "col") for attrs in cells)
    charts = [attrs for tag, attrs in page.tags if attrs.get("class") == "chart"]
    assert len(charts) == len(page.charts()) == 6
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in charts)
    assert ("html", {"lang": "en"}) in page.tags


def test_set_up_is_folded(page):
    assert "Config of the study" in page.text
    assert "Resolved config of CE, seed 0" in page.text
    assert "type: BCE + Dice" in page.text
    assert '"cpu": "made up"' in page.text
    assert "All runs were made in the same environment." in page.text
    assert not any("open" in attrs for tag, attrs in page.tags if tag == "details")


def test_missing_runs_are_named(tmp_path):
    best = write_study(tmp_path, {"CE": 0.5, "Dice": 0.52})
    shutil.rmtree(tmp_path / "runs" / "Dice" / "seed-1")
    (tmp_path / "runs" / "CE" / "seed-2" / "summary.json").unlink()
    with (tmp_path / "runs" / "CE" / "seed-2" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 99')  # killed while writing
    page = Page(write_study_report(tmp_path))
    assert "2 runs of 6 missing." in page.text
    assert "Dice, seed 1: never started: no run folder" in page.text
    assert f"CE, seed 2: not finished: the last logged step is {STEPS[-1]}" in page.text
    table = page.table(("loss", "mIoU, best"))
    assert [row[-1] for row in table[1:]] == ["2 of 3", "2 of 3"]
    assert table[1][1] == shown([100 * best["CE", seed]["miou"] for seed in (0, 1)])
    # only seed 0 finished with both
    difference = page.table(("loss", "mean difference"))[1]
    assert difference[2:6] == ["none", "too few", "1", "none"]
    assert float(difference[1]) == pytest.approx(100 * (best["Dice", 0]["miou"] - best["CE", 0]["miou"]), abs=0.005)


def test_no_pair_at_all(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.52}, seeds=(0, 1))
    for run in ("CE/seed-0", "Dice/seed-1"):
        (tmp_path / "runs" / run / "summary.json").unlink()
    page = Page(write_study_report(tmp_path))
    assert "No difference can be given" in page.text
    assert page.table(("loss", "mean difference"))[1][1:5] == ["n/a", "none", "too few", "0"]


def test_no_run_finished(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.52}, seeds=(0,), finished=False)
    page = Page(write_study_report(tmp_path))
    assert "No run of this study has finished" in page.text
    assert "2 runs of 2 missing." in page.text
    assert page.table(("class", "CE"))[1] == ["background", "no run", "no run"]


def test_one_seed_has_no_interval(tmp_path):
    best = write_study(tmp_path, {"CE": 0.5, "Dice": 0.52}, seeds=(4,))
    page = Page(write_study_report(tmp_path))
    difference = 100 * (best["Dice", 4]["miou"] - best["CE", 4]["miou"])
    assert f"One seed, so nothing is shown yet: Dice is {difference:.2f} points of mIoU above CE" in page.text
    assert "no interval can be given" in page.text
    assert "±" not in page.text
    assert page.table(("loss", "mean difference"))[1][2] == "none"
    assert not [t for t in page.charts()["curve"]["data"] if t["meta"]["role"] == "band"]


def test_one_loss_has_no_comparison(tmp_path):
    best = write_study(tmp_path, {"CE": 0.5})
    page = Page(write_study_report(tmp_path))
    miou = shown([100 * row["miou"] for row in best.values()])
    assert f"CE reaches {miou} % mIoU over 3 seeds; there is no other loss to compare it with." in page.text
    assert "Difference to" not in page.text
    assert "differences" not in page.charts()


def test_an_absent_class_has_no_iou(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.52}, iou_missing=(2,))
    page = Page(write_study_report(tmp_path))
    table = page.table(("class", "CE"))
    assert table[3] == ["kerb", "absent", "absent"]
    assert table[2][0] == "road"
    assert "absent" not in table[2]
    run = Page(write_run_report(tmp_path / "runs" / "CE" / "seed-0"))
    assert run.table(("class", f"best (step {STEPS[-1]})"))[3] == ["kerb", "absent", "absent"]


def test_a_run_without_any_score(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.52}, iou_missing=(0, 1, 2))
    page = Page(write_study_report(tmp_path))
    assert page.table(("loss", "mIoU, best"))[1][1:6] == ["n/a"] * 5
    assert "No validation of this run has an mIoU" in Page(write_run_report(tmp_path / "runs" / "CE" / "seed-0")).text


def test_a_diverged_loss_leaves_a_gap(tmp_path):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0,))
    log = tmp_path / "runs" / "CE" / "seed-0" / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[3]["loss"] = rows[3]["terms"]["CrossEntropyLoss"] = float("nan")
    log.write_text("\n".join(map(json.dumps, rows)))
    (line,) = (t for t in Page(write_study_report(tmp_path)).charts()["loss-0"]["data"] if t["name"] == "loss")
    assert line["y"][3] is None
    assert line["y"][2] == rows[2]["loss"]


def test_a_long_log_is_thinned_to_block_means(tmp_path):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0,))
    log = tmp_path / "runs" / "CE" / "seed-0" / "metrics.jsonl"
    row = {"time": 0.0, "split": "train", "terms": {}, "lr": 0.1}
    log.write_text("\n".join(json.dumps(row | {"step": s, "loss": float(s)}) for s in range(1, 1001)))
    (line,) = Page(write_study_report(tmp_path)).charts()["loss-0"]["data"]
    assert line["x"][:2] == [3, 6]
    assert line["y"][:2] == [2, 5]
    assert len(line["x"]) == 334


EVIL = "<script>alert(1)<&script>'\""


def test_whatever_files_hold_is_escaped(tmp_path):
    plain, evil = tmp_path / "plain", tmp_path / "evil"
    write_study(plain, {"CE": 0.5, "Dice": 0.52})
    names = [EVIL, "<img src=x onerror=alert(1)>", "&amp;"]
    write_study(evil, {EVIL: 0.5, '"><b>Dice': 0.52}, classes=names)
    for config in evil.rglob("config.yaml"):
        config.write_text("</pre></script><script>alert(2)</script>\n")
    for environment in evil.rglob("environment.json"):
        environment.write_text(json.dumps({"host": "</pre><script>alert(3)</script>"}))
    for overlay in evil.rglob("image_0.json"):
        overlay.write_text(json.dumps({"name": '"><script>alert(4)</script>', "iou": [], "miou": 0.99}))
    good, bad = Page(write_study_report(plain)), Page(write_study_report(evil))
    assert [tag for tag, _ in bad.tags] == [tag for tag, _ in good.tags], "a name added an element"
    assert not [attrs for _, attrs in bad.tags if any(name.startswith("on") for name in attrs)]
    assert [row[0] for row in bad.table(("class", EVIL))[1:]] == names
    assert "alert(2)" in bad.text
    assert bad.charts()["curve"]["data"][-1]["name"] == "&quot;&gt;&lt;b&gt;Dice", "plotly reads tags in names"
    run = Page(write_run_report(evil / "runs" / EVIL / "seed-0"))
    assert [t for t, _ in run.tags] == [t for t, _ in Page(write_run_report(plain / "runs/CE/seed-0")).tags]


def test_run_report(tmp_path):
    best = write_run(tmp_path / "run", "Dice", 3, 0.5)
    path = write_run_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    page = Page(path)
    headline = f"Dice reaches {100 * best['miou']:.2f} % validation mIoU at step {best['step']} of {STEPS[-1]}"
    assert headline in page.text
    scores = {row[0]: row[1] for row in page.table(("score", f"last (step {STEPS[-1]})"))[1:]}
    assert scores["mIoU"] == f"{100 * best['miou']:.2f}"
    assert scores["pixel accuracy"] == f"{100 * best['accuracy']:.2f}"
    classes = {row[0]: row[1] for row in page.table(("class", f"last (step {STEPS[-1]})"))[1:]}
    assert classes == {name: f"{100 * v:.2f}" for name, v in zip(CLASSES, best["iou"])}
    assert set(page.charts()) == {"curve", "loss-1"}


def test_a_run_without_overlays_has_no_pictures(tmp_path):
    write_run(tmp_path / "run", "Dice", 3, 0.5)
    shutil.rmtree(tmp_path / "run" / "overlays")
    assert "Predictions" not in Page(write_run_report(tmp_path / "run")).text


def test_large_pictures_are_reduced_without_mixing_classes(tmp_path):
    from io import BytesIO

    from PIL import Image

    from evenseg.report.overlays import read_png

    labels = np.zeros((10, 2000), dtype=np.uint8)
    labels[:, ::2] = 2
    (tmp_path / "large.png").write_bytes(png(labels))
    picture = read_png(tmp_path / "large.png")
    assert (picture.width, picture.height) == (768, 4)
    image = Image.open(BytesIO(base64.b64decode(picture.url.split(",")[1])))
    assert image.size == (768, 4)
    assert set(np.unique(np.asarray(image))) <= {0, 2}


def edit(file, **changes):
    data = json.loads(file.read_text())
    data.update(changes)
    file.write_text(json.dumps({key: value for key, value in data.items() if value != "DELETE"}))


RUN = "runs/CE/seed-0"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "study.json").unlink(), r"study\.json: no such file"),
        (lambda s: (s / "study.json").write_text("{"), r"study\.json: not valid JSON"),
        (lambda s: (s / "study.json").write_text("[]"), r"study\.json: holds a list; allowed: a JSON object"),
        (lambda s: edit(s / "study.json", losses="DELETE"), r"study\.json: 'losses' is missing"),
        (lambda s: edit(s / "study.json", losses=[]), r"study\.json: losses is \[\]; allowed: at least one"),
        (lambda s: edit(s / "study.json", losses=["../CE"]), r"study\.json: loss name '\.\./CE' is no folder name"),
        (lambda s: edit(s / "study.json", seeds=[0, "1"]), r"study\.json: seeds: 1 is '1'; allowed: int"),
        (lambda s: edit(s / "study.json", metric="loss"), r"study\.json: metric is 'loss'; allowed: 'miou'"),
        (lambda s: edit(s / "study.json", seconds=None), r"study\.json: 'seconds' is None; allowed: a finite number"),
        (lambda s: edit(s / "study.json", classes=["a"]), r"seed-0.summary\.json: classes are .*; allowed: those of"),
        (lambda s: (s / "config.yaml").unlink(), r"config\.yaml: no such file"),
        (lambda s: (s / RUN / "metrics.jsonl").unlink(), r"seed-0.metrics\.jsonl: no such file"),
        (
            lambda s: (s / RUN / "metrics.jsonl").write_text("{}\n"),
            r"metrics\.jsonl:1: split is None; allowed: 'train'",
        ),
        (lambda s: (s / RUN / "metrics.jsonl").write_text("\n{\n"), r"metrics\.jsonl:2: not valid JSON"),
        (lambda s: (s / RUN / "metrics.jsonl").write_bytes(b"\xff\xfe"), r"metrics\.jsonl: cannot be read as text"),
        (lambda s: (s / RUN / "environment.json").unlink(), r"environment\.json: no such file"),
        (lambda s: edit(s / RUN / "summary.json", best="DELETE"), r"summary\.json: 'best' is missing"),
        (lambda s: edit(s / RUN / "summary.json", steps="9"), r"summary\.json: 'steps' is '9'; allowed: int"),
        (lambda s: edit(s / RUN / "summary.json", colors=[[0, 0, 256]] * 3), r"summary\.json: colors are"),
        (lambda s: (s / RUN / "overlays/image_0_target.png").unlink(), r"image_0_target\.png: no such file"),
        (lambda s: (s / RUN / "overlays/image_0_target.png").write_text("x" * 40), r"image_0_target\.png: not a PNG"),
        (
            lambda s: edit(s / RUN / "overlays/image_0.json", miou=61.2),
            r"image_0\.json: 'miou' is 61\.2; allowed: a fr",
        ),
    ],
)
def test_a_damaged_folder_names_the_file(tmp_path, damage, message):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0,))
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        write_study_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_per_cent_instead_of_fractions_is_refused(tmp_path):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0,))
    file = tmp_path / RUN / "summary.json"
    best = json.loads(file.read_text())["best"]
    edit(file, best=best | {"miou": 61.2})
    with pytest.raises(ValueError, match=r"summary\.json: best: 'miou' is 61\.2; allowed: a fraction of 0\.\.1"):
        write_study_report(tmp_path)
    edit(file, best=best | {"iou": [0.1]})
    with pytest.raises(ValueError, match=r"best: iou has 1 values; allowed: one for each of 3 classes"):
        write_study_report(tmp_path)


def test_a_run_report_needs_a_finished_run(tmp_path):
    write_run(tmp_path / "run", "Dice", 3, 0.5, finished=False)
    with pytest.raises(ValueError, match=r"summary\.json: no such file; the run has not finished"):
        write_run_report(tmp_path / "run")
    with pytest.raises(ValueError, match=r"nowhere.summary\.json: no such file"):
        write_run_report(tmp_path / "nowhere")


def test_different_environments_are_pointed_out(tmp_path):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0, 1))
    edit(tmp_path / "runs" / "CE" / "seed-1" / "environment.json", cpu="another")
    assert "not all made in the same environment; they differ in: cpu." in Page(write_study_report(tmp_path)).text


def test_report_imports_no_torch_and_nothing_heavy_early():
    for file in Path(evenseg.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("torch", "torchvision", "lightning")], file.name
            inside = [n for n in names if n.startswith("evenseg.")]
            assert all(n.startswith("evenseg.report") for n in inside), file.name
    code = "import sys, evenseg.report; sys.exit(any(m in sys.modules for m in ('plotly', 'jinja2', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_evaluations_there_is_nothing_on_boundaries(page):
    assert "Boundaries and calibration" not in page.text
    assert "Image by image" not in page.text


def test_evaluations_are_shown(evaluated_study):
    folder, _ = evaluated_study
    page = Page(write_study_report(folder))
    table = page.table(("loss", "mIoU", "per-image mIoU", "boundary F1"))
    assert [row[0] for row in table[1:]] == ["CE", "CE + Lovász hinge", "BCE + Dice"]
    assert table[1][5] == "5.00 ± 0.00"
    assert "images" in page.charts()
    assert "reliability" in page.charts()
    assert "where CE + Lovász hinge gains most on CE: +" in page.text
    images = page.table(("loss", "images higher"))
    assert [row[-1] for row in images[1:]] == ["12", "12"], "the image without a labelled pixel has no score"


def test_on_test_images_where_every_run_was_measured_on_them(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.6}, evaluated=("val", "test"))
    for seed in (0, 1, 2):
        for loss, miou in (("CE", 0.7), ("Dice", 0.4 + 0.01 * seed)):
            edit(tmp_path / "runs" / loss / f"seed-{seed}" / "evaluation" / "test.json", miou=miou)
    page = Page(write_study_report(tmp_path))
    assert "Dice falls behind CE by 29.00 points of test mIoU" in page.text
    assert "Scores are of the test images" in page.text
    (tmp_path / "runs" / "CE" / "seed-2" / "evaluation" / "test.json").unlink()
    assert "Dice beats CE by" in Page(write_study_report(tmp_path)).text


def test_the_tables_as_csv(evaluated_study):
    folder, best = evaluated_study
    write_study_report(folder)
    read = {file.stem: list(csv.DictReader(file.open(encoding="utf-8"))) for file in (folder / "tables").iterdir()}
    assert set(read) == {
        "runs", "scores", "differences", "classes", "curves", "measures_val", "images_val", "reliability_val"
    }  # fmt: skip
    assert {(row["loss"], int(row["seed"])): float(row["best_miou"]) for row in read["runs"]} == {
        key: pytest.approx(row["miou"]) for key, row in best.items()
    }
    (row,) = [row for row in read["differences"] if row["loss"] == "BCE + Dice"]
    values = [best["BCE + Dice", seed]["miou"] - best["CE", seed]["miou"] for seed in (0, 1, 2)]
    assert float(row["mean"]) == pytest.approx(np.mean(values))
    assert [float(row[f"seed {seed}"]) for seed in (0, 1, 2)] == pytest.approx(values)
    assert (row["verdict"], row["judged_on"]) == ("undecided", "validation, best step")
    assert len(read["images_val"]) == 13
    assert len(read["curves"]) == 9 * len(STEPS)
    assert float(read["measures_val"][2]["mean"]) == pytest.approx(0.62, abs=0.02)


def test_runs_that_were_stopped_early_are_a_caveat(tmp_path):
    write_study(tmp_path, {"CE": 0.5, "Dice": 0.6})
    (tmp_path / "runs" / "Dice" / "seed-2" / "summary.json").unlink()
    row = {"loss": "Dice", "seed": 2, "state": "pruned", "reason": "pruned at step 400 of 1000"}
    edit(tmp_path / "study.json", unfinished=[row])
    text = Page(write_study_report(tmp_path)).text
    assert "Dice, seed 2: pruned at step 400 of 1000" in text
    assert "1 run lagged behind and was stopped early" in text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e: edit(e / "val.json", classes=["a"]), r"val\.json: classes are \['a'\]; allowed: those of the run"),
        (lambda e: edit(e / "val.json", calibration="DELETE"), r"val\.json: 'calibration' is missing"),
        (lambda e: edit(e / "val.json", mean_boundary_f1=3), r"val\.json: 'mean_boundary_f1' is 3"),
        (lambda e: (e / "val_images.csv").write_text("a,b\n1,2\n"), r"val_images\.csv: columns are \['a', 'b'\]"),
        (lambda e: (e / "val_images.csv").write_text("image,miou\nx,much\n"), r"val_images\.csv:2: miou is 'much'"),
    ],
)
def test_a_damaged_evaluation_names_the_file(tmp_path, damage, message):
    write_study(tmp_path, {"CE": 0.5}, seeds=(0,), evaluated=("val",))
    damage(tmp_path / RUN / "evaluation")
    with pytest.raises(ValueError, match=message):
        write_study_report(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(evaluated_study, width):
    """Every chart is drawn; nothing is loaded, nothing complained about; no text smaller than 11 pixels, no page scroll."""
    file = write_study_report(evaluated_study[0])
    charts = Page(file).charts()
    assert len(charts) == 8
    try:
        with Browser(width) as browser:
            browser.open(file)
            drawn = browser.evaluate("[...document.querySelectorAll('.chart .main-svg .trace')].length")
            wide = browser.evaluate("document.documentElement.scrollWidth")
            small = browser.evaluate(
                "Math.min(...[...document.querySelectorAll('main *')].filter(e => e.children.length === 0 && e.textContent.trim())"
                ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
            )
            requests, complaints = browser.requests, browser.complaints
    except DoesNotRunError as error:
        pytest.skip(f"chromium does not run here: {error}")
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert complaints == []
    assert drawn >= 20
    assert wide == width
    assert small >= 11


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_browser_test_can_fail(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><div style='width: 900px'>wide</div><script>nothing.here()</script>")
    try:
        with Browser(390) as browser:
            browser.open(page)
            assert browser.evaluate("document.documentElement.scrollWidth") > 390
            assert any("127.0.0.1:9" in url for url in browser.requests)
            assert any("nothing is not defined" in text for text in browser.complaints)
    except DoesNotRunError as error:
        pytest.skip(f"chromium does not run here: {error}")
