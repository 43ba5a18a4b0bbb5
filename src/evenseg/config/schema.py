"""The fixed part of a configuration as frozen pydantic models; open sections keep their keywords for the builders."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    field_validator,
    model_validator,
)

from evenseg.config.errors import ConfigError
from evenseg.config.search import SearchSection
from evenseg.config.section import Section
from evenseg.config.training import ClipGrad, EarlyStop, Ema, ParamGroup, check_pattern

_LOSS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from, for messages.

    Attributes:
        file: that was read.
        origins: key path -> words on where its value stands, empty for `file` itself.
        note: on the file as a whole.
        overrides: `key.path=value` changes made to it.
    """

    file: Path | None = None
    origins: dict[str, str] = field(default_factory=dict)
    note: str = ""
    overrides: tuple[str, ...] = ()

    def locate(self, error: ConfigError) -> ConfigError:
        """Returns the error with the file named, and where the value at its key path was inherited or set."""
        return error.each(self._locate)

    def _locate(self, error: ConfigError) -> ConfigError:
        origin = self._origin(error.key_path)
        message = error.message
        if origin and not error.file:
            message += f" ({origin}"
            section = error.key_path.rpartition(".")[0]
            kind = self.origins.get(f"{section}.type")
            if kind is not None and kind != origin and message.startswith("unknown key"):
                message += f"; `_delete_: true` in {section} drops what it inherits"
            message += ")"
        if self.note and not error.file:
            message += f" ({self.note})"
        return ConfigError(message, key_path=error.key_path, file=error.file or self.file)

    def _origin(self, key_path: str) -> str:
        above = [key for key in self.origins if key_path == key or key_path.startswith((f"{key}.", f"{key}["))]
        return self.origins[max(above, key=len)] if above else ""


class DatasetSection(Section):
    """A data set and the transforms its samples go through, in order."""

    transforms: tuple[Section, ...] = ()


class EvaluationSection(BaseModel):
    """How images are seen and measured, in the evaluations during training and afterwards alike.

    Attributes:
        window: (height, width) of sliding windows in pixels; None for whole images.
        stride: between windows, at most their size; three quarters of it by default. Windows are spread evenly, so they may
            lie closer.
        blend: weights of a window's pixels where windows overlap.
        scales: sizes at which every image or window is seen; their probabilities are averaged.
        flip: see it mirrored left-right too.
        batch_size: windows per call of the model.
        boundary_tolerance: of the boundary F1: pixels, or below 1 a fraction of the diagonal.
        boundary_width: of the boundary IoU's bands: pixels, or below 1 a fraction of the diagonal.
        calibration_bins: bins of the reliability curve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: tuple[PositiveInt, PositiveInt] | None = None
    stride: tuple[PositiveInt, PositiveInt] | None = None
    blend: Literal["gaussian", "uniform"] = "gaussian"
    scales: tuple[PositiveFloat, ...] = Field(default=(1.0,), min_length=1)
    flip: bool = False
    batch_size: int = Field(default=1, gt=0)
    boundary_tolerance: PositiveFloat = 0.008
    boundary_width: PositiveFloat = 0.02
    calibration_bins: int = Field(default=15, gt=0)

    @model_validator(mode="after")
    def _strides_fit(self) -> EvaluationSection:
        if self.stride is not None:
            if self.window is None:
                raise ValueError(f"stride {list(self.stride)} needs a window: [HEIGHT, WIDTH]")
            if self.stride[0] > self.window[0] or self.stride[1] > self.window[1]:
                raise ValueError(
                    f"stride {list(self.stride)} is larger than the window {list(self.window)}, which would leave gaps"
                )
        return self

    @property
    def window_stride(self) -> tuple[int, int] | None:
        """The stride in force; None without windows."""
        if self.stride is None and self.window is not None:
            return max(1, 3 * self.window[0] // 4), max(1, 3 * self.window[1] // 4)
        return self.stride


class StudySection(BaseModel):
    """What `evenseg compare` does with the configuration; its options take precedence.

    Attributes:
        seeds: of the runs of every loss.
        grid: key path of this configuration -> the values to try; every combination is run.
        storage: Optuna's: a database URL or the path of a journal file; a journal in the study folder by default.
        workers: processes that train at the same time.
        prune: stop runs that lag behind the others.
        evaluate: splits to measure the best weights of every run on: boundaries, calibration, image by image. With `test`
            the losses are compared on the test images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: tuple[int, ...] | None = None
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    storage: str | None = None
    workers: int = Field(default=1, gt=0)
    prune: bool = False
    evaluate: tuple[Literal["val", "test"], ...] = ("val",)


