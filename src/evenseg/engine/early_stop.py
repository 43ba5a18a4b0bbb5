"""Ending a run whose evaluations no longer improve."""

from __future__ import annotations

from typing import Any

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

from lightning.pytorch.callbacks import EarlyStopping  # isort: skip

from evenseg.config.training import EarlyStop
from evenseg.losses import PhasedLoss


class Patience(EarlyStopping):
    """Lightning's early stopping on a number of the validation rows; with loss phases it waits for the last one."""

    def __init__(self, section: EarlyStop) -> None:
        super().__init__(
            monitor=section.monitor,
            mode="min" if section.monitor == "loss" else "max",
            patience=section.patience,
            min_delta=section.min_delta,
            # a number that is not defined for an evaluation (no class was present) is no improvement
            check_finite=False,
            # a run is one epoch to Lightning
            check_on_train_epoch_end=False,
        )

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        loss = pl_module.loss
        if not isinstance(loss, PhasedLoss) or loss.phase == len(loss.starts) - 1:
            super().on_validation_end(trainer, pl_module)
