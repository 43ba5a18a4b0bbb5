"""The Lightning module: model, loss and metrics of one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg import metrics
from evenseg.data import Classes, Sample
from evenseg.engine.optim import Schedule
from evenseg.engine.scores import score_row
from evenseg.losses import PhasedLoss


class SegmentationModule(lightning.LightningModule):
    """Trains a network on samples (image, mask) and measures it on whole images.

    Args:
        model: images -> list of logits, main output first.
        classes: of the data set.
        loss: called as `loss(outputs, mask)`; None for measuring only.
        make_optimizer: parameters -> optimiser.
        schedule: rate of every step.
        iters: steps of the run.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Classes,
        loss: nn.Module | None = None,
        make_optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
        schedule: Schedule | None = None,
        iters: int = 1,
    ) -> None:
        super().__init__()
        # convolutions over few channels are faster so, on CPUs too
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss, self.classes = loss, classes
        self.make_optimizer, self.schedule, self.iters = make_optimizer, schedule, iters
        self.matrices_NCC: Tensor | None = None
        self._matrices: list[Tensor] = []
        self._losses: list[Tensor] = []

    def training_step(self, batch: Sample, batch_idx: int) -> dict[str, Any]:
        assert self.loss is not None
        if isinstance(self.loss, PhasedLoss):
            # an evaluation then uses the loss of the step before it
            self.loss.set_step(self.trainer.global_step)
        outputs = self.model(batch.image.contiguous(memory_format=torch.channels_last))
        loss = self.loss(outputs, batch.mask)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return {"loss": loss, "terms": dict(getattr(self.loss, "terms", {})), "lr": rate}

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        outputs = self.model(batch.image.contiguous(memory_format=torch.channels_last))
        prediction = outputs[0].argmax(1)
        for one, mask in zip(prediction, batch.mask, strict=True):
            # not per batch: the mean over images needs every image's own matrix
            matrix = metrics.confusion_matrix(
                one[None], mask[None], self.classes.num_classes, ignore_index=self.classes.ignore_index
            )
            self._matrices.append(matrix)
        if self.loss is not None:
            self._losses.append(self.loss(outputs, batch.mask).detach().float())

    def on_validation_epoch_start(self) -> None:
        self._matrices, self._losses = [], []

    def on_validation_epoch_end(self) -> None:
        self.matrices_NCC = torch.stack(self._matrices).cpu()

    @property
    def phase(self) -> int | None:
        """Number of the loss phase in force, 0 for the section's own `types`; None without phases."""
        return self.loss.phase if isinstance(self.loss, PhasedLoss) else None

    def validation_row(self) -> dict[str, Any]:
        """Returns the metrics of the last validation, `loss` as the mean over images (None without a loss)."""
        assert self.matrices_NCC is not None
        loss = float(torch.stack(self._losses).mean()) if self._losses else None
        if loss is not None and not math.isfinite(loss):
            raise ValueError(f"the validation loss is {loss}: training has diverged; lower the learning rate")
        return {"loss": loss} | score_row(self.matrices_NCC)

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None
        assert self.schedule is not None
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = self.make_optimizer(trained)
        base = optimizer.param_groups[0]["lr"]
        schedule, iters = self.schedule, self.iters
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule.rate(min(step, iters), iters, base) / base
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
