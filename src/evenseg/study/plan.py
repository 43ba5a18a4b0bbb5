"""What a study consists of: losses times grid values times seeds, each with its own configuration and run folder."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenseg.config import Config, ConfigError, override_config, unknown_name
from evenseg.engine import loss_name


@dataclass(frozen=True)
class Variant:
    """One line of the comparison: a loss, with the grid's values where there is a grid.

    Attributes:
        name: the loss's name, followed by `,key=value` for every key of the grid; also names the folder.
        loss: name of the loss.
        settings: key path -> value.
        config: of a run, but for the seed.
        point: the study's configuration with the settings applied, all losses in it.
    """

    name: str
    loss: str
    settings: Mapping[str, Any]
    config: Config
    point: Config


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    variant: Variant
    seed: int
    folder: Path

    @property
    def key(self) -> str:
        """Names the run within its study."""
        return f"{self.variant.name}/seed-{self.seed}"

    @property
    def config(self) -> Config:
        return self.variant.config.model_copy(update={"seed": self.seed})


def make_variants(config: Config, grid: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """Returns every loss with every combination of the grid's values, losses in the inner loop; the first is the baseline.

    Raises:
        ConfigError: a key path that does not exist or a value that is not allowed there.
    """
    for key, values in grid.items():
        if not values or len({json.dumps(value, default=str) for value in values}) != len(values):
            raise ConfigError(f"needs different values, at least one, got {list(values)}", key_path=f"study.grid.{key}")
        if key.split(".")[0] in ("seed", "study", "output", "name"):
            raise ConfigError("cannot be a key of the grid", key_path=f"study.grid.{key}")
    variants = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        changed = (override_config(config, settings) if settings else config).model_copy(update={"study": None})
        names = [loss_name(changed)] if changed.losses is None else list(changed.losses)
        for loss in names:
            one = changed if changed.losses is None else choose_loss(changed, loss)
            label = loss + "".join(f",{short}={_as_text(value)}" for short, value in _short(settings).items())
            one = one.model_copy(update={"name": label})
            variants.append(Variant(label, loss, settings, one, changed))
    for name in dict.fromkeys(variant.name for variant in variants):
        if sum(variant.name == name for variant in variants) > 1:
            raise ConfigError(f"two combinations are both called {name!r}", key_path="study.grid")
    return variants


def make_plan(variants: Sequence[Variant], seeds: Sequence[int], study: Path) -> list[PlannedRun]:
    """Returns the runs of a study, seed by seed, so that a study broken off early has pairs to compare."""
    return [PlannedRun(variant, seed, run_folder(study, variant.name, seed)) for seed in seeds for variant in variants]


def run_folder(study: Path, name: str, seed: int) -> Path:
    """Returns where the run of one variant (a loss, where there is no grid) and seed lies in a study folder."""
    return study / "runs" / name / f"seed-{seed}"


def config_of(config: Config, name: str, seed: int) -> Config:
    """Returns the configuration of one run: the loss chosen by name, the seed set.

    Raises:
        ConfigError: no such name.
    """
    return choose_loss(config, name).model_copy(update={"seed": seed, "study": None})


def choose_loss(config: Config, name: str) -> Config:
    losses = config.losses or {}
    if name not in losses:
        raise ConfigError(unknown_name("loss", name, losses), key_path="losses", file=config.source)
    return config.model_copy(update={"name": name, "loss": losses[name], "losses": None})


def _short(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings under the last part of their key path, where that tells them apart."""
    last = [key.split(".")[-1] for key in settings]
    return {
        (part if last.count(part) == 1 else key): value for part, (key, value) in zip(last, settings.items(), strict=True)
    }


def _as_text(value: Any) -> str:
    """Returns a value as part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-")
