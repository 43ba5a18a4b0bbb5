"""Gradient accumulation that is exact for every loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def forward_in_parts(model: nn.Module, image: Tensor, parts: int) -> Any:
    """Runs the model over a batch in parts of which only one keeps its activations in memory at a time.

    The usual accumulation averages the losses of the parts, which is not the loss of the batch for anything but plain
    sums: Lovász, Dice, OHEM, the denominator of a weighted cross-entropy. Here the parts' outputs are joined, the loss
    sees the batch, and going backwards every part is computed once more (torch.utils.checkpoint), random numbers included.
    Price: one more forward pass, and the outputs of the whole batch in memory.

    Gradient and loss are those of the batch, whatever the loss. What remains of the parts are the statistics of batch
    normalisation, which are taken over one part.

    Args:
        model: images -> list of outputs.
        image: (N, C, H, W).
        parts: how many; they divide N.

    Source: the two passes are those of Gao et al., Scaling deep contrastive learning batch size under memory limited
    setup, RepL4NLP 2021 (there with a cached gradient of the outputs in between).
    """
    if parts == 1:
        return model(image)
    if len(image) % parts:
        raise ValueError(f"a batch of {len(image)} images does not divide into {parts} parts")
    done = [
        list(checkpoint(model, part, use_reentrant=False, context_fn=lambda: _contexts(model))) for part in image.chunk(parts)
    ]
    return [torch.cat(outputs) for outputs in zip(*done, strict=True)]


def _contexts(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _keeping_buffers(model)


@contextmanager
def _keeping_buffers(model: nn.Module) -> Iterator[None]:
    """Undoes what the second pass does to buffers: running means were updated in the first."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            # .data: autograd has noted the buffer for the backward pass, which does not read it in training
            buffer.data.copy_(value)
