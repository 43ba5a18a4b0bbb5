"""Losses that are none of ours, named by their import path in a config."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# what such a loss may raise when it meets what it was not written for
_REFUSALS = (RuntimeError, TypeError, IndexError, AssertionError, NotImplementedError)


class OwnLoss(nn.Module):
    """Calls a loss of someone else under this package's contract.

    Args:
        loss: called as `loss(logits, target)` with (N, C, *spatial) logits and an int64 target (N, *spatial); it returns a
            scalar. `pixel_weight` and the context that its `requires` names are passed on if it takes them.

    Raises:
        ValueError: when called, if the loss fails, gives no scalar, or is given a pixel weight that it does not take.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss
        self.requires = tuple(getattr(loss, "requires", ()))
        self._weighted = "pixel_weight" in inspect.signature(loss.forward).parameters

    @property
    def name(self) -> str:
        """What its term is called."""
        return type(self.loss).__name__

    def forward(self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, **context: Any) -> Tensor:
        if pixel_weight is not None and not self._weighted:
            raise ValueError(f"{self.name} takes no pixel_weight")
        extra = {"pixel_weight": pixel_weight} if pixel_weight is not None else {}
        # masks come as uint8, which torch's own losses refuse
        labels = target if target.is_floating_point() else target.long()
        try:
            value = self.loss(logits, labels, **extra, **context)
        except torch.OutOfMemoryError:
            raise  # no fault of the loss
        except _REFUSALS as error:
            shapes = f"logits {tuple(logits.shape)} and a target {tuple(target.shape)}"
            raise ValueError(
                f"{self.name} fails on {shapes}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error
        if not isinstance(value, Tensor) or value.dim() != 0:
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ValueError(f"{self.name} must give a scalar tensor, got {got}")
        return value


def own_keywords(loss: Callable[..., Any]) -> set[str] | None:
    """The keywords that the class takes, None where it passes any on."""
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def loss_name(loss: nn.Module) -> str:
    """What a loss is called among the terms."""
    named = getattr(loss, "preset_name", None) or (loss.name if isinstance(loss, OwnLoss) else type(loss).__name__)
    return str(named)
