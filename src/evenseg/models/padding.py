"""Making any image size fit a network that halves it several times, and its logits the image."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pads (N, C, H, W) with zeros at the bottom and the right until H and W are multiples of `multiple`.

    Zero is the mean colour after normalisation. The caller cuts the logits back to H and W.
    """
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image


def resize(features: Tensor, like: Tensor, *, align_corners: bool = False) -> Tensor:
    """Resizes (N, C, h, w) to the height and width of another tensor (bilinear), unless it has them already."""
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)
