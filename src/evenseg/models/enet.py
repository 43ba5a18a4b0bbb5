"""ENet, a network of 0.36 million parameters for segmentation in real time.

Source: A. Paszke, A. Chaurasia, S. Kim, E. Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time
Semantic Segmentation", arXiv 1606.02147 (2016), section 3 and table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenseg.models.checks import check_sizes
from evenseg.models.padding import pad_to_multiple


def _activation(channels: int, relu: bool) -> nn.Module:
    # one slope per feature map, as in section 3 of the paper
    return nn.ReLU(inplace=True) if relu else nn.PReLU(channels)


def _unit(convolution: nn.Module, channels: int, relu: bool) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(channels), _activation(channels, relu)]


class InitialBlock(nn.Module):
    """Halves the size: 13 filters of a strided convolution beside the 3 max-pooled colours, 16 channels.

    Images of one or two channels get more filters; of more than three channels, three mixtures are pooled.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 16) -> None:
        super().__init__()
        pooled = min(in_channels, 3)
        self.convolution = nn.Conv2d(in_channels, out_channels - pooled, 3, stride=2, padding=1, bias=False)
        self.mix = nn.Identity() if pooled == in_channels else nn.Conv2d(in_channels, pooled, 1, bias=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.finish = nn.Sequential(nn.BatchNorm2d(out_channels), nn.PReLU(out_channels))

    def forward(self, image: Tensor) -> Tensor:
        return self.finish(torch.cat([self.convolution(image), self.pool(self.mix(image))], dim=1))


class Bottleneck(nn.Module):
    """1x1 down to a quarter of the channels, one convolution, 1x1 up, added to the input.

    Args:
        channels: of the input and the output.
        dropout: probability of dropping a whole channel of the branch.
        dilation: of the 3x3 convolution in the middle.
        asymmetric: 5x1 followed by 1x5 in the middle instead of 3x3.
        relu: ReLU instead of PReLU (the decoder).
    """

    def __init__(
        self, channels: int, dropout: float, *, dilation: int = 1, asymmetric: bool = False, relu: bool = False
    ) -> None:
        super().__init__()
        inner = channels // 4
        if asymmetric:
            middle = [
                *_unit(nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False), inner, relu),
                *_unit(nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False), inner, relu),
            ]
        else:
            kernel = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
            middle = _unit(kernel, inner, relu)
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(channels, inner, 1, bias=False), inner, relu),
            *middle,
            *_unit(nn.Conv2d(inner, channels, 1, bias=False), channels, relu),
            nn.Dropout2d(dropout),
        )
        self.finish = _activation(channels, relu)

    def forward(self, features: Tensor) -> Tensor:
        return self.finish(features + self.branch(features))


class DownBottleneck(nn.Module):
    """Halves the size; the main path is max-pooled (indices kept for the decoder) and filled up with zero channels."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.extra = out_channels - in_channels
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(in_channels, inner, 2, stride=2, bias=False), inner, relu=False),
            *_unit(nn.Conv2d(inner, inner, 3, padding=1, bias=False), inner, relu=False),
            *_unit(nn.Conv2d(inner, out_channels, 1, bias=False), out_channels, relu=False),
            nn.Dropout2d(dropout),
        )
        self.finish = nn.PReLU(out_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        main, indices = self.pool(features)
        main = F.pad(main, (0, 0, 0, 0, 0, self.extra))
        return self.finish(main + self.branch(features)), indices


class UpBottleneck(nn.Module):
    """Doubles the size; the main path puts values back to where the encoder's maxima were."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inner = in_channels // 4
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.branch = nn.Sequential(
            *_unit(nn.Conv2d(in_channels, inner, 1, bias=False), inner, relu=True),
            *_unit(nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False), inner, relu=True),
            *_unit(nn.Conv2d(inner, out_channels, 1, bias=False), out_channels, relu=True),
            nn.Dropout2d(dropout),
        )
        self.finish = nn.ReLU(inplace=True)

    def forward(self, features: Tensor, indices: Tensor) -> Tensor:
        main = _unpool(self.main(features), indices)
        return self.finish(main + self.branch(features))


def _unpool(features: Tensor, indices: Tensor) -> Tensor:
    """Undoes a 2x2 max-pooling: every value goes back to where it was the largest, zeros elsewhere."""
    if not torch.jit.is_tracing():
        return F.max_unpool2d(features, indices, (2, 2))
    # the same, since that function checks its size in a way that a trace cannot follow
    n, channels, height, width = features.shape
    flat = features.new_zeros(n, channels, 4 * height * width)
    flat = flat.scatter(2, indices.flatten(2), features.flatten(2))
    return flat.view(n, channels, 2 * height, 2 * width)


def _context_stage(channels: int, dropout: float) -> nn.Sequential:
    """The eight bottlenecks of stages 2 and 3: plain, dilated 2, asymmetric, dilated 4, and again with 8 and 16."""
    return nn.Sequential(
        Bottleneck(channels, dropout),
        Bottleneck(channels, dropout, dilation=2),
        Bottleneck(channels, dropout, asymmetric=True),
        Bottleneck(channels, dropout, dilation=4),
        Bottleneck(channels, dropout),
        Bottleneck(channels, dropout, dilation=8),
        Bottleneck(channels, dropout, asymmetric=True),
        Bottleneck(channels, dropout, dilation=16),
    )


class ENet(nn.Module):
    """ENet (Paszke et al. 2016).

    Args:
        num_classes: channels of the logits.
        dropout: of the channels of every branch behind stage 1, which itself uses a tenth of it.
        in_channels: of the images.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to a multiple of 8, and returns
    [logits (N, C, H, W)].
    """

    num_outputs = 1
    stride = 8

    def __init__(self, num_classes: int, dropout: float = 0.1, in_channels: int = 3) -> None:
        super().__init__()
        check_sizes(num_classes, in_channels, dropout)
        self.num_classes = num_classes
        self.initial = InitialBlock(in_channels)
        self.down1 = DownBottleneck(16, 64, dropout / 10)
        self.stage1 = nn.Sequential(*[Bottleneck(64, dropout / 10) for _ in range(4)])
        self.down2 = DownBottleneck(64, 128, dropout)
        self.stage2 = _context_stage(128, dropout)
        self.stage3 = _context_stage(128, dropout)
        self.up4 = UpBottleneck(128, 64, dropout)
        self.stage4 = nn.Sequential(*[Bottleneck(64, dropout, relu=True) for _ in range(2)])
        self.up5 = UpBottleneck(64, 16, dropout)
        self.stage5 = Bottleneck(16, dropout, relu=True)
        self.head = nn.ConvTranspose2d(16, num_classes, 3, stride=2, padding=1, output_padding=1, bias=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        features = self.initial(pad_to_multiple(image, self.stride))
        features, indices1 = self.down1(features)
        features, indices2 = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        features = self.stage4(self.up4(features, indices2))
        features = self.stage5(self.up5(features, indices1))
        return [self.head(features)[..., :height, :width]]
