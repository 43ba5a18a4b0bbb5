"""What a search tries: numbers in a unit cube, the loss sections they stand for, and Optuna's names for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evenseg.config import Config, ConfigError, Searched, read_key
from evenseg.losses.auto_seg import METRICS, parameters_of, read_metrics
from evenseg.losses.curves import decode, encode, identity_numbers

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Number:
    """A number within a range, or a share of what is left of a curve.

    Attributes:
        name: Optuna's.
        start: where the search begins.
        low, high: of the range.
        log: spread over the ratio.
        integer: whole numbers only.
    """

    name: str
    start: float
    low: float
    high: float
    log: bool = False
    integer: bool = False

    def distribution(self) -> Any:
        """Returns Optuna's description of the values."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def suggest(self, trial: Any) -> Any:
        """Returns the value that Optuna proposes."""
        if self.integer:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def to_unit(self, value: Any) -> float:
        """Returns where in [0, 1] a value lies."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def from_unit(self, u: float) -> Any:
        """Returns the value at a place in [0, 1]."""
        value = self.low * (self.high / self.low) ** u if self.log else self.low + u * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.integer else value


@dataclass(frozen=True)
class Choice:
    """One of several values, in equal parts of [0, 1]."""

    name: str
    start: Any
    choices: tuple[Any, ...]

    def distribution(self) -> Any:
        """Returns Optuna's description of the values."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def suggest(self, trial: Any) -> Any:
        """Returns the value that Optuna proposes."""
        return trial.suggest_categorical(self.name, self.choices)

    def to_unit(self, value: Any) -> float:
        """Returns the middle of the value's part."""
        return (self.choices.index(value) + 0.5) / len(self.choices)

    def from_unit(self, u: float) -> Any:
        """Returns the value at a place in [0, 1]."""
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]


Dimension = Number | Choice


@dataclass(frozen=True)
class Curves:
    """The curves of one metric of an AutoSegLoss, searched as shares of what is left of the way to (1, 1).

    Attributes:
        key: path of the loss's `parameters`.
        metric: whose curves they are.
        several: whether the loss has other metrics, too.
        dimensions: the shares, in the order of the numbers.
    """

    key: str
    metric: str
    several: bool
    dimensions: tuple[Number, ...]

    def numbers(self, values: Values) -> list[float]:
        """The numbers that AutoSegLoss takes, rounded to what a person can read."""
        shares = [values[dimension.name] for dimension in self.dimensions]
        return [round(number, 7) for number in decode(shares, METRICS[self.metric].curves)]


@dataclass(frozen=True)
class Space:
    """Everything that is searched.

    Attributes:
        single: dimension by key path, where the key takes the dimension's value as it is.
        curves: of AutoSegLoss.
    """

    single: Mapping[str, Dimension]
    curves: Sequence[Curves]

    @property
    def dimensions(self) -> list[Dimension]:
        return [*self.single.values(), *(dimension for curves in self.curves for dimension in curves.dimensions)]

    @property
    def start(self) -> dict[str, Any]:
        """The values of the configuration as it is written."""
        return {dimension.name: dimension.start for dimension in self.dimensions}

    def distributions(self) -> dict[str, Any]:
        """Returns Optuna's search space."""
        return {dimension.name: dimension.distribution() for dimension in self.dimensions}

    def settings(self, values: Values) -> dict[str, Any]:
        """Returns key path -> value, for the configuration of a trial."""
        settings: dict[str, Any] = {key: values[dimension.name] for key, dimension in self.single.items()}
        for curves in self.curves:
            numbers = curves.numbers(values)
            if curves.several:
                settings.setdefault(curves.key, {})[curves.metric] = numbers
            else:
                settings[curves.key] = numbers
        return settings


def make_space(config: Config, parameters: Mapping[str, Searched]) -> Space:
    """Returns the search space of a configuration with one loss.

    Raises:
        ConfigError: a key path outside the loss section, one that holds nothing to begin with, or a beginning out of range.
    """
    single: dict[str, Dimension] = {}
    curves: list[Curves] = []
    content = config.model_dump()
    for key, searched in parameters.items():
        where = f"search.parameters.{key}"
        if not key.startswith(("loss.", "loss[")):
            raise ConfigError("only keys of the loss section can be searched, such as loss.types[0].gamma", key_path=where)
        if searched.curves is not None:
            curves += _curves(content, key, searched.curves, where)
            continue
        try:
            start = read_key(content, key)
        except KeyError as error:
            raise ConfigError(f"there is no value to begin with: {error.args[0]}; write one", key_path=where) from None
        single[key] = _dimension(key, start, searched, where)
    return Space(single, curves)


def _dimension(key: str, start: Any, searched: Searched, where: str) -> Dimension:
    if searched.choices is not None:
        if start not in searched.choices:
            raise ConfigError(f"the value to begin with, {start!r}, is none of the choices {list(searched.choices)}", key_path=where)
        if not all(choice is None or isinstance(choice, bool | int | float | str) for choice in searched.choices):
            raise ConfigError(f"choices are numbers, words, true, false or null, got {list(searched.choices)}", key_path=where)
        return Choice(key, start, searched.choices)
    assert searched.low is not None
    assert searched.high is not None
    if isinstance(start, bool) or not isinstance(start, int | float):
        raise ConfigError(f"a range is for a number, but the configuration has {start!r} there", key_path=where)
    if not searched.low <= start <= searched.high:
        raise ConfigError(f"the value to begin with, {start!r}, is not within [{searched.low:g}, {searched.high:g}]", key_path=where)
    if searched.integer and start != round(start):
        raise ConfigError(f"the value to begin with, {start!r}, is no whole number", key_path=where)
    return Number(key, start, searched.low, searched.high, searched.log, searched.integer)


def _curves(content: Mapping[str, Any], key: str, pieces: int, where: str) -> list[Curves]:
    section_key, _, last = key.rpartition(".")
    try:
        section = read_key(content, section_key)
    except KeyError as error:
        raise ConfigError(f"there is no such loss: {error.args[0]}", key_path=where) from None
    if last != "parameters" or not isinstance(section, Mapping) or section.get("type") != "AutoSegLoss":
        kind = section.get("type") if isinstance(section, Mapping) else section
        raise ConfigError(f"curves are the `parameters` of an AutoSegLoss; {section_key} is {kind!r}", key_path=where)
    try:
        metrics = read_metrics(section.get("metric", "mIoU"))
        found = []
        for metric in metrics:
            given = parameters_of(metric, section.get("parameters", "published"), metrics)
            found.append(_curves_of(key, metric, len(metrics) > 1, given, pieces))
    except ValueError as error:
        raise ConfigError(str(error), key_path=section_key) from error
    return found


def _curves_of(key: str, name: str, several: bool, given: Any, pieces: int) -> Curves:
    metric = METRICS[name]
    numbers = metric.numbers(given)
    metric.read(numbers)
    if pieces and len(numbers) != metric.curves * (4 * pieces - 2):
        # the beginning has another number of pieces: only the identity is the same curve with any
        if given != "identity":
            raise ValueError(f"parameters of {name} have another number of pieces than is searched; begin with 'identity'")
        numbers = identity_numbers(metric.curves, pieces)
    label = f"{key}.{name}" if several else key
    shares = encode(numbers, metric.curves)
    return Curves(key, name, several, tuple(Number(f"{label}[{i}]", share, 0.0, 1.0) for i, share in enumerate(shares)))
