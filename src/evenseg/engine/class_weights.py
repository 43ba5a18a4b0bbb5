"""Class weights by the name of a rule, `weight: median_frequency`, counted on the training masks before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evenseg.config import ConfigError, join_path, unknown_name
from evenseg.data.class_statistics import WEIGHTS

RuleName = Literal["median_frequency", "inverse_log", "effective_number"]
RULES = {name.replace(" ", "_"): rule for name, rule in WEIGHTS.items()}


def with_class_weights(section: Any, path: str, num_classes: int, counts: NDArray[np.int64] | None) -> Any:
    """Returns a loss section with numbers in place of the rules that its `weight` keywords name.

    Args:
        section: any part of it.
        path: where it stands, for errors.
        num_classes: of the data set.
        counts: pixels of every class in every training mask, (masks, classes); ones stand for the numbers without them. A
            class without a pixel there gets the weight 0.

    Raises:
        ConfigError: a rule that does not exist.
    """
    if isinstance(section, Mapping):
        changed = {key: with_class_weights(value, join_path(path, str(key)), num_classes, counts) for key, value in section.items()}
        if isinstance(rule := section.get("weight"), str):
            if rule not in RULES:
                message = unknown_name("rule for class weights", rule, RULES)
                raise ConfigError(f"{message}; or one number per class", key_path=join_path(path, "weight"))
            changed["weight"] = [1.0] * num_classes if counts is None else [weight or 0.0 for weight in RULES[rule](counts)]
        return changed
    if isinstance(section, list | tuple):
        return [with_class_weights(value, join_path(path, index), num_classes, counts) for index, value in enumerate(section)]
    return section


def named_rules(section: Any) -> set[str]:
    """Returns the rules that a loss section names."""
    if isinstance(section, Mapping):
        own = {section["weight"]} if isinstance(section.get("weight"), str) else set()
        return own.union(*map(named_rules, section.values()))
    return set().union(*map(named_rules, section)) if isinstance(section, list | tuple) else set()
