"""Several losses with several seeds on one configuration, into one study folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evenseg.config import Config, ConfigError, load_config
from evenseg.engine import is_finished, is_resumable, resolve, run
from evenseg.engine.run_folder import check_free, write_json


def compare(
    config: Config,
    seeds: Sequence[int],
    output: str | Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Trains every named loss with every seed and writes the report.

    Runs of one seed see the same samples in the same order and start from the same weights, whatever the loss. Finished
    runs of the same configuration are kept and broken-off ones go on from their checkpoints, so a broken-off study goes on
    where it stopped.

    Args:
        config: with `losses`; the first is the baseline.
        seeds: of the runs.
        output: the study folder.
        overwrite: train finished runs again.
        say: takes one line about each run.

    Returns:
        Path of report.html.

    Raises:
        ConfigError: the configuration or the data cannot be used; nothing is written then.
        ValueError: seeds that cannot be used, or a finished run of another configuration in the folder.
    """
    if config.losses is None:
        raise ConfigError(
            "compare needs `losses`, a mapping of name to loss section, where this file has one `loss`",
            key_path="loss",
            file=config.source,
        )
    seeds = list(seeds)
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different whole numbers from 0 on, at least one, got {seeds}")
    study = Path(output)
    # `runs` alone comes from single runs trained for this study
    strange = {entry.name for entry in study.iterdir()} - {"runs"} if study.exists() else set()
    if strange and not (study / "study.json").is_file():
        raise ValueError(f"{study} exists and is no study folder; choose another --output")
    plan = [
        (name, seed, run_folder(study, name, seed), config_of(config, name, seed))
        for seed in seeds
        for name in config.losses
    ]
    for _, _, folder, one in plan:
        if not overwrite and (is_finished(folder) or is_resumable(folder)):
            _check_same(folder, one)
        else:
            check_free(folder, overwrite=overwrite)
    experiment = resolve(config)
    study.mkdir(parents=True, exist_ok=True)
    facts = {
        "losses": list(config.losses),
        "seeds": seeds,
        "classes": list(experiment.classes.names),
        "metric": "miou",
        "device": device_name(config),
    }
    write_json(study / "study.json", facts | {"seconds": 0.0})
    _write_config(study, config)
    for number, (name, seed, folder, one) in enumerate(plan, start=1):
        title = f"[{number}/{len(plan)}] {name}, seed {seed}"
        if not overwrite and is_finished(folder):
            say(f"{title}: finished before, kept")
        else:
            going_on = not overwrite and is_resumable(folder)
            run(replace(experiment, config=one), folder, overwrite=overwrite, title=title, going_on=going_on)
        write_json(study / "study.json", facts | {"seconds": _seconds([folder for _, _, folder, _ in plan])})
    from evenseg.report import write_study_report

    return write_study_report(study)


def run_folder(study: Path, name: str, seed: int) -> Path:
    """Returns where the run of one loss and seed lies in a study folder."""
    return study / "runs" / name / f"seed-{seed}"


def config_of(config: Config, name: str, seed: int) -> Config:
    """Returns the configuration of one run: the loss chosen by name, the seed set.

    Raises:
        ConfigError: no such name.
    """
    from evenseg.config import unknown_name

    losses = config.losses or {}
    if name not in losses:
        raise ConfigError(unknown_name("loss", name, losses), key_path="losses", file=config.source)
    return config.model_copy(update={"name": name, "loss": losses[name], "losses": None, "seed": seed})


def device_name(config: Config) -> str:
    """Returns the name of what the runs are computed on."""
    import torch

    from evenseg.engine.run_folder import describe_environment

    facts = describe_environment(config.seed)
    if config.device != "cpu" and torch.cuda.is_available():
        return str(facts["gpu"])
    return f"{facts['cpu']}, {facts['threads']} threads"


def _seconds(folders: Sequence[Path]) -> float:
    """Returns the training time of the finished runs among `folders`, whenever they were made."""
    summaries = [json.loads((folder / "summary.json").read_text("utf-8")) for folder in folders if is_finished(folder)]
    return round(sum(float(summary["seconds"]) for summary in summaries), 3)


def _check_same(folder: Path, config: Config) -> None:
    """Raises ValueError when a run in the way was made from another configuration."""
    told_apart = {"output": None, "num_workers": 0, "device": "auto", "checkpoint_interval": None, "keep_checkpoints": 2}
    before = load_config(folder / "config.yaml").model_copy(update=told_apart).model_dump()
    now = config.model_copy(update=told_apart).model_dump()
    changed = [key for key in now if now[key] != before[key]]
    if changed:
        raise ValueError(
            f"{folder} holds a run of another configuration (differs in {', '.join(changed)}); "
            "choose another --output or pass --overwrite"
        )


def _write_config(study: Path, config: Config) -> None:
    from evenseg.config import dump_config

    text = dump_config(config.model_copy(update={"output": None}))
    (study / "config.yaml").write_text(text, encoding="utf-8")