class Config(BaseModel):
    """One experiment. Exactly one of `loss` (one section) and `losses` (name -> section, for compare) is given.

    The `loss` sections stay plain mappings: `evenseg.build_loss` is their only reader.

    Attributes:
        name: what the run is called; by default the types of its loss.
        train_dataset: the data set to train on, with the transforms of its samples in order.
        val_dataset: the data set that is measured during training, same classes.
        test_dataset: a third one for `evenseg evaluate --split test`; it takes the transforms of val_dataset.
        model: the network; its number of classes is that of the data.
        init_weights: weights to start from: a run folder or a file; what fits is loaded.
        optimizer: the optimiser.
        lr_scheduler: the learning rate of every step.
        sampler: which pair every slot of a batch shows.
        loss: one loss: `types` and `coef` per output of the model, and `phases`.
        losses: name -> loss, for `evenseg compare`; the first is the baseline.
        iters: optimiser steps of the run.
        batch_size: images per optimiser step, over all `devices` and `accumulate` micro-batches together.
        eval_interval: steps between two evaluations; by default only the last step is evaluated.
        log_interval: steps that one logged row of training averages over.
        checkpoint_interval: steps between two checkpoints to resume from; by default those of the evaluations.
        keep_checkpoints: how many of these stay.
        accumulate: micro-batches of a step, which save memory; loss and gradient stay those of the whole batch.
        clip_grad: limits the gradient of a step.
        ema: measures and keeps a moving average of the weights.
        freeze: regular expressions; parameters whose names match one are not trained.
        param_groups: parameters with another learning rate or weight decay; the first entry that matches counts.
        early_stop: ends a run whose evaluations no longer improve.
        loggers: Lightning's loggers, which get every row of metrics.jsonl too.
        devices: GPUs (or CPU processes) to train on; torchrun may start them instead.
        sync_batchnorm: takes the statistics of batch normalisation over all devices (GPUs only).
        seed: of weights, samples and everything else that is random.
        num_workers: processes that read images; 0 reads them in the training process.
        precision: of the network's arithmetic; losses always accumulate in fp32.
        device: where to train; auto takes a GPU where there is one.
        on_unreadable: what happens when an image cannot be read: stop, or skip and count it.
        evaluation: how images are seen and measured.
        output: folder of the run or study; by default runs/NAME of the file.
        study: what `evenseg compare` does.
        search: what `evenseg search` does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    train_dataset: DatasetSection
    val_dataset: DatasetSection
    test_dataset: DatasetSection | None = None
    model: Section
    init_weights: str | None = None
    optimizer: Section
    lr_scheduler: Section = Section(type="Constant")
    sampler: Section = Section(type="Shuffle")
    loss: dict[str, Any] | None = None
    losses: dict[str, dict[str, Any]] | None = None
    iters: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    eval_interval: int | None = Field(default=None, gt=0)
    log_interval: int = Field(default=10, gt=0)
    checkpoint_interval: int | None = Field(default=None, gt=0)
    keep_checkpoints: int = Field(default=2, ge=2)
    accumulate: int = Field(default=1, gt=0)
    clip_grad: ClipGrad | None = None
    ema: Ema | None = None
    freeze: tuple[str, ...] = ()
    param_groups: tuple[ParamGroup, ...] = ()
    early_stop: EarlyStop | None = None
    loggers: tuple[Section, ...] = ()
    devices: int = Field(default=1, gt=0)
    sync_batchnorm: bool = False
    seed: int = Field(default=0, ge=0)
    num_workers: int = Field(default=0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    on_unreadable: Literal["stop", "skip"] = "stop"
    evaluation: EvaluationSection = EvaluationSection()
    output: str | None = None
    study: StudySection | None = None
    search: SearchSection | None = None

    _source: Source = PrivateAttr(default_factory=Source)

    @field_validator(
        "iters", "batch_size", "eval_interval", "log_interval", "seed", "num_workers", "checkpoint_interval",
        "keep_checkpoints", "accumulate", "devices", mode="before",
    )  # fmt: skip
    @classmethod
    def _no_bool(cls, value: object) -> object:
        # pydantic would read `iters: yes` as 1
        if isinstance(value, bool):
            raise ValueError("Input should be a whole number")
        return value

    _patterns = field_validator("freeze")(lambda patterns: tuple(check_pattern(pattern) for pattern in patterns))

    @field_validator("losses")
    @classmethod
    def _loss_names(cls, losses: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]] | None:
        if losses is not None and not losses:
            raise ValueError("names no loss; write at least one `NAME: {types: [...], coef: [...]}`")
        for name in losses or {}:
            if not _LOSS_NAME.fullmatch(name):
                raise ValueError(
                    f"the name {name!r} cannot name a folder; use letters, digits and _ . + -, first a letter or digit"
                )
        return losses

    @model_validator(mode="after")
    def _one_kind_of_loss(self) -> Config:
        if (self.loss is None) == (self.losses is None):
            received = "neither" if self.loss is None else "both"
            remedy = "; an inherited one is dropped with null" if received == "both" else ""
            raise ValueError(f"give exactly one of `loss` and `losses`, got {received}{remedy}")
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Config:
        if self.batch_size % (self.devices * self.accumulate):
            parts = [
                f"{number} {what}" for number, what in ((self.devices, "devices"), (self.accumulate, "micro-batches")) if number > 1
            ]
            raise ValueError(f"batch_size {self.batch_size} does not divide evenly among {' x '.join(parts)}")
        return self

    @property
    def source(self) -> Path | None:
        """The file this configuration was read from, for error messages."""
        return self._source.file

    def locate(self, error: ConfigError) -> ConfigError:
        """Returns the error with the file named, and where the value was inherited or set."""
        return self._source.locate(error)

    @property
    def overrides(self) -> tuple[str, ...]:
        """The `key.path=value` changes that were made to the file."""
        return self._source.overrides

    @property
    def evaluate_every(self) -> int:
        """Steps between two evaluations; without `eval_interval` only the last step is evaluated."""
        return self.eval_interval or self.iters
