"""Seeded logits and labels that look like those of a segmentation network before and after training."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
LOGITS = ("untrained", "trained")
IGNORED_ROWS = 4


@dataclasses.dataclass(frozen=True)
class Batch:
    """Logits (N, C, H, W) that require a gradient and labels (N, H, W), int64, 255 in the first rows."""

    logits: Tensor
    target: Tensor

    @property
    def channels(self) -> int:
        return self.logits.shape[1]

    @property
    def binary(self) -> bool:
        return self.channels == 1

    def without_ignored(self) -> Tensor:
        """The labels with class 0 in place of the ignore index, for losses that know none."""
        return torch.where(self.target == IGNORE, 0, self.target)

    def as_float(self) -> Tensor:
        """(N, 1, H, W) float foreground map, ignored pixels counting as background."""
        return (self.target == 1).float().unsqueeze(1)

    def image(self) -> Tensor:
        """A random image (N, 3, H, W) in 0..1 of 8 x 8 blocks with some noise, for losses that look at it."""
        N, _, H, W = self.logits.shape
        generator = torch.Generator().manual_seed(1)
        blocks = F.interpolate(torch.rand(N, 3, -(-H // 8), -(-W // 8), generator=generator), scale_factor=8.0)[..., :H, :W]
        return 0.9 * blocks + 0.1 * torch.rand(N, 3, H, W, generator=generator)

    def features(self) -> Tensor:
        """Random features (N, 64, H/4, W/4)."""
        N, _, H, W = self.logits.shape
        return torch.randn(N, 64, max(1, H // 4), max(1, W // 4), generator=torch.Generator().manual_seed(2))


def make_batch(
    shape: tuple[int, ...], logits: str, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Batch:
    """Smooth regions (one random number per 16 x 16 pixels, rarer classes lower), their argmax as labels, noise on top.

    Untrained-like: 2 x the smooth map + noise; trained-like: 8 x + noise, so most probabilities are near 0 or 1.

    Args:
        shape: (N, C, H, W); one channel means a binary task.
        logits: "untrained" or "trained".
        seed: of the random numbers, which are made on the CPU whatever the device.
        device: where the batch goes.
        dtype: of the logits.

    Raises:
        ValueError: unknown kind of logits.
    """
    if logits not in LOGITS:
        raise ValueError(f"logits must be one of {', '.join(LOGITS)}, got {logits!r}")
    N, C, H, W = shape
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(N, C, max(1, H // 16), max(1, W // 16), generator=generator)
    base -= torch.linspace(0, 3, C).view(1, C, 1, 1)
    up = F.interpolate(base, size=(H, W), mode="bilinear")
    target = up.argmax(1) if C > 1 else (up[:, 0] > 0.5).long()
    target[:, :IGNORED_ROWS] = IGNORE
    z = up.mul_(2 if logits == "untrained" else 8).add_(torch.randn(up.shape, generator=generator))
    return Batch(z.to(device, dtype).requires_grad_(), target.to(device))
