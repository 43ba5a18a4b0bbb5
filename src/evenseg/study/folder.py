"""The folder of a study or a search: its facts in one JSON file, written whole, and who may write there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenseg.config import Config

STUDY = "study.json"


def check_folder(study: Path, facts: str = STUDY, runs: str = "runs") -> None:
    """Raises ValueError when a folder holds something else than a study.

    Args:
        study: the folder, which need not exist.
        facts: name of the file that tells one.
        runs: name of the folder of its runs.
    """
    if study.exists() and not study.is_dir():
        raise ValueError(f"{study} is a file; choose another --output")
    # runs alone comes from single runs trained for this study
    found = {entry.name for entry in study.iterdir() if not entry.name.startswith(".")} if study.exists() else set()
    if found - {runs} and not (study / facts).is_file():
        raise ValueError(f"{study} exists and is no study folder; choose another --output")


def device_name(config: Config) -> str:
    """Returns the name of what the runs are computed on."""
    import torch

    from evenseg.engine.run_folder import describe_environment

    facts = describe_environment(config.seed)
    if config.device != "cpu" and torch.cuda.is_available():
        return str(facts["gpu"])
    threads = facts["threads"]
    return f"{facts['cpu']}, {threads} thread{'' if threads == 1 else 's'}"


def setup_lock(study: Path) -> Any:
    """Returns the lock under which processes that start together prepare the folder one after the other."""
    from filelock import FileLock

    return FileLock(study / ".study.lock", timeout=60)


def read_facts(study: Path, name: str = STUDY) -> dict[str, Any]:
    """Returns what the JSON file of the folder says, nothing where there is none yet."""
    file = study / name
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error


def write_facts(study: Path, facts: Mapping[str, Any], name: str = STUDY) -> None:
    """Writes the JSON file of the folder."""
    # several processes write it: a reader must never see half of one
    partial = study / f".{name}.{os.getpid()}"
    partial.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, study / name)
