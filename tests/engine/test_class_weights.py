"""Class weights by the name of a rule: counted on the training masks, the same as when typed in as numbers."""

import copy
import json

import numpy as np
import pytest

from evenseg.config import ConfigError, make_config
from evenseg.data.class_statistics import effective_number_weights, median_frequency_weights
from evenseg.engine import check_signatures, cross_check, resolve, train
from evenseg.engine.class_weights import RULES, RuleName, with_class_weights

COUNTS = np.array([[90, 10, 0], [60, 40, 0]])


def weighted(tiny, weight):
    tiny = copy.deepcopy(tiny)
    tiny["loss"]["types"] = [{"type": "MixedLoss", "coef": [1, 1], "losses": [
        {"type": "CrossEntropyLoss", "weight": weight}, {"type": "DiceLoss"}]}]  # fmt: skip
    return make_config(tiny)


def test_rules_become_numbers_wherever_they_stand():
    section = {"types": [{"type": "A", "weight": "median_frequency"}, {"losses": [{"weight": "effective_number"}, {"weight": [1, 2, 3]}]}]}
    found = with_class_weights(section, "loss", 3, COUNTS)
    median, effective = median_frequency_weights(COUNTS), effective_number_weights(COUNTS)
    assert found["types"][0]["weight"] == [*median[:2], 0.0], "a class without a pixel has no weight"
    assert found["types"][1]["losses"][0]["weight"] == [*effective[:2], 0.0]
    assert found["types"][1]["losses"][1]["weight"] == [1, 2, 3]
    assert section["types"][0]["weight"] == "median_frequency", "the section itself stays as it is"
    assert with_class_weights(section, "loss", 3, None)["types"][0]["weight"] == [1.0, 1.0, 1.0]
    assert set(RULES) == set(RuleName.__args__)


def test_a_rule_trains_as_its_numbers_do(tiny, tmp_path):
    by_name = weighted(tiny, "inverse_log")
    counts = resolve(by_name).class_counts
    numbers = RULES["inverse_log"](counts)
    assert numbers[1] > 2 * numbers[0]
    found = train(by_name, tmp_path / "named")
    typed = train(weighted(tiny, numbers), tmp_path / "typed")
    assert (found / "metrics.jsonl").read_bytes() == (typed / "metrics.jsonl").read_bytes()
    assert json.loads((found / "summary.json").read_text())["class_weights"] == {"inverse_log": numbers}
    assert "class_weights" not in json.loads((typed / "summary.json").read_text())
    plain = train(make_config(tiny), tmp_path / "plain")
    assert (plain / "metrics.jsonl").read_bytes() != (typed / "metrics.jsonl").read_bytes()


def test_an_unknown_rule_is_named_before_any_data_is_read(tiny):
    for check in (check_signatures, cross_check):
        with pytest.raises(
            ConfigError,
            match=r"types\[0\]\.losses\[0\]\.weight: unknown rule for class weights 'median_freq'.*median_frequency.*one number per class",
        ):
            check(weighted(tiny, "median_freq"))
    check_signatures(weighted(tiny, "median_frequency"))
    cross_check(weighted(tiny, "median_frequency"))
