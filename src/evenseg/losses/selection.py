"""Exact order statistics of the pixels' losses, without a sort and across ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics.sync import sum_tensor_over_ranks


def kth_largest(values: Tensor, valid: Tensor, k: int, sync: bool = False) -> Tensor:
    """The k-th largest of the valid values (k from 1), exact, of all ranks if `sync`.

    The bits of a non-negative float32 grow with the number, so two rounds of counting, by the upper and by the lower 16
    bits, find it in O(n). Counts add up over ranks.

    Args:
        values: non-negative float32.
        valid: bool of the same shape.
        k: 1 <= k <= number of valid values.
        sync: take the values of all ranks together.
    """
    bits = values.detach()[valid].clamp(min=0).view(torch.int32).long()
    bits = bits & 0x7FFFFFFF  # a negative zero is a zero

    def locate(digit: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
        """The digit in which the rank-th largest lies, and its rank there."""
        counts = torch.bincount(digit, minlength=1 << 16)
        if sync:
            counts = sum_tensor_over_ranks(counts)
        above = counts.flip(0).cumsum(0)
        place = torch.searchsorted(above, rank)
        digit_found = (1 << 16) - 1 - place
        return digit_found, rank - (above[place] - counts[digit_found])

    rank = torch.tensor(k, device=bits.device)
    high, rank = locate(bits >> 16, rank)
    low, _ = locate(bits[(bits >> 16) == high] & 0xFFFF, rank)
    return ((high << 16) | low).to(torch.int32).view(torch.float32)
