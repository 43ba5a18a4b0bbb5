"""The page of a search from its facts alone."""

import json

import pytest

from evenseg.report import write_search_report
from evenseg.report.search_page import bezier, headline


def row(number, value, state="finished", **more):
    numbers = [0.25, 0.25, 0.5, 0.6, 0.75, 0.75 + number / 100] * 2
    return {
        "number": number, "state": state, "value": value, "seconds": 30.0, "values": {"a": 0.5}, "reason": "",
        "settings": {"loss.types[0].parameters": {"mIoU": numbers, "mAcc": [0.5, 0.5]}, "loss.types[0].name": "<b>"},
    } | more  # fmt: skip


@pytest.fixture
def facts():
    identity = [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    return {
        "metric": "iou.road", "trials": 5, "seeds": [0], "iters": 60, "sampler": "PPO2(samples=2)", "samples": 2, "device": "a CPU",
        "curves": [
            {"key": "loss.types[0].parameters", "metric": "mIoU", "start": identity * 2},
            {"key": "loss.types[0].parameters", "metric": "mAcc", "start": [0.5, 0.5]},
        ],
        "rows": [row(0, 0.5), row(1, None, "failed", reason="the loss is nan"), row(2, 0.625), row(3, 0.55)],
    }  # fmt: skip


def write(folder, facts, loss="# found\nloss: {}\n"):
    (folder / "search.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text("iters: 60\n")
    if loss:
        (folder / "best_loss.yml").write_text(loss)
    return write_search_report(folder).read_text("utf-8")


def test_it_says_what_was_found_at_what_cost(tmp_path, facts):
    page = write(tmp_path, facts)
    assert "Trial 2 is the best of 3 trials: 62.50 % IoU of road after 60 steps, against 50.00 % of the loss as it was written." in page
    assert "2 min 0 s" in page
    assert "+12.50" in page
    assert "trial 1: failed: the loss is nan" in page
    assert "has not come to its end" in page
    assert [name in page for name in ("mIoU: AND", "mIoU: OR", "mAcc: AND", "BF1: h1")] == [True, True, True, False]
    assert "<b>" not in page.split("</style>")[1].split("<footer>")[0]
    assert "# found" in page
    assert "<script src=" not in page


def test_before_the_first_result(tmp_path, facts):
    page = write(tmp_path, facts | {"rows": [row(0, None, "running", seconds=None)]}, loss="")
    assert "No trial has a result yet." in page
    assert "The loss that was found" not in page


def test_headline_when_nothing_was_better():
    assert headline("mIoU", row(0, 0.5), row(0, 0.5), 4, 60) == (
        "The loss as it was written is the best of 4 trials: 50.00 % mIoU after 60 steps."
    )


def test_points_of_a_curve():
    points = bezier([0.5, 0.5])
    assert points[0] == (0, 0)
    assert points[-1] == pytest.approx((1, 1))
    assert all(x == pytest.approx(y) for x, y in points)


def test_no_search(tmp_path):
    with pytest.raises(ValueError, match=r"search\.json is missing: .* holds no search"):
        write_search_report(tmp_path)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(ValueError, match=r"search\.json: not valid JSON"):
        write_search_report(tmp_path)
