"""Structural similarity loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import flag, number, one_of, whole
from evenseg.losses.pixel_term import pixel_cross_entropy, pixel_terms_for

VARIANCE_FLOOR = 1e-12  # the root has a slope where the window is flat


def gaussian_taps(size: int, sigma: float) -> list[float]:
    """`size` values of a Gaussian around the middle, summing to 1."""
    taps = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [t / sum(taps) for t in taps]


def blur(x_NCHW: Tensor, taps: list[float]) -> Tensor:
    """Every map smoothed along both axes; outside the image is 0."""
    row = x_NCHW.new_tensor(taps)
    x = x_NCHW.flatten(0, 1)[:, None]
    x = F.conv2d(F.conv2d(x, row.view(1, 1, -1, 1), padding=(len(taps) // 2, 0)), row.view(1, 1, 1, -1), padding=(0, len(taps) // 2))
    return x.view(x_NCHW.shape)


class StructuralSimilarityLoss(MapLoss):
    """Cross-entropy where the prediction has not the local structure of the labels: paper-spec, no public code.

    L = lam BCE + (1 - lam) SSL, where

        SSL = 1/M sum over pixels i and classes c of e_ic f_ic bce(z_ic, y_ic),  f_ic = [e_ic > beta max e],  M = sum f_ic,
        e = |(y - mu_y + c4)/(s_y + c4) - (p - mu_p + c4)/(s_p + c4)|,
        BCE = sum over i and c of bce(z_ic, y_ic), divided by the number of valid pixels.

    p = sigmoid(z); mu and s are mean and standard deviation of a map in a Gaussian window around the pixel, over its valid
    pixels. e is how far the standardised prediction is from the standardised label; the maximum is that of the batch.

    Args:
        pixel_term: "bce", "ce" (softmax cross-entropy), or "none": L = SSL alone, and `lam` does not apply.
        lam: weight in [0, 1].
        beta: share of the largest e below which a pixel and class is left out.
        c4: keeps the quotients finite in flat windows.
        window_size: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
        detach: take e as a constant weight: no gradient through it, and about half the memory.
        **common: see :class:`evenseg.losses.maps.MapLoss`. `weight` multiplies bce by class; pixel_weight weighs pixels in all
            sums, those of windows included.

    Images only: logits (N, C, H, W).

    Range: [0, inf).

    Source: Zhao, Wu et al., Correlation maximized structural similarity loss for semantic segmentation, 2019
    (arXiv 1910.08711). The authors' code is not public. Not settled by the paper, and chosen here: the window, sigmoid
    probabilities class by class, the maximum over the batch, f without and e with a gradient, valid pixels only in windows.

    Example:
        >>> import torch
        >>> from evenseg.losses import StructuralSimilarityLoss
        >>> logits, target = torch.randn(2, 3, 32, 32, requires_grad=True), torch.randint(0, 3, (2, 32, 32))
        >>> StructuralSimilarityLoss()(logits, target).backward()
    """

    soft_labels = True
    dimensions = (2,)

    def __init__(
        self,
        *,
        pixel_term: str = "bce",
        lam: float = 0.5,
        beta: float = 0.1,
        c4: float = 0.01,
        window_size: int = 3,
        sigma: float = 1.5,
        detach: bool = False,
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.pixel_term = one_of("pixel_term", pixel_term, pixel_terms_for(self.mode))
        self.lam, self.beta = number("lam", lam, 0, 1), number("beta", beta, 0, 1)
        self.c4 = number("c4", c4, 0, open_low=True)
        if whole("window_size", window_size, 3) % 2 == 0:
            raise ValueError(f"window_size must be odd, so that a pixel is in the middle, got {window_size}")
        self.taps = gaussian_taps(window_size, number("sigma", sigma, 0, open_low=True))
        self.detach = flag("detach", detach)

    def standardised(self, x: Tensor, weight: Tensor, weight_sum: Tensor) -> Tensor:
        """(x - mu + c4) / (s + c4), with the statistics of the window around every pixel."""
        weighted = weight * x
        mu = blur(weighted, self.taps) / weight_sum
        variance = blur(weighted * x, self.taps) / weight_sum - mu**2
        return (x - mu + self.c4) / ((variance.clamp(min=0) + VARIANCE_FLOOR).sqrt() + self.c4)

    def dissimilarity(self, maps: Maps) -> Tensor:
        """e, (N, C, H, W), 0 at ignored pixels."""
        weight_sum = blur(maps.weight, self.taps)
        weight_sum = torch.where(maps.valid, weight_sum, 1.0)  # the window of a valid pixel holds at least itself
        with torch.no_grad():
            wanted = self.standardised(maps.truth, maps.weight, weight_sum)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            given = self.standardised(maps.logits.sigmoid(), maps.weight, weight_sum)
            return torch.where(maps.valid, (wanted - given).abs(), 0.0)

    def structure(self, maps: Maps) -> Tensor:
        """SSL, float64."""
        e = self.dissimilarity(maps)
        with torch.no_grad():
            kept = torch.where(e > self.beta * e.max(), maps.weight, 0.0)
            number_kept = kept.sum(dtype=torch.float64)
        loss = F.binary_cross_entropy_with_logits(maps.logits, maps.truth, reduction="none")
        if self.weight is not None:
            loss = loss * self.class_weight(maps)[:, None, None]
        return (kept * e * loss).sum(dtype=torch.float64) / torch.where(number_kept > 0, number_kept, 1.0)

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        if self.pixel_term == "none":
            return self.structure(maps)
        return self.lam * pixel_cross_entropy(maps, self.pixel_term, self.weight) + (1 - self.lam) * self.structure(maps)


structural_similarity_loss = functional(StructuralSimilarityLoss)
