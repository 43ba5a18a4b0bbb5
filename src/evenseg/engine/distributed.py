"""What the processes of one run need of each other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from evenseg.statistics.sync import world_size

_STEPS = 9  # stream of random numbers of a run's seed; the data take others


def gather(items: dict[int, Any]) -> dict[int, Any]:
    """Returns the items of all processes in the order of their keys; a key that several hold counts once."""
    everyone: list[dict[int, Any]] = [items]
    if world_size() > 1:
        everyone = [{} for _ in range(world_size())]
        dist.all_gather_object(everyone, items)
    merged = {key: value for part in everyone for key, value in part.items()}
    return dict(sorted(merged.items()))


def mean_over_processes(values: list[float]) -> list[float]:
    """Returns the means of each value; losses that are not synchronised differ between the processes."""
    if world_size() == 1:
        return values
    everyone: list[list[float]] = [[] for _ in range(world_size())]
    dist.all_gather_object(everyone, values)
    return [fmean(column) for column in zip(*everyone, strict=True)]


def buffers_of_the_first(module: nn.Module) -> None:
    """Gives every process the first one's buffers: running means of batch normalisation differ between them."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


@contextmanager
def each_for_itself(loss: nn.Module) -> Iterator[None]:
    """Keeps losses from summing over the processes, which need not make the same number of calls in an evaluation."""
    synchronised = [part for part in loss.modules() if getattr(part, "sync", False)]
    try:
        for part in synchronised:
            part.sync = False  # type: ignore[assignment]
        yield
    finally:
        for part in synchronised:
            part.sync = True  # type: ignore[assignment]


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds Python, numpy and torch for one step, so that what a step draws depends on nothing that was drawn before."""
    state = np.random.SeedSequence([seed, _STEPS, step, rank]).generate_state(1, np.uint32)
    number = int(state[0])
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
