"""The sections of a configuration that concern the training itself."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator


def check_pattern(pattern: str) -> str:
    """Returns a regular expression that can be compiled; ValueError otherwise."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


class ClipGrad(BaseModel):
    """Limits the gradient of a step.

    Attributes:
        max_norm: largest L2 norm of all gradients together.
        max_value: largest absolute value of a single one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_norm: PositiveFloat | None = None
    max_value: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ClipGrad:
        if (self.max_norm is None) == (self.max_value is None):
            raise ValueError("give exactly one of max_norm and max_value")
        return self


class Ema(BaseModel):
    """An exponential moving average of the weights: w_ema = decay w_ema + (1 - decay) w after every step.

    Attributes:
        decay: of the average.
        start: first step that counts, from 0; the average begins with the weights of that step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decay: float = Field(default=0.999, gt=0, lt=1)
    start: int = Field(default=0, ge=0)


class EarlyStop(BaseModel):
    """Ends a run whose evaluations no longer improve.

    Attributes:
        monitor: the number that should improve; a loss improves downwards, the rest upwards.
        patience: how many evaluations in a row may bring no improvement.
        min_delta: what counts as one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    monitor: Literal["miou", "per_image_miou", "mean_accuracy", "mean_dice", "accuracy", "loss"] = "miou"
    patience: int = Field(default=5, gt=0)
    min_delta: NonNegativeFloat = 0.0


class ParamGroup(BaseModel):
    """Parameters with another learning rate or weight decay than the rest.

    Attributes:
        match: regular expression, searched in the parameters' names.
        kind: "norm_and_bias" for parameters of at most one dimension.
        lr_mult: factor on the learning rate of the schedule.
        weight_decay: in place of the optimiser's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str | None = None
    kind: Literal["norm_and_bias"] | None = None
    lr_mult: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat | None = None

    _pattern = field_validator("match")(lambda value: None if value is None else check_pattern(value))

    @model_validator(mode="after")
    def _something_chosen(self) -> ParamGroup:
        if self.match is None and self.kind is None:
            raise ValueError("say which parameters: match (a regular expression) or kind")
        return self
