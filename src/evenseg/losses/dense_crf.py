"""Dense-CRF regularised loss: like neighbours get like classes, labelled or not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, read_region
from evenseg.losses.options import flag, number, one_of, whole
from evenseg.losses.pairwise import cell_side, dense_product, pairwise_energy, places, pool, window_product


class DenseCRFLoss(MapLoss):
    """Share of the pairs of pixels near in place and colour that are given different classes.

    L = mean over images of 1 - sum_k S_k^T K S_k / (R^T K R), with S_k = R p_k the probabilities of class k, R the pixel
    weight (1 if none is given), K_ij = exp(-|x_i - x_j|² / (2 sigma_xy²) - |I_i - I_j|² / (2 sigma_rgb²)), x the place in
    pixels and I the image, i = j included. It needs no labels: beside a partial cross-entropy (`CrossEntropyLoss`, unlabelled
    pixels = ignore_index) it spreads scribbles over the image. Alone it is least for a constant prediction.

    It acts on every pixel of positive weight, also where the target is ignore_index, which here means "unlabelled". Pixels
    outside the image, padded ones, get the weight 0. In binary and multilabel mode every channel is two classes, p and
    1 - p, averaged over the channels.

    Args:
        sigma_rgb: width of the kernel in colour, in the unit of `image`: 15 of 255 levels by default.
        sigma_xy: width in place, in pixels of the full resolution, whatever the cells.
        window: None for all pairs, or the radius in cells of the square window in which pairs are counted: the form of
            Gated CRF, O(P) instead of O(P²).
        cell: pixels along the side of a cell; probabilities and image are averaged over cells before pairs are formed.
        max_cells: cells are made larger until an image has no more of them than this; None for no limit.
        self_pairs: whether a pixel is a pair with itself, as published; without, undecided pixels cost nothing by themselves.
        normalized: False gives the published -(1/N) sum_n sum_k S_k^T K S_k, which grows with the square of the cells.
        resize: "mean", or "nearest": image and weight at the first pixel of a cell, as published.
        **common: `mode` and `ignore_index`; see :class:`evenseg.losses.maps.MapLoss`.

    Context: `image` (N, B, *spatial), not normalised: floats in 0..1, or uint8, which is divided by 255. For floats of another
    range, like 0..255, give sigma_rgb > 1 in that unit.

    Published weights: with r = R^T K R, the gradient of coef L is that of the published weight x energy for
    coef = weight r. The published kernel is a lattice approximation of 0.57 times the exact values, and its trainer divides
    the cross-entropy by the batch size 12 once more: its weight 2e-9 means 1.4e-8 r beside a mean cross-entropy, see
    docs/scribbles.md. Gated CRF's value is r L / pixels with self_pairs=False.

    Range: [0, 1]; without `normalized` (-inf, 0].

    Source: Tang et al., On regularized losses for weakly-supervised CNN segmentation, ECCV 2018, eq. 5 and 9. Obukhov et al., Gated
    CRF loss for weakly supervised semantic image segmentation, 2019 (the window).

    Example:
        >>> import torch
        >>> from evenseg.losses import DenseCRFLoss
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> image[..., 4:] = 1.0
        >>> target = torch.full((1, 8, 8), 255)
        >>> right, wrong = 20 * torch.stack([1 - image[:, 0], image[:, 0]], 1), torch.zeros(1, 2, 8, 8)
        >>> [round(DenseCRFLoss()(z, target, image=image).item(), 2) for z in (right, wrong)]
        [0.0, 0.5]
    """

    requires: ClassVar[tuple[str, ...]] = ("image",)
    uses_labels: ClassVar[bool] = False
    common_options: ClassVar[frozenset[str]] = MapLoss.common_options - {"weight"}

    def __init__(
        self,
        *,
        sigma_rgb: float = 15 / 255,
        sigma_xy: float = 100.0,
        window: int | None = None,
        cell: int = 1,
        max_cells: int | None = 4096,
        self_pairs: bool = True,
        normalized: bool = True,
        resize: str = "mean",
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.sigma_rgb = number("sigma_rgb", sigma_rgb, 0, open_low=True)
        self.sigma_xy = number("sigma_xy", sigma_xy, 0, open_low=True)
        self.window = None if window is None else whole("window", window, 1)
        self.cell = whole("cell", cell, 1)
        self.max_cells = None if max_cells is None else whole("max_cells", max_cells, 1)
        self.self_pairs, self.normalized = flag("self_pairs", self_pairs), flag("normalized", normalized)
        self.resize = one_of("resize", resize, ("mean", "nearest"))

    def evaluate(self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None, context: Mapping[str, Any]) -> Tensor:
        raw, weight = read_region(logits, target, self.mode, self.ignore_index, pixel_weight)
        image = self.read_image(context["image"], raw)
        side = cell_side(raw.shape[2:], self.cell, self.max_cells)
        inside = raw if weight is None else torch.where(weight > 0, raw, 0.0)
        if self.mode == "multiclass":
            probs, maps = inside.softmax(1), 1
        else:
            probs, maps = torch.cat([inside.sigmoid(), (-inside).sigmoid()], 1), raw.shape[1]
        values, region, colours = self.on_cells(probs, weight, image, side)
        guide = self.guide(colours, context)
        agreement, pairs = pairwise_energy(values, region, self.product(guide, side), self_pairs=self.self_pairs)
        agreement = agreement / maps
        if not self.normalized:
            return self.mean(-agreement.sum(), torch.ones_like(agreement).sum())
        counted = pairs > 0
        value = torch.where(counted, 1 - agreement / torch.where(counted, pairs, 1.0), 0.0)
        return self.mean(value.sum(), counted.sum())

    def on_cells(self, probs: Tensor, weight: Tensor | None, image: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities times region, region and image on the grid of cells."""
        ones = torch.ones_like(probs[:, :1])
        if self.resize == "nearest":
            first = (slice(None), slice(None)) + (slice(None, None, side),) * (probs.dim() - 2)
            region = (ones if weight is None else weight)[first]
            return pool(probs, side) / pool(ones, side) * region, region, image[first]
        if weight is None:
            region = pool(ones, side)
            return pool(probs, side), region, pool(image, side) / region
        region = pool(weight, side)
        colours = pool(torch.where(weight > 0, image, 0.0) * weight, side) / torch.where(region > 0, region, 1.0)
        return pool(probs * weight, side), region, colours

    def guide(self, colours: Tensor, context: Mapping[str, Any]) -> Tensor:
        """What the kernel compares beside places: (N, D, *grid), every part divided by its sigma."""
        return colours / self.sigma_rgb

    def product(self, guide: Tensor, side: int) -> partial[Tensor]:
        """The kernel as a function of what it is multiplied with."""
        step = side / self.sigma_xy
        if self.window is not None:
            return partial(window_product, guide_NDG=guide, radius=self.window, step=step)
        return partial(dense_product, guide_NDG=guide, places_DP=places(guide.shape[2:], step, guide))

    def read_image(self, image: Any, raw: Tensor) -> Tensor:
        """The image in the dtype of the logits, or a ValueError where it does not fit them or sigma_rgb."""
        if not isinstance(image, Tensor) or image.dim() != raw.dim() or image.shape[0] != raw.shape[0] or image.shape[2:] != raw.shape[2:]:
            got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"image must have shape {(len(raw), 'B', *raw.shape[2:])} as the logits, got {got}")
        if image.dtype == torch.uint8:
            return image.to(raw.dtype) / (255 if self.sigma_rgb <= 1 else 1)
        if not image.is_floating_point():
            raise ValueError(f"image must hold floats or uint8, got {image.dtype}")
        image = image.detach()
        if not torch.compiler.is_compiling():
            low, high = (float(v) for v in image.aminmax())
            if self.sigma_rgb <= 1 and not (low >= -0.01 and high <= 1.01):
                raise ValueError(
                    f"image has values from {low:.3g} to {high:.3g}; with sigma_rgb={self.sigma_rgb:.3g} it must lie in 0..1: undo its "
                    "normalisation, divide 0..255 by 255, or give sigma_rgb in the unit of the image"
                )
            if self.sigma_rgb > 1 and 0 < high <= 1:
                raise ValueError(
                    f"image has values from {low:.3g} to {high:.3g}, but sigma_rgb={self.sigma_rgb:g} is for a larger unit; for images in "
                    f"0..1 it is {self.sigma_rgb / 255:.3g} ({self.sigma_rgb:g} / 255)"
                )
        return image.to(raw.dtype)

    def extra_repr(self) -> str:
        kernel = f"sigma_rgb={self.sigma_rgb:.4g}, sigma_xy={self.sigma_xy:g}, window={self.window}, max_cells={self.max_cells}"
        return f"{super().extra_repr()}, {kernel}"


dense_crf_loss = functional(DenseCRFLoss)
