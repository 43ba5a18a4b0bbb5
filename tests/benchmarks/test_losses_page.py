"""docs/losses.md says what the classes say, and every loss can be measured."""

import json

import pytest
from benchmarks.each_loss import PAGE, RESULT, measure
from benchmarks.losses_page import render

from evenseg.losses import LOSSES
from evenseg.losses.guide import FAMILIES, GUIDE


def test_every_loss_has_a_guide():
    assert set(GUIDE) == set(LOSSES)
    assert {g.family for g in GUIDE.values()} <= set(FAMILIES)


def test_page_is_the_generated_one():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == render(result), "run `python -m benchmarks.each_loss --page`"
    assert {row["loss"] for row in result["rows"]} == set(LOSSES), "run `python -m benchmarks.each_loss`"


@pytest.mark.filterwarnings("ignore")
def test_every_loss_can_be_measured(capsys):
    result = measure(((1, 3, 32, 48),))
    assert [row["loss"] for row in result["rows"]] == list(LOSSES)
    assert all(row["ratio"] and row["seconds"]["median"] > 0 for row in result["rows"]), [r["skipped"] for r in result["rows"]]
    text = render(result)
    for name in LOSSES:
        assert f"### {name}\n" in text
