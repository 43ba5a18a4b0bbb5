"""The energy that dense-CRF losses share: how many pairs of like pixels are given different classes.

With S_k the probabilities of class k, R the weight of every pixel in the region of interest, both on a grid of P cells,
and K the Gaussian kernel K_ij = exp(-|g_i - g_j|² / 2) on a guide g (places, colours, features, each divided by its sigma):

    agreement = sum_k S_k^T K S_k        pairs = R^T K R        0 <= agreement <= pairs, since sum_k S_k = R

K is never held: its product with S and R is summed up block by block, or over the cells of a window. As K is symmetric and
has no gradient, the gradient of the agreement is 2 K S, which the forward pass has already.

Shape suffixes: N images, K classes, P cells, D numbers of the guide, G for the dimensions of the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# pairs that are held at a time; on a CPU they stay in its cache
_PAIRS_CPU, _PAIRS_GPU = 2**19, 2**24

Product = Callable[[Tensor], Tensor]  # (N, K, *G) -> the kernel times it, of the same shape


class _Quadratic(torch.autograd.Function):
    """(N,) sums of S * KS with the gradient 2 KS, where KS = K S is given."""

    @staticmethod
    def forward(ctx: Any, values_NKG: Tensor, product_NKG: Tensor) -> Tensor:
        ctx.save_for_backward(product_NKG)
        return (values_NKG.double() * product_NKG.double()).flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor, None]:
        (product_NKG,) = ctx.saved_tensors
        shape = (-1,) + (1,) * (product_NKG.dim() - 1)
        return 2 * upstream_N.to(product_NKG.dtype).view(shape) * product_NKG, None


def pairwise_energy(values_NKG: Tensor, region_N1G: Tensor, product: Product, *, self_pairs: bool = True) -> tuple[Tensor, Tensor]:
    """(agreement, pairs) of every image, (N,) float64 each; the first with a graph.

    Args:
        values_NKG: probabilities times region.
        region_N1G: weight of every cell.
        product: of the kernel, with 1 for the pair of a cell with itself.
        self_pairs: whether these pairs count.
    """
    with torch.no_grad():
        both = torch.cat([values_NKG, region_N1G], 1)
        result = product(both)
        if not self_pairs:
            result = result - both
        pairs_N = (region_N1G[:, 0].double() * result[:, -1].double()).flatten(1).sum(1)
    agreement_N: Tensor = _Quadratic.apply(values_NKG, result[:, :-1])  # type: ignore[no-untyped-call]
    return agreement_N, pairs_N


def dense_product(values_NKG: Tensor, guide_NDG: Tensor, places_DP: Tensor) -> Tensor:
    """K times values over all pairs of cells: O(P² (D + K)) time, O(P (D + K)) memory.

    Args:
        values_NKG: what K is multiplied with.
        guide_NDG: colours and features, divided by their sigmas.
        places_DP: coordinates of the cells, divided by sigma_xy.
    """
    N, P = len(values_NKG), places_DP.shape[1]
    guide_NPD = torch.cat([guide_NDG.flatten(2), places_DP.expand(N, -1, -1)], 1).transpose(1, 2).contiguous()
    values_NPK = values_NKG.flatten(2).transpose(1, 2).contiguous()
    result_NPK = torch.zeros_like(values_NPK)
    most = _PAIRS_CPU if values_NKG.device.type == "cpu" else _PAIRS_GPU
    rows = max(1, most // (N * P))
    for top in range(0, P, rows):
        end = min(top + rows, P)
        # differences, not |a|² + |b|² - 2 ab, whose rounding grows with the size of the guide (and with TF32)
        distance = torch.cdist(guide_NPD[:, top:end], guide_NPD[:, top:], compute_mode="donot_use_mm_for_euclid_dist")
        kernel = distance.square_().mul_(-0.5).exp_()
        # what lies below the diagonal is the transpose of what lies above it
        result_NPK[:, top:end] += kernel @ values_NPK[:, top:]
        result_NPK[:, end:] += kernel[:, :, end - top :].transpose(1, 2) @ values_NPK[:, top:end]
    return result_NPK.transpose(1, 2).reshape(values_NKG.shape)


def window_product(values_NKG: Tensor, guide_NDG: Tensor, radius: int, step: float) -> Tensor:
    """K times values over the pairs at most `radius` cells apart along every axis; nothing lies beyond the border.

    Args:
        values_NKG: what K is multiplied with.
        guide_NDG: as in `dense_product`.
        radius: of the window, in cells.
        step: from one cell to the next, divided by sigma_xy.
    """
    result = values_NKG.clone()
    size = values_NKG.shape[2:]
    for offset in _half_window(radius, len(size)):
        if any(abs(o) >= length for o, length in zip(offset, size)):
            continue
        here, there = _shifted(offset, size), _shifted([-o for o in offset], size)
        distance = (guide_NDG[here] - guide_NDG[there]).square_().sum(1, keepdim=True)
        kernel = distance.add_(step**2 * sum(o * o for o in offset)).mul_(-0.5).exp_()
        result[here] += kernel * values_NKG[there]
        result[there] += kernel * values_NKG[here]
    return result


def _half_window(radius: int, dimensions: int) -> Iterator[tuple[int, ...]]:
    """One of every pair of opposite offsets."""
    zero = (0,) * dimensions
    return (offset for offset in itertools.product(range(-radius, radius + 1), repeat=dimensions) if offset > zero)


def _shifted(offset: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The part of a map that has a neighbour at -offset."""
    return (slice(None), slice(None), *(slice(max(o, 0), length + min(o, 0)) for o, length in zip(offset, size)))


def cell_side(size: Sequence[int], least: int, most_cells: int | None) -> int:
    """Pixels along the side of a cell: the least that gives at most `most_cells` cells, but not below `least`."""
    side = least
    while most_cells is not None and cells_of(size, side) > most_cells:
        side += 1
    return side


def cells_of(size: Sequence[int], side: int) -> int:
    """Number of cells of a grid over `size` pixels."""
    number = 1
    for length in size:
        number *= -(-length // side)
    return number


def pool(values_NCG: Tensor, side: int) -> Tensor:
    """Sums over cells of side^d pixels, divided by side^d; cells at the far border may have fewer pixels."""
    if side == 1:
        return values_NCG
    if values_NCG.dim() == 3:  # avg_pool1d knows no divisor
        return pool(values_NCG[:, :, None], side)[:, :, 0] * side
    window = tuple(min(side, length) for length in values_NCG.shape[2:])
    average = F.avg_pool2d if values_NCG.dim() == 4 else F.avg_pool3d
    return average(values_NCG, window, stride=side, ceil_mode=True, divisor_override=side ** len(window))


def places(grid: Sequence[int], step: float, like: Tensor) -> Tensor:
    """(d, P) coordinates of the cells of a grid, `step` apart."""
    axes = [torch.arange(length, dtype=like.dtype, device=like.device) * step for length in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
