"""Sums over batches and ranks, for scores that are functions of summed counts."""

import torch
from torch import Tensor, nn


class SumOfCounts(nn.Module):
    """A tensor of counts summed over batches; as a submodule it follows its parent to the device.

    Args:
        zero: counts of nothing, with the shape and type of the sum.
    """

    counts: Tensor

    def __init__(self, zero: Tensor) -> None:
        super().__init__()
        # no part of a model's weights
        self.register_buffer("counts", zero, persistent=False)

    def add(self, counts: Tensor) -> None:
        """Add the counts of a batch."""
        self.counts += counts

    def total(self) -> Tensor:
        """Return the sum of all batches since the last reset, on all ranks; every rank must call it."""
        total = self.counts.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        return total

    def reset(self) -> None:
        """Forget all counts."""
        self.counts.zero_()
