"""The `search:` section: what `evenseg search` tries, by what it judges, and on how short a run."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evenseg.config.section import Section


class Searched(BaseModel):
    """The values that one key of the loss section may take; `curves` alone stands for {curves: as many pieces as published}.

    Attributes:
        low: smallest number.
        high: largest number.
        log: numbers are spread over the ratio high/low instead of the difference.
        integer: whole numbers only.
        choices: the values to choose from, in place of a range.
        curves: pieces of every curve of an AutoSegLoss, whose `parameters` the key is; 0 as many as were published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] | None = None
    curves: int | None = Field(default=None, ge=0, le=8)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"curves": 0} if given == "curves" else given

    @model_validator(mode="after")
    def _one_kind(self) -> Searched:
        is_range = self.low is not None or self.high is not None
        if is_range + (self.choices is not None) + (self.curves is not None) != 1:
            raise ValueError("give one of: low and high, choices, curves")
        if is_range:
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(f"needs low < high, got low {self.low} and high {self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"log needs low > 0, got {self.low}")
            if self.integer and (self.low != round(self.low) or self.high != round(self.high)):
                raise ValueError(f"integer needs whole low and high, got {self.low} and {self.high}")
        elif self.log or self.integer:
            raise ValueError("log and integer are for a range, low and high")
        if self.choices is not None and (len(self.choices) < 2 or any(c in self.choices[:i] for i, c in enumerate(self.choices))):
            raise ValueError(f"choices needs different values, at least two, got {list(self.choices)}")
        return self


class SearchSection(BaseModel):
    """What `evenseg search` does with the configuration; its options take precedence.

    Attributes:
        parameters: key path into the loss section -> values to try, like {loss.types[0].gamma: {low: 0.5, high: 5}}.
        metric: to be maximised, after the last step of the proxy run: a score (miou, per_image_miou, mean_accuracy, mean_dice,
            accuracy) or iou.CLASS.
        proxy: key path of this configuration -> value in the proxy runs, like {iters: 100}.
        trials: how many sets of values are tried.
        seeds: of the proxy runs; with several the metric is averaged.
        sampler: that proposes values: PPO2 (Auto Seg-Loss's), TPE, Random or CMA, with their keywords.
        seed: of the sampler.
        prune: stop proxy runs whose evaluations lie in the lower half of the finished ones.
        storage: Optuna's, a database URL or the path of a journal file; a journal in the search's folder by default.
        workers: processes that train at the same time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Searched] = Field(min_length=1)
    metric: str = "miou"
    proxy: dict[str, Any] = Field(default_factory=dict)
    trials: int = Field(default=40, gt=0)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    sampler: Section = Section(type="TPE")
    seed: int = Field(default=0, ge=0)
    prune: bool = False
    storage: str | None = None
    workers: int = Field(default=1, gt=0)

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if min(seeds) < 0 or len(set(seeds)) != len(seeds):
            raise ValueError(f"must be different whole numbers from 0 on, got {list(seeds)}")
        return seeds
