"""A light U-Net, small enough to learn something on two cores in half a minute.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI
2015, arXiv 1505.04597, figure 1. Different here: few channels, padded convolutions, batch normalisation, and nearest
upsampling in place of transposed convolutions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenseg.models.checks import check_sizes
from evenseg.models.padding import pad_to_multiple


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class LightUNet(nn.Module):
    """A U-Net that keeps full resolution at its first level, for thin structures.

    Args:
        num_classes: channels of the logits.
        widths: channels of each level; every level after the first halves the size.
        in_channels: of the images.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to a multiple of `stride`, and returns
    [logits (N, C, H, W)].
    """

    num_outputs = 1

    def __init__(self, num_classes: int, widths: tuple[int, ...] = (16, 32, 64, 64), in_channels: int = 3) -> None:
        super().__init__()
        check_sizes(num_classes, in_channels)
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be positive numbers of channels, one per level, got {list(widths)}")
        self.num_classes = num_classes
        self.stride = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            _double_convolution(before, width) for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        upwards = tuple(reversed(widths))
        self.decoder = nn.ModuleList(_double_convolution(below + width, width) for below, width in pairwise(upwards))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        features = pad_to_multiple(image, self.stride)
        skipped: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(F.max_pool2d(features, 2) if level else features)
            skipped.append(features)
        for block, beside in zip(self.decoder, reversed(skipped[:-1]), strict=True):
            features = block(torch.cat([F.interpolate(features, scale_factor=2.0), beside], dim=1))
        return [self.head(features)[..., :height, :width]]
