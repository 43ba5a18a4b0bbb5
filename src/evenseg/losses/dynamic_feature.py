"""Dynamic feature regularised loss: the dense-CRF energy with the network's own features in the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from evenseg.losses.dense_crf import DenseCRFLoss
from evenseg.losses.functional_form import functional
from evenseg.losses.options import flag, number


class DynamicFeatureLoss(DenseCRFLoss):
    """Dense-CRF loss whose kernel also compares deep features, renewed in every step.

    L = mean over images of 1 - sum_k S_k^T K S_k / (R^T K R) as in :class:`DenseCRFLoss`, with K_ij = exp(-|x_i - x_j|² /
    (2 sigma_xy²) - |I_i - I_j|² / (2 sigma_rgb²) - |F_i - F_j|² / (2 sigma_features²)), F the features divided by their length
    (if `normalize_features`) and without gradient. Pixels are alike only as far as the network finds them alike.
    Unit features at right angles multiply K by exp(-1 / sigma_features²), 0.018 by default.

    Args:
        sigma_features: width of the kernel in the features.
        normalize_features: divide features by their length, pixel by pixel.
        **options: of :class:`DenseCRFLoss`.

    Context: `image` as in :class:`DenseCRFLoss`; `features` (N, D, *size) of any size, which are resized to the cells. The
    trainer passes the input of the network's last layer, see docs/scribbles.md.

    The paper publishes no code: the product of the kernels is its plainest reading, and its loss on the consistency of the features is not
    part of this one.

    Range: [0, 1]; without `normalized` (-inf, 0].

    Source: Zhang, Xiao, Zhao, Dynamic feature regularized loss for weakly supervised semantic segmentation, 2021 (arXiv 2108.01296).

    Example:
        >>> import torch
        >>> from evenseg.losses import DynamicFeatureLoss
        >>> logits, image, features = torch.zeros(1, 2, 8, 8), torch.rand(1, 3, 8, 8), torch.randn(1, 16, 4, 4)
        >>> target = torch.full((1, 8, 8), 255)
        >>> round(DynamicFeatureLoss()(logits, target, image=image, features=features).item(), 4)
        0.5
    """

    requires: ClassVar[tuple[str, ...]] = ("image", "features")

    def __init__(self, *, sigma_features: float = 0.5, normalize_features: bool = True, **options: Any):
        super().__init__(**options)
        self.sigma_features = number("sigma_features", sigma_features, 0, open_low=True)
        self.normalize_features = flag("normalize_features", normalize_features)

    def guide(self, colours: Tensor, context: Mapping[str, Any]) -> Tensor:
        features = context["features"]
        if not isinstance(features, Tensor) or features.dim() != colours.dim() or len(features) != len(colours):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"features must have shape ({len(colours)}, D, *size) with {colours.dim() - 2} sizes, got {got}")
        if not features.is_floating_point():
            raise ValueError(f"features must be floats, got {features.dtype}")
        on_cells = resize_features(features.detach().to(colours.dtype), colours.shape[2:])
        if self.normalize_features:
            on_cells = F.normalize(on_cells, dim=1)
        return torch.cat([super().guide(colours, context), on_cells / self.sigma_features], 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sigma_features={self.sigma_features:g}"


def resize_features(features: Tensor, grid: torch.Size) -> Tensor:
    """Features on a grid: means where they are finer, interpolated (linearly) where they are coarser."""
    if features.shape[2:] == grid:
        return features
    if all(length >= wanted for length, wanted in zip(features.shape[2:], grid)):
        return F.interpolate(features, size=grid, mode="area")
    return F.interpolate(features, size=grid, mode={1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)], align_corners=False)


dynamic_feature_loss = functional(DynamicFeatureLoss)
