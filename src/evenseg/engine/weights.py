"""Loading weights into a network they may not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn


def check_weights(weights: Mapping[str, Tensor], model: nn.Module, source: str | Path) -> None:
    """Raises ValueError of one line when weights are not exactly those of the model.

    Args:
        weights: of the checkpoint, named as in the model's state_dict.
        model: the network of the configuration.
        source: of the weights, for the message.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(weights[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (reshaped, "of another shape"))
        if names
    ]
    if faults:
        raise ValueError(
            f"{source} does not fit the model {type(model).__name__}: of {len(own)} tensors {'; '.join(faults)}; "
            "it was written for another model or another number of classes"
        )
