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
from evenseg.models.padding import pad_to_multiple, resize


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
        aux: a second output, from the decoder one level below the last, for a loss of its own (usually `coef: [1, 0.4]`): the
            deeper levels then get a gradient that has not passed the last one. Predictions are the main output's.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to a multiple of `stride`, and returns
    [logits (N, C, H, W)], with `aux` [logits, auxiliary logits] of the same size.

    Source of the auxiliary output: C.-Y. Lee et al., "Deeply-Supervised Nets", AISTATS 2015.
    """

    def __init__(
        self, num_classes: int, widths: tuple[int, ...] = (16, 32, 64, 64), in_channels: int = 3, aux: bool = False
    ) -> None:
        super().__init__()
        check_sizes(num_classes, in_channels)
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be positive numbers of channels, one per level, got {list(widths)}")
        if aux and len(widths) < 2:
            raise ValueError(f"aux needs a level below the first, got widths {list(widths)}")
        self.num_classes = num_classes
        self.num_outputs = 2 if aux else 1
        self.stride = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            _double_convolution(before, width) for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        upwards = tuple(reversed(widths))
        self.decoder = nn.ModuleList(_double_convolution(below + width, width) for below, width in pairwise(upwards))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.aux_head = nn.Conv2d(widths[1], num_classes, 1) if aux else None

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        features = pad_to_multiple(image, self.stride)
        skipped: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(F.max_pool2d(features, 2) if level else features)
            skipped.append(features)
        below = features
        for block, beside in zip(self.decoder, reversed(skipped[:-1]), strict=True):
            below = features
            features = block(torch.cat([F.interpolate(features, scale_factor=2.0), beside], dim=1))
        outputs = [self.head(features)]
        if self.aux_head is not None:
            outputs.append(resize(self.aux_head(below), features))
        return [output[..., :height, :width] for output in outputs]
