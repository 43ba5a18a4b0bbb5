"""Distances to the nearest marked pixel, for the losses that measure how far a prediction is from the truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FAR = 1 << 30  # squared distance where nothing is marked; every true one is smaller
_AT_ONCE = 1 << 25  # numbers that the plain form holds at a time


def distance_transform(marked: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The exact Euclidean distance of every pixel to the nearest marked one.

    Args:
        marked: (M, *spatial) bool, M maps of one or more dimensions.
        dtype: floating-point type of the result.

    Returns:
        (M, *spatial) distances in pixels: 0 on marked pixels, inf all over a map that has none. No gradient.

    On the CPU a compiled kernel, linear in the number of pixels; on other devices a plain torch form, whose time per pixel grows with
    the length of every axis but the first. Both count whole pixels, so they agree bit by bit.

    Example:
        >>> import torch
        >>> distance_transform(torch.tensor([[[True, False], [False, False]]]))
        tensor([[[0.0000, 1.0000],
                 [1.0000, 1.4142]]])
    """
    squared = squared_distance(marked)
    return squared.to(dtype).sqrt_().masked_fill_(squared == FAR, math.inf)


@torch.library.custom_op("evenseg::squared_distance", mutates_args=())
def squared_distance(marked: Tensor) -> Tensor:
    """(M, *spatial) int32 squared distances, `FAR` all over a map without a marked pixel."""
    if sum((length - 1) ** 2 for length in marked.shape[1:]) >= FAR:
        raise ValueError(f"distances are counted up to {math.isqrt(FAR)} pixels; maps of {tuple(marked.shape[1:])} pixels are too large")
    if marked.numel() == 0:
        return marked.to(torch.int32)
    if marked.device.type == "cpu":
        from evenseg.losses import distance_kernel

        return distance_kernel.squared_distance(marked)
    return plain_squared_distance(marked)


@squared_distance.register_fake
def _(marked: Tensor) -> Tensor:
    return torch.empty(marked.shape, dtype=torch.int32, device=marked.device)


def plain_squared_distance(marked: Tensor) -> Tensor:
    """The same in plain torch: along the first axis from the nearest mark before and behind, along the others by comparing all pairs."""
    L = marked.shape[1]
    place = torch.arange(L, dtype=torch.int32, device=marked.device).view(-1, *[1] * (marked.dim() - 2))
    before = place - torch.where(marked, place, -FAR).cummax(1).values
    behind = torch.where(marked, place, FAR).flip(1).cummin(1).values.flip(1) - place
    steps = torch.minimum(before, behind)
    squared = torch.where(steps < L, steps * steps, FAR)
    for axis in range(2, marked.dim()):
        squared = squared.movedim(axis, -1)
        shape, L = squared.shape, squared.shape[-1]
        place = torch.arange(L, dtype=torch.int32, device=marked.device)
        between = (place[:, None] - place) ** 2
        lines = squared.reshape(-1, L).split(max(1, _AT_ONCE // (L * L)))
        squared = torch.cat([(chunk[:, None] + between).amin(-1).clamp(max=FAR) for chunk in lines]).view(shape).movedim(-1, axis)
    return squared.contiguous()
