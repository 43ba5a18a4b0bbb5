"""The same losses from segmentation-models-pytorch, MONAI and kornia, each given labels in the form it wants."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from evenseg.bench.inputs import IGNORE, Batch

Call = Callable[[], Tensor]
DISTRIBUTIONS = {"smp": "segmentation-models-pytorch", "monai": "monai", "kornia": "kornia"}
_MODULES = {"smp": "segmentation_models_pytorch.losses", "monai": "monai.losses", "kornia": "kornia.losses"}


class UnavailableError(Exception):
    """A row that cannot be measured, and why."""


def load(provider: str) -> Any:
    """The module with a provider's losses; UnavailableError if it is not installed."""
    importlib.import_module("evenseg._torchvision")  # all three may import torchvision
    try:
        return importlib.import_module(_MODULES[provider])
    except ModuleNotFoundError as e:
        raise UnavailableError(f"{DISTRIBUTIONS[provider]} is not installed ({e})") from e


def _smp(batch: Batch, name: str) -> Call:
    loss = getattr(load("smp"), name)("binary" if batch.binary else "multiclass", ignore_index=IGNORE)
    return lambda: loss(batch.logits, batch.target)


def smp_lovasz(batch: Batch) -> Call:
    return _smp(batch, "LovaszLoss")


def smp_focal(batch: Batch) -> Call:
    return _smp(batch, "FocalLoss")


def smp_dice(batch: Batch) -> Call:
    return _smp(batch, "DiceLoss")


def smp_mix(batch: Batch) -> Call:
    focal, dice, lovasz = smp_focal(batch), smp_dice(batch), smp_lovasz(batch)
    if batch.binary:
        y = batch.as_float()
        return lambda: F.binary_cross_entropy_with_logits(batch.logits, y) + focal() + dice() + lovasz()
    return lambda: F.cross_entropy(batch.logits, batch.target, ignore_index=IGNORE) + focal() + dice() + lovasz()


def _monai(batch: Batch, name: str, softmax: str) -> Call:
    cls = getattr(load("monai"), name)
    if batch.binary:
        loss, y = cls(**({} if softmax == "use_softmax" else {"sigmoid": True})), batch.as_float()
    else:
        loss, y = cls(to_onehot_y=True, **{softmax: True}), batch.without_ignored().unsqueeze(1)
    return lambda: loss(batch.logits, y)


def monai_dice(batch: Batch) -> Call:
    return _monai(batch, "DiceLoss", "softmax")


def monai_focal(batch: Batch) -> Call:
    return _monai(batch, "FocalLoss", "use_softmax")


def monai_dice_focal(batch: Batch) -> Call:
    return _monai(batch, "DiceFocalLoss", "softmax")


def kornia_lovasz(batch: Batch) -> Call:
    kornia, y = load("kornia"), batch.without_ignored()
    loss = kornia.lovasz_hinge_loss if batch.binary else kornia.lovasz_softmax_loss
    return lambda: loss(batch.logits, y)


def kornia_dice(batch: Batch) -> Call:
    kornia = load("kornia")
    if batch.binary:
        raise UnavailableError("kornia's dice_loss takes no single channel")
    return lambda: kornia.dice_loss(batch.logits, batch.target, average="macro", ignore_index=IGNORE)


def kornia_focal(batch: Batch) -> Call:
    kornia = load("kornia")
    if batch.binary:
        y = batch.target.unsqueeze(1)
        return lambda: kornia.binary_focal_loss_with_logits(batch.logits, y, None, reduction="mean", ignore_index=IGNORE)
    return lambda: kornia.focal_loss(batch.logits, batch.target, None, reduction="mean", ignore_index=IGNORE)
