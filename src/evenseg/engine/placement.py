"""On which processes a run lies, as far as it is known before they have met."""

from __future__ import annotations

import os
from typing import Any

from evenseg.config import Config


def placement(config: Config) -> dict[str, Any]:
    """Returns Lightning's keywords for the processes of a run: those that torchrun started, or `devices`."""
    if is_torchrun():
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        return {"strategy": "ddp", "devices": int(os.environ["LOCAL_WORLD_SIZE"]), "num_nodes": nodes}
    return {"strategy": "ddp", "devices": config.devices} if config.devices > 1 else {}


def num_processes(config: Config) -> int:
    """Returns how many processes a run has, all nodes together."""
    return int(os.environ["WORLD_SIZE"]) if is_torchrun() else config.devices


def is_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first_process() -> bool:
    """Tells whether this process writes the run folder; known before the processes have met."""
    return int(os.environ.get("RANK" if is_torchrun() else "LOCAL_RANK", "0")) == 0
