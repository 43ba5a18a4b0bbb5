"""Which pixels need their exact rank, and what is known of them.

The histogram gives all errors of a bin the same weight. Where the Jaccard loss changes fast inside a bin (the first errors
of a rare class), that blurs the gradient. A bin entered with F0 foreground and B0 background errors above it and left with
F1 and B1 has weights between w(F0, B0) and w(F1, B1); if they were spread evenly, replacing them by their mean would put
n (w(F0, B0) - w(F1, B1))²/12 into the squared gradient error. The bins with the largest such terms are opened, until the
estimate for the rest is below TOLERANCE² of the squared gradient: their pixels are listed, sorted and given exact weights.
Usually that is none or a few hundred of a million.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from evenseg.statistics.bins import bin_edges

TOLERANCE = 5e-4
CAPACITY = 1 << 14  # most pixels that are listed; errors that all fall in one bin have no order worth knowing


@dataclass(frozen=True)
class RankedErrors:
    """Errors with their exact place in the order of their group and class.

    Attributes:
        error: (M,) the errors, differentiable, float64.
        place: (M, 4) group, class, side and bin; group -1 marks an unused entry.
        above: (M, 2) number of background and of foreground errors ranked above it.
    """

    error: Tensor
    place: Tensor
    above: Tensor


@lru_cache(maxsize=16)
def bin_slopes(num_bins: int, activation: str) -> Tensor:
    """(K,) |d error/d logit| in the middle of every bin: m (1-m), or 1 for hinge errors above 0."""
    if activation == "hinge":
        return torch.ones(num_bins, dtype=torch.float64)
    edge = bin_edges(num_bins, activation)
    middle = (edge[1:] + edge[:-1]) / 2
    return middle * (1 - middle)


def steepness(counts: Tensor, size: Tensor, slope_K: Tensor) -> tuple[Tensor, Tensor]:
    """(..., K) estimated squared gradient error of every bin, and (...) squared gradient of every row.

    Args:
        counts: (..., 2, K) errors by side and bin.
        size: (...) number of foreground pixels G.
        slope_K: (K,) d error/d logit in the middle of every bin.
    """
    n = counts.flip(-1)
    after = n.cumsum(-1)
    before = after - n
    b0, f0, b1, f1 = before[..., 0, :], before[..., 1, :], after[..., 0, :], after[..., 1, :]
    G = size[..., None].to(n.dtype)
    s = slope_K.flip(0) ** 2
    enter, leave = (G + b0).clamp(min=1e-300), (G + b1).clamp(min=1e-300)
    bg0, bg1 = (G - f0) / (enter * (enter + 1)), (G - f1) / (leave * (leave + 1))
    fg0, fg1 = 1 / enter, 1 / leave
    n0, n1 = n[..., 0, :], n[..., 1, :]
    crowd = (n0 + n1 > 1) & (G > 0)
    loss = torch.where(crowd, s * (n0 * (bg0 - bg1) ** 2 + n1 * (fg0 - fg1) ** 2) / 12, 0.0)
    energy = s * (n0 * bg0 * bg1 + n1 * fg0 * fg1)
    return loss.flip(-1), torch.where(G[..., 0] > 0, energy.sum(-1), 0.0)


def open_bins(counts_GC2K: Tensor, labels_GC: Tensor, slope_K: Tensor) -> Tensor:
    """(G, C, K) bool: the bins whose pixels are to be ranked exactly."""
    loss, energy = steepness(counts_GC2K, labels_GC, slope_K)
    # too many to list, or errors that hardly differ: they stay as they are
    loss = torch.where(counts_GC2K.sum(2) <= CAPACITY, loss, 0.0)
    flat, goal = loss.reshape(-1), TOLERANCE**2 * energy.sum()
    worst, order = flat.topk(min(CAPACITY, flat.numel()))
    left = flat.sum() - worst.cumsum(0) + worst  # what is left before opening this one
    size = counts_GC2K.sum(2).reshape(-1)[order].cumsum(0)
    opened = torch.zeros_like(flat, dtype=torch.bool)
    opened[order] = (left > goal) & (worst > 0) & (size <= CAPACITY)
    return opened.view(loss.shape)


def rank(error_M: Tensor, place_M4: Tensor, counts_GC2K: Tensor) -> tuple[Tensor, Tensor]:
    """Order of the listed errors and, in that order, the (M, 2) numbers of errors above each.

    What is above a bin comes from the histogram, what is above inside the bin from the list. Entries of group -1 are unused: they
    come last.
    """
    G, C, _, K = counts_GC2K.shape
    if error_M.numel() == 0:
        return place_M4[:, 0], counts_GC2K.new_zeros(0, 2)
    row_M = torch.where(place_M4[:, 0] < 0, G * C, place_M4[:, 0] * C + place_M4[:, 1])
    order = error_M.detach().argsort(descending=True, stable=True)
    key_M = row_M * K + (K - 1 - place_M4[:, 3].clamp(min=0))
    order = order[key_M[order].argsort(stable=True)]
    place, key, row = place_M4[order], key_M[order], row_M[order].clamp(max=G * C - 1)
    n = counts_GC2K.view(-1, 2, K).flip(-1)
    above_bin = (n.cumsum(-1) - n)[row, :, K - 1 - place[:, 3].clamp(min=0)]
    by_side = torch.stack([place[:, 2] == 0, place[:, 2] == 1], 1).to(counts_GC2K.dtype)
    running = by_side.cumsum(0) - by_side
    start = torch.searchsorted(key, key)  # where the bin begins in the list
    return order, above_bin + running - running[start]
