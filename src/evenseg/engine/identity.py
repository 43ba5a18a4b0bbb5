"""What a run is: the part of its configuration that decides its numbers, kept in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from evenseg.config import Config, ConfigError, join_path
from evenseg.engine.run_folder import package_version
from evenseg.losses.phases import first_step

# may differ when a run goes on: where things lie, on what it is computed, and what is only looked at
FREE = (
    "name", "output", "device", "devices", "accumulate", "num_workers", "checkpoint_interval", "keep_checkpoints", "loggers",
    "test_dataset", "on_unreadable", "study", "search",
)  # fmt: skip
_DATASETS = ("train_dataset", "val_dataset")


@dataclass(frozen=True)
class Identity:
    """The configuration of a run, to be compared with that of a checkpoint."""

    config: Config

    def as_dict(self) -> dict[str, Any]:
        return {"version": package_version("evenseg"), "config": self._settings()}

    def check(self, saved: Mapping[str, Any] | None) -> None:
        """Raises ConfigError when a checkpoint was written by another run than this."""
        if saved is None:
            raise ConfigError("the checkpoint was not written by evenseg train", file=self.config.source)
        before, now = dict(saved["config"]), self._settings()
        # a key that one of the two versions does not know has its default there
        changed = [key for key in now if key in before and before[key] != now[key]]
        if changed:
            key = changed[0]
            path, old, new = _first_difference(before[key], now[key], key)
            here = package_version("evenseg")
            hint = "" if saved["version"] == here else f"; it was written by evenseg {saved['version']}, this is {here}"
            raise ConfigError(
                f"is {new!r}, but the run to go on with was written with {old!r}{hint}; start a new run for another "
                "setting",
                key_path=path,
                file=self.config.source,
            )

    def _settings(self) -> dict[str, Any]:
        settings = deciding_settings(self.config, mode="json")
        for name in _DATASETS:
            settings[name] = {key: value for key, value in settings[name].items() if key != "root"}
        return settings


def deciding_settings(config: Config, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
    """Returns the keys that decide a run's numbers, with the starts of loss phases as steps: 0.5 of 100 is 50."""
    settings = config.model_dump(mode=mode, exclude=set(FREE))
    for phase in (settings["loss"] or {}).get("phases") or ():
        with suppress(ValueError):  # no start at all is found where the loss is built
            phase["start"] = first_step(phase.get("start"), config.iters)
    # first, since the starts follow it
    return {"iters": config.iters} | settings


def _first_difference(before: Any, now: Any, path: str) -> tuple[str, Any, Any]:
    """Returns the key path of the first value that differs, with both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            if before.get(key) != now.get(key):
                return _first_difference(before.get(key), now.get(key), join_path(path, str(key)))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            if old != new:
                return _first_difference(old, new, join_path(path, index))
    return path, before, now

