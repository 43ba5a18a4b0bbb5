"""The pixel-wise cross-entropy that losses on neighbourhoods are published with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evenseg.losses.maps import Maps

PIXEL_TERMS = ("bce", "ce", "none")


def pixel_terms_for(mode: str) -> tuple[str, ...]:
    """The pixel terms that a mode allows: softmax cross-entropy is for channels that exclude each other."""
    return PIXEL_TERMS if mode == "multiclass" else ("bce", "none")


def pixel_cross_entropy(maps: Maps, kind: str, weight_C: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a batch, summed over channels and valid pixels, and the number of these pixels, float64 both.

    Args:
        maps: the batch.
        kind: "bce" (sigmoid, every channel against the rest) or "ce" (softmax).
        weight_C: (C,) factors of the classes' terms; the number of pixels does not know them.

    Returns:
        The sum; the sum of the pixel weights (for multilabel maps its mean over the channels).
    """
    C = maps.truth.shape[1]
    if kind == "ce":
        loss = -maps.truth * F.log_softmax(maps.logits, 1)
    else:
        loss = F.binary_cross_entropy_with_logits(maps.logits, maps.truth, reduction="none")
    if weight_C is not None:
        loss = loss * weight_C.to(loss.dtype).view(C, *[1] * (loss.dim() - 2))
    total = (loss * maps.weight).sum(dtype=torch.float64)
    return total, maps.weight.sum(dtype=torch.float64) / maps.weight.shape[1]
