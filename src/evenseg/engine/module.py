"""The Lightning module: model, loss and metrics of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

import lightning  # isort: skip

from evenseg.config import Config
from evenseg.data import Classes, Sample
from evenseg.engine.build import build_optimizer, build_schedule
from evenseg.engine.distributed import buffers_of_the_first, each_for_itself, gather, seed_step
from evenseg.engine.identity import Identity
from evenseg.engine.loss_inputs import LossInputs
from evenseg.engine.measure import ImageCounts, ImageMeter
from evenseg.engine.micro_batches import forward_in_parts
from evenseg.engine.parameters import freeze, frozen_norms, parameter_groups
from evenseg.engine.scores import score_row
from evenseg.losses import PhasedLoss
from evenseg.models import check_weights


class SegmentationModule(lightning.LightningModule):
    """Trains a network on samples (image, mask) and measures it on whole images.

    Args:
        model: images -> list of logits, main output first.
        classes: of the data set.
        loss: called as `loss(outputs, mask)`, and with the context that its `requires` names; None for measuring only.
        config: how to train; None for measuring only.
        meter: what measures; by default whole images, without boundaries and calibration.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Classes,
        loss: nn.Module | None = None,
        config: Config | None = None,
        meter: ImageMeter | None = None,
    ) -> None:
        super().__init__()
        # convolutions over few channels are faster so, on CPUs too
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss, self.classes, self.config = loss, classes, config
        self.inputs = LossInputs(loss, config)
        self.averaged: AveragedModel | None = None
        if config is not None:
            freeze(self.model, config.freeze)
            if config.ema is not None:
                average = get_ema_multi_avg_fn(config.ema.decay)
                self.averaged = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
        self.meter = meter or ImageMeter(classes)
        self.images: dict[int, ImageCounts] = {}
        self._unreadable = ""
        self._alone = ExitStack()
        self._measured: dict[int, ImageCounts] = {}

    @property
    def evaluated(self) -> nn.Module:
        """The network that is measured and kept: the moving average where there is one."""
        if self.averaged is not None and int(self.averaged.n_averaged) > 0:
            return self.averaged.module
        return self.model

    def train(self, mode: bool = True) -> SegmentationModule:
        super().train(mode)
        for module in frozen_norms(self.model):
            module.eval()
        return self

    def on_fit_start(self) -> None:
        # Lightning keeps the modes that it finds
        self.train()

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        assert self.config is not None
        seed_step(self.config.seed, self.trainer.global_step, self.trainer.global_rank)

    def training_step(self, batch: Sample, batch_idx: int) -> dict[str, Any]:
        assert self.loss is not None
        assert self.config is not None
        if isinstance(self.loss, PhasedLoss):
            # an evaluation then uses the loss of the step before it
            self.loss.set_step(self.trainer.global_step)
        image = batch.image.contiguous(memory_format=torch.channels_last)
        outputs = forward_in_parts(self.inputs.network(self.model), image, self.config.accumulate)
        mask, weight = self.inputs.labels(batch.mask, self.classes.ignore_index)
        if batch.weight.numel():
            weight = batch.weight if weight is None else weight * batch.weight
        loss = self._loss_of(outputs, mask, image, weight, training=True)
        group = self.trainer.optimizers[0].param_groups[0]
        rate = group["lr"] / (group["lr_mult"] or 1.0)
        return {"loss": loss, "terms": dict(getattr(self.loss, "terms", {})), "lr": rate}

    def optimizer_step(self, *args: Any, **keywords: Any) -> None:
        super().optimizer_step(*args, **keywords)
        assert self.config is not None
        if self.averaged is not None and self.config.ema is not None and self.trainer.global_step >= self.config.ema.start:
            self.averaged.update_parameters(self.model)

    def _loss_of(
        self, outputs: Any, mask: Tensor, image: Tensor, weight: Tensor | None = None, *, training: bool = False
    ) -> Tensor:
        """The loss in single precision, whatever the network computes in."""
        assert self.loss is not None
        with torch.autocast(mask.device.type, enabled=False):
            outputs, context = self.inputs.context(_single(outputs), image, training=training)
            # losses of someone else need not know pixel weights
            more = () if weight is None else (weight,)
            value: Tensor = self.loss(outputs, mask, *more, **context)
            return value

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        if any(batch.unreadable):
            self._unreadable = "".join(batch.unreadable)
            return
        network = self.inputs.network(self.evaluated)
        self._measured |= self.meter.measure(network, batch, None if self.loss is None else self._loss_of)

    def on_validation_epoch_start(self) -> None:
        self._measured = {}
        buffers_of_the_first(self.evaluated)
        self._alone.enter_context(each_for_itself(self.loss or nn.Module()))

    def on_validation_epoch_end(self) -> None:
        self._alone.close()
        self.images = gather(self._measured)
        if not self.images:
            raise ValueError(f"none of the images to evaluate can be read, the last one because {self._unreadable}")
        if self.config is not None:
            # for callbacks that watch a number
            row = self.validation_row()
            self.log_dict({name: row[name] for name in row if isinstance(row[name], float)}, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.config is not None:
            checkpoint["evenseg"] = Identity(self.config).as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.config is not None:
            Identity(self.config).check(checkpoint.get("evenseg"))
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
        assert self.config is not None
        # parameters of a loss are trained, too
        named = [*self.model.named_parameters(), *(self.loss or nn.Module()).named_parameters(prefix="loss")]
        optimizer = build_optimizer(self.config, parameter_groups(self.config, named))
        base, iters = optimizer.defaults.get("lr", optimizer.param_groups[0]["lr"]), self.config.iters
        for group in optimizer.param_groups:
            group["lr"] = base * group["lr_mult"]
        schedule = build_schedule(self.config)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule.rate(min(step, iters), iters, base) / base
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _single(outputs: Any) -> Any:
    """Returns outputs (a tensor, or several in a list or a mapping) in single precision."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, Mapping):
        return {name: output.float() for name, output in outputs.items()}
    return [output.float() for output in outputs]
