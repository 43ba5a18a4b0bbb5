"""The Lightning module: model, loss and metrics of one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.data import Classes, Sample
from evenseg.engine.distributed import buffers_of_the_first, each_for_itself, gather, seed_step
from evenseg.engine.identity import Identity
from evenseg.engine.measure import ImageCounts, ImageMeter
from evenseg.engine.optim import Schedule
from evenseg.engine.scores import score_row
from evenseg.engine.weights import check_weights
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
        seed: of the run; what a step draws at random (dropout, say) depends on it and on the step alone.
        identity: of the run, kept in its checkpoints.
        meter: what measures; by default whole images, without boundaries and calibration.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Classes,
        loss: nn.Module | None = None,
        make_optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
        schedule: Schedule | None = None,
        iters: int = 1,
        seed: int = 0,
        identity: Identity | None = None,
        meter: ImageMeter | None = None,
    ) -> None:
        super().__init__()
        # convolutions over few channels are faster so, on CPUs too
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss, self.classes = loss, classes
        self.make_optimizer, self.schedule, self.iters = make_optimizer, schedule, iters
        self.seed, self.identity = seed, identity
        self.meter = meter or ImageMeter(classes)
        self.images: dict[int, ImageCounts] = {}
        self._unreadable = ""
        self._alone = ExitStack()
        self._measured: dict[int, ImageCounts] = {}

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        seed_step(self.seed, self.trainer.global_step, self.trainer.global_rank)

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
        if any(batch.unreadable):
            self._unreadable = "".join(batch.unreadable)
            return
        self._measured |= self.meter.measure(self.model, batch, self.loss)

    def on_validation_epoch_start(self) -> None:
        self._measured = {}
        buffers_of_the_first(self.model)
        self._alone.enter_context(each_for_itself(self.loss or nn.Module()))

    def on_validation_epoch_end(self) -> None:
        self._alone.close()
        self.images = gather(self._measured)
        if not self.images:
            raise ValueError(f"none of the images to evaluate can be read, the last one because {self._unreadable}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.identity is not None:
            checkpoint["evenseg"] = self.identity.as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.identity is not None:
            self.identity.check(checkpoint.get("evenseg"))
        prefix = "model."
        weights = {name[len(prefix) :]: w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
        check_weights(weights, self.model, "the checkpoint")

    @property
    def phase(self) -> int | None:
        """Number of the loss phase in force, 0 for the section's own `types`; None without phases."""
        return self.loss.phase if isinstance(self.loss, PhasedLoss) else None

    def validation_row(self) -> dict[str, Any]:
        """Returns the metrics of the last validation, `loss` as the mean over images (None without a loss)."""
        row = score_row(list(self.images.values()))
        if row["loss"] is not None and not math.isfinite(row["loss"]):
            raise ValueError(f"the validation loss is {row['loss']}: training has diverged; lower the learning rate")
        return row

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
