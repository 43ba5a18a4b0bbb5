"""Structural similarity loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import flag, number, one_of, whole
from evenseg.losses.pixel_term import pixel_cross_entropy, pixel_terms_for
from evenseg.statistics.sync import largest_over_ranks

LOT_VALUES = 1 << 20  # pixels and classes handled at a time, so that the steps stay in the cache
VARIANCE_FLOOR = 1e-12  # the root has a slope where the window is flat


def gaussian_taps(size: int, sigma: float) -> list[float]:
    """`size` values of a Gaussian around the middle, summing to 1."""
    taps = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [t / sum(taps) for t in taps]


def blur(x: Tensor, taps: list[float]) -> Tensor:
    """Maps (..., H, W) smoothed along both axes; outside the image is 0. The taps are symmetric, so this is its own adjoint."""
    middle = len(taps) // 2
    for axis in (-1, -2):
        out = x * taps[middle]
        size = x.shape[axis]
        for step in range(1, min(middle + 1, size)):
            out.narrow(axis, step, size - step).add_(x.narrow(axis, 0, size - step), alpha=taps[middle + step])
            out.narrow(axis, 0, size - step).add_(x.narrow(axis, step, size - step), alpha=taps[middle + step])
        x = out
    return x


class WindowStatistics(NamedTuple):
    """A map standardised by the window around every pixel, with mean and standard deviation of the window."""

    standardised: Tensor
    mean: Tensor
    deviation: Tensor
    varies: Tensor


def window_statistics(x: Tensor, weight: Tensor, total: Tensor, taps: list[float], c4: float) -> WindowStatistics:
    """(x - mean + c4) / (deviation + c4) and its parts; `total` is the blurred weight, 1 where that is not needed."""
    weighted = weight * x
    mean = blur(weighted, taps).div_(total)
    variance = blur(weighted.mul_(x), taps).div_(total).sub_(mean**2)
    varies = variance > 0
    deviation = variance.clamp_(min=0).add_(VARIANCE_FLOOR).sqrt_()
    return WindowStatistics((x - mean + c4).div_(deviation + c4), mean, deviation, varies)


class Dissimilarity(torch.autograd.Function):
    """|standardised labels - standardised predictions|, (N, C, H, W), with the gradient to the predictions.

    Written out because it is made of many small maps: a few classes at a time, and once more in the backward pass, so that only the
    inputs are kept.
    """

    @staticmethod
    def forward(ctx: Any, probs: Tensor, truth: Tensor, weight: Tensor, total: Tensor, taps: list[float], c4: float) -> Tensor:
        ctx.save_for_backward(probs, truth, weight, total)
        ctx.taps, ctx.c4 = taps, c4
        out = torch.empty_like(probs)
        for e, p, y, w, t in Dissimilarity.lots(out, probs, truth, weight, total):
            wanted, given = (window_statistics(x, w, t, taps, c4).standardised for x in (y, p))
            e.copy_(wanted.sub_(given).abs_())
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        taps, c4 = ctx.taps, ctx.c4
        out = torch.empty_like(ctx.saved_tensors[0])
        for of_p, of_e, p, y, w, t in Dissimilarity.lots(out, upstream[0], *ctx.saved_tensors):
            wanted = window_statistics(y, w, t, taps, c4).standardised
            given = window_statistics(p, w, t, taps, c4)
            of_given = of_e * (given.standardised - wanted).sign_()
            # s = (p - mean + c4) / (deviation + c4), deviation = root(variance), variance = blur(w p²)/t - mean², mean = blur(w p)/t
            direct = of_given / (given.deviation + c4)
            of_variance = torch.where(given.varies, -direct * given.standardised / (2 * given.deviation), 0.0)
            of_mean = -direct - 2 * given.mean * of_variance
            through_mean, through_variance = blur(of_mean.div_(t), taps), blur(of_variance.div_(t), taps)
            of_p.copy_(direct.add_(through_variance.mul_(p).mul_(2).add_(through_mean).mul_(w)))
        return out, None, None, None, None, None

    @staticmethod
    def lots(out: Tensor, *tensors: Tensor) -> Iterator[list[Tensor]]:
        """The tensors, each as large as the first or of one channel, as views of some classes of one image after the other."""
        N, C, H, W = out.shape
        lot = max(1, LOT_VALUES // (H * W))
        for n in range(N):
            for c in range(0, C, lot):
                yield [x[n] if x.shape[1] == 1 else x[n, c : c + lot] for x in (out, *tensors)]


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
        detach: take e as a constant weight: no gradient through it.
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

    def dissimilarity(self, maps: Maps) -> Tensor:
        """e, (N, C, H, W), 0 at ignored pixels."""
        probs = maps.logits.detach().sigmoid() if self.detach else maps.logits.sigmoid()
        # the window of a valid pixel holds at least itself; of others nothing is asked
        total = torch.where(maps.valid, blur(maps.weight, self.taps), 1.0)
        return torch.where(maps.valid, Dissimilarity.apply(probs, maps.truth, maps.weight, total, self.taps, self.c4), 0.0)

    def structure(self, maps: Maps) -> Tensor:
        """SSL, float64."""
        e = self.dissimilarity(maps)
        with torch.no_grad():
            largest = largest_over_ranks(e.max()) if self.sync else e.max()
            kept = torch.where(e > self.beta * largest, maps.weight, 0.0)
        loss = F.binary_cross_entropy_with_logits(maps.logits, maps.truth, reduction="none")
        if self.weight is not None:
            loss = loss * self.class_weight(maps)[:, None, None]
        return self.mean((kept * e * loss).sum(dtype=torch.float64), kept.sum(dtype=torch.float64))

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        if self.pixel_term == "none":
            return self.structure(maps)
        pixels = self.mean(*pixel_cross_entropy(maps, self.pixel_term, self.weight))
        return self.lam * pixels + (1 - self.lam) * self.structure(maps)


structural_similarity_loss = functional(StructuralSimilarityLoss)
