"""What a loss reads beside logits and labels: the image as it was before normalisation, and the network's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from evenseg.config import Config, DatasetSection
from evenseg.data import TRANSFORMS
from evenseg.models import WithFeatures

KNOWN = ("image", "features")


class LossInputs:
    """Makes the context of a run's loss.

    Args:
        loss: whose `requires` says what it reads.
        config: whose `Normalize` transforms are undone for `image`, and whose crops say how padding is marked.
    """

    def __init__(self, loss: nn.Module | None, config: Config | None) -> None:
        self.requires: tuple[str, ...] = tuple(getattr(loss, "requires", ()))
        self.padding_index = None if config is None else padding_index(config.train_dataset)
        self._undo: dict[bool, Callable[[Tensor], Tensor]] = {}
        if config is not None:
            self._undo = {True: _undo(config.train_dataset), False: _undo(config.val_dataset)}

    def network(self, model: nn.Module) -> nn.Module:
        """Returns the network, with its features behind its outputs if the loss reads them."""
        return WithFeatures(model) if "features" in self.requires else model

    def context(self, outputs: Any, image_NCHW: Tensor, *, training: bool) -> tuple[Any, dict[str, Tensor]]:
        """Returns the outputs of `network` without the features, and the context of the loss by name.

        Args:
            outputs: of `network`.
            image_NCHW: as the network saw it, or, where it saw another size, at the size of the labels.
            training: whether it comes from the training set, whose transforms may differ.
        """
        found: dict[str, Tensor] = {}
        if "features" in self.requires:
            *outputs, found["features"] = outputs
        if "image" in self.requires:
            found["image"] = self._undo[training](image_NCHW)
        return outputs, found

    def labels(self, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
        """Returns the mask with padded pixels ignored, and the pixel weights: 0 there; None where padding is not marked."""
        if self.padding_index is None:
            return mask, None
        padded = mask == self.padding_index
        return torch.where(padded, ignore_index, mask), (~padded).float()


def padding_index(section: DatasetSection) -> int | None:
    """Returns the label that the crops of a data set give padded pixels where it is one of its own."""
    for transform in section.transforms:
        if transform.type == "RandomCrop" and transform.keywords.get("padding_index") is not None:
            return int(transform.keywords["padding_index"])
    return None


def _undo(section: DatasetSection) -> Callable[[Tensor], Tensor]:
    """Returns what undoes the normalisation of a data set's samples, which is their last transform."""
    last = section.transforms[-1] if section.transforms else None
    if last is None or last.type != "Normalize":
        return lambda image: image
    return TRANSFORMS["Normalize"](**last.keywords).undo  # type: ignore[no-any-return]
