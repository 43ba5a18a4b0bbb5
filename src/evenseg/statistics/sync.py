"""Sums over the ranks of torch.distributed, with the gradient that data parallelism needs."""

from __future__ import annotations

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor

from evenseg.statistics.types import SegmentStatistics


def world_size() -> int:
    """Number of ranks, 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverRanks(torch.autograd.Function):
    """x -> sum of x over the ranks.

    Every rank evaluates the same loss L(S) of the same global S = sum_r S_r. DistributedDataParallel averages the ranks'
    parameter gradients; for the average of g_r dS_r/dtheta to be dL/dS sum_r dS_r/dtheta, g_r must be W dL/dS. No
    communication is needed on the way back.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * world_size()


def sum_tensor_over_ranks(x: Tensor) -> Tensor:
    """Sum over the ranks, differentiable; x itself without torch.distributed."""
    return x if world_size() == 1 else _SumOverRanks.apply(x)


def sums_over_ranks(*sums: Tensor) -> tuple[Tensor, ...]:
    """Each of the tensors summed over the ranks, differentiable, in one collective; they themselves without torch.distributed.

    Sums of floats come back in float64; counts, which float64 holds exactly, in their own type and without a graph.
    """
    if world_size() == 1:
        return sums
    joined = _SumOverRanks.apply(torch.cat([x.double().reshape(-1) for x in sums]))
    pieces = [piece.view(x.shape) for piece, x in zip(joined.split([x.numel() for x in sums]), sums)]
    return tuple(p if x.is_floating_point() else p.detach().round().to(x.dtype) for p, x in zip(pieces, sums))


@torch.no_grad()
def largest_over_ranks(x: Tensor) -> Tensor:
    """The elementwise maximum over the ranks, without a graph; x itself, detached, without torch.distributed."""
    largest = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def sum_over_ranks(stats: SegmentStatistics) -> SegmentStatistics:
    """The statistics of the global batch. One collective for all sums (float64 counts exactly), one for the peaks.

    The maps by pixel stay those of the rank.
    """
    if world_size() == 1:
        return stats
    parts: list[Tensor] = []

    def note(name: str, value: Tensor) -> Tensor:
        parts.append(value)
        return value

    stats.map_sums(note)
    sums = iter(sums_over_ranks(*parts))
    out = stats.map_sums(lambda name, value: next(sums))
    if stats.peak is not None:
        # only ranks that hold the largest error send a gradient into it, scaled as above and shared among them
        peak = largest_over_ranks(stats.peak)
        own = (stats.peak == peak) & (peak > 0)
        holders = own.double()
        dist.all_reduce(holders)
        slope = torch.where(own, world_size() / holders.clamp(min=1), 0.0)
        out = dataclasses.replace(out, peak=peak + slope * (stats.peak - stats.peak.detach()))
    return out
