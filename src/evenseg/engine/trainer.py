"""Lightning's Trainer as this package uses it: quiet, by steps, without its own files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.config import Config
from evenseg.data import RankBatches
from evenseg.engine.checkpoints import CheckpointFiles
from evenseg.engine.placement import placement

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_ACCELERATOR = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}


def make_trainer(config: Config, **keywords: Any) -> lightning.Trainer:
    """Returns a Trainer, on one device unless `keywords` say otherwise."""
    settings: dict[str, Any] = {
        "accelerator": _ACCELERATOR[config.device],
        "devices": 1,
        "precision": _PRECISION[config.precision],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "plugins": [CheckpointFiles(config.keep_checkpoints)],
    }
    return lightning.Trainer(**settings | keywords)


def make_fitting_trainer(config: Config, loggers: list[Any], callbacks: list[Any]) -> lightning.Trainer:
    """Returns the Trainer of a run, on as many devices as it asks for."""
    clip = config.clip_grad
    value = None if clip is None else clip.max_norm or clip.max_value
    return make_trainer(
        config,
        **placement(config),
        max_steps=config.iters,
        val_check_interval=min(config.evaluate_every, config.iters),
        gradient_clip_val=value,
        gradient_clip_algorithm=None if clip is None else "norm" if clip.max_norm else "value",
        sync_batchnorm=config.sync_batchnorm,
        logger=loggers or False,
        callbacks=callbacks,
    )


def make_loader(samples: Dataset[Any], batches: Sampler[list[int]], num_workers: int) -> DataLoader[Any]:
    """Returns a loader of the given batches, in their order."""
    # forked workers beside a running OpenMP pool hang, see numba's notes on threading layers
    context = "spawn" if num_workers else None
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=num_workers,
        multiprocessing_context=context,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class ImageByImage(Sampler[list[int]]):
    """Whole images, which may differ in size, one at a time; of R processes, number r takes every R-th from r on.

    Where there are more processes than images, the rest take the first image again, which counts once.
    """

    def __init__(self, length: int, rank: int = 0, num_ranks: int = 1) -> None:
        self.indices = list(range(rank, length, num_ranks)) or [0]

    def __iter__(self) -> Iterator[list[int]]:
        return ([index] for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)


class ResumedBatches(RankBatches):
    """Batches that go on at `first_step`; as long as the whole run, since Lightning counts from its beginning."""

    def __len__(self) -> int:
        return self.steps


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch."""
    lightning.seed_everything(seed, workers=False, verbose=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Lightning's tips and warnings about settings that are meant."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
