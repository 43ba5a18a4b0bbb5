"""A batch made up to compare losses on: uneven classes, ignored pixels, predictions that are half right."""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = (48, 64)
IGNORE = 255


def example_batch(
    classes: int, *, images: int = 2, ignored: float = 0.05, absent: bool = False, maps: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits and labels of a made-up batch; the same arguments give the same numbers.

    Every class after the first covers half as much as the one before it, so the last ones are rare. The last class is missing
    from the last image, as happens to rare classes.

    Args:
        classes: at least 2.
        images: at least 1.
        ignored: share of the pixels labelled 255, in [0, 1): whole columns, so that an image may be ignored wholly.
        absent: leave the last class out of all labels; it is still predicted.
        maps: one 0/1 map per class, overlapping, instead of labels.
        seed: of the pseudo-random numbers.

    Returns:
        Logits (N, C, 48, 64) in float64; labels (N, 48, 64) or maps (N, C, 48, 64), int64.

    Raises:
        ValueError: arguments out of range.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    if not 0 <= ignored < 1:
        raise ValueError(f"ignored must lie in [0, 1), got {ignored:g}")
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    target = torch.zeros(images, *SIZE, dtype=torch.long)
    for n in range(images):
        for c in range(1, classes):
            side = max(3, round(min(SIZE) / 2 ** (c / 2) * 0.8))
            top = int(torch.randint(0, max(1, height - side), (), generator=generator))
            left = int(torch.randint(0, max(1, width - side), (), generator=generator))
            if not (c == classes - 1 and (absent or (n == images - 1 and images > 1 and classes > 2))):
                target[n, top : top + side, left : left + side] = c
    noise = torch.randn(images, classes, *SIZE, dtype=torch.float64, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2, count_include_pad=False) * 4
    hit = torch.nn.functional.one_hot(target, classes).movedim(-1, 1).double()
    logits = 1.5 * hit + smooth + 0.5 * noise
    # the first columns of the first image, then of the next
    out = torch.arange(images * width).reshape(images, width) < round(ignored * images * width)
    if maps:
        target = hit.long() | (torch.rand(hit.shape, generator=generator) < 0.05).long()
        if absent:
            target[:, -1] = 0
        return logits, torch.where(out[:, None, None, :], IGNORE, target)
    return logits, torch.where(out[:, None, :], IGNORE, target)
