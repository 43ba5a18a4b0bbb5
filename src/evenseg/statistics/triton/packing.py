"""The packed histogram of the GPU kernels: how a count and a sum share one integer, and how they part again.

A counter holds the number of errors from bit SHIFT up and, below it, the sum of their positions inside the bin in units of
2^-RESIDUAL bin widths. With pixel weights there are two tables, of the weights and of weight times position, both in fixed point:
integers, too, so that no sum depends on the order in which the GPU adds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics.bins import bin_edges

RESIDUAL = 10
SHIFT = 37
WEIGHT_BITS = 24  # of the largest weight
MOST = 1 << 26  # pixels packed before unpacking: beyond, a sum could overflow into its count


def unpack(
    packed: Tensor, weights: Tensor | None, unit: Tensor, totals_GC2: Tensor, labels_GC2: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """(G, C, 2, K) sums and counts of the errors by bin.

    Args:
        packed: (copies, G, C, 2, K + 1) counters; the last is the upper edge of the last bin.
        weights: the same for the weights, or None.
        unit: what the weights were multiplied with.
        totals_GC2: sum of all errors, by side.
        labels_GC2: number or weight of all errors, by side; the lowest bin gets what the others leave.
        kind: "softmax" or "hinge", for the edges of the bins.
    """
    K = packed.shape[-1] - 1
    edge = bin_edges(K, kind).to(packed.device)
    low, width = edge[:-1], edge[1:] - edge[:-1]
    packed = packed.sum(0)
    if weights is None:
        count, position = (packed >> SHIFT).double(), (packed & ((1 << SHIFT) - 1)).double()
    else:
        count, position = weights.sum(0).double() / unit, packed.double() / unit
    # an error on the upper edge of the last bin belongs to the last bin
    edge_count, edge_position = count[..., -1], position[..., -1]
    count, position = count[..., :-1].clone(), position[..., :-1] * (0.5**RESIDUAL)
    sums = count * low + position * width
    sums[..., -1] += edge_count * edge[-1] + edge_position * (0.5**RESIDUAL) * width[-1]
    count[..., -1] += edge_count
    count[..., 0] = (labels_GC2 - count[..., 1:].sum(-1)).clamp(min=0)
    sums[..., 0] = (totals_GC2 - sums[..., 1:].sum(-1)).clamp(min=0)
    sums[..., 0] = torch.where(count[..., 0] > 0, sums[..., 0], 0.0)
    return sums, count


def packed_table(copies: int, groups: int, rows: int, num_bins: int, device: torch.device) -> Tensor:
    """Zeroed counters."""
    return torch.zeros(copies, groups, rows, 2, num_bins + 1, dtype=torch.int64, device=device)
