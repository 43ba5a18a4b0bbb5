"""Transforms of an image and its mask together, on torchvision's v2 functions.

Legend: image (3, H, W) uint8, after Normalize float32; mask (H, W) uint8. All randomness comes from torch's global
generator, which `Pipeline` seeds per sample and restores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import evenseg._torchvision  # noqa: F401  (first: lets torchvision import beside a CPU torch)

from torchvision.transforms import InterpolationMode, v2  # isort: skip
from torchvision.transforms.v2 import functional as TF  # isort: skip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Transform = Callable[..., tuple[Tensor, Tensor]]


class Aim(NamedTuple):
    """What a crop must hold.

    Attributes:
        label: a pixel of this class, where the mask has one.
        centered: whether that pixel lies in the middle (as far as the border allows) or anywhere in the window.
    """

    label: int
    centered: bool = False


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _resize(image: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    image = TF.resize(image, [height, width], InterpolationMode.BILINEAR, antialias=True)
    mask = TF.resize(mask[None], [height, width], InterpolationMode.NEAREST_EXACT)[0]
    return image, mask


class RandomScale:
    """Scales by a factor drawn evenly from [minimum, maximum]; image bilinear, mask nearest."""

    def __init__(self, minimum: float = 0.5, maximum: float = 2.0) -> None:
        if not 0 < minimum <= maximum:
            raise ValueError(f"needs 0 < minimum <= maximum, got {minimum} and {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        factor = _uniform(self.minimum, self.maximum)
        height, width = mask.shape
        return _resize(image, mask, max(1, round(height * factor)), max(1, round(width * factor)))


class Resize:
    """Resizes to `size` = (height, width)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _checked_size(size)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return _resize(image, mask, *self.size)


class RandomCrop:
    """Cuts out a window of `size` = (height, width) anywhere; smaller images are padded (black, mask ignored).

    A sampler may aim the window at a class; see `Aim`.
    """

    takes_aim = True

    def __init__(self, size: tuple[int, int], ignore_index: int = 255) -> None:
        self.size = _checked_size(size)
        self.ignore_index = ignore_index

    def __call__(self, image: Tensor, mask: Tensor, aim: Aim | None = None) -> tuple[Tensor, Tensor]:
        height, width = self.size
        bottom, right = max(0, height - mask.shape[0]), max(0, width - mask.shape[1])
        if bottom or right:
            image = TF.pad(image, [0, 0, right, bottom], fill=0)
            mask = TF.pad(mask[None], [0, 0, right, bottom], fill=self.ignore_index)[0]
        top, left = window_corner(mask, self.size, aim)
        window = (slice(top, top + height), slice(left, left + width))
        return image[:, window[0], window[1]], mask[window]


def window_corner(mask: Tensor, size: tuple[int, int], aim: Aim | None = None) -> tuple[int, int]:
    """Returns top and left of a random window in a mask at least as large; aimed at a class where `aim` says so.

    The pixel to aim at is drawn evenly among the class's; a mask without the class is cut anywhere.
    """
    free = mask.shape[0] - size[0], mask.shape[1] - size[1]
    pixels = None if aim is None else (mask == aim.label).nonzero()
    if aim is None or pixels is None or not len(pixels):
        return int(torch.randint(free[0] + 1, ())), int(torch.randint(free[1] + 1, ()))
    corner = []
    for position, length, most in zip(pixels[int(torch.randint(len(pixels), ()))].tolist(), size, free, strict=True):
        if aim.centered:
            corner.append(min(max(position - length // 2, 0), most))
        else:
            low, high = max(position - length + 1, 0), min(position, most)
            corner.append(low + int(torch.randint(high - low + 1, ())))
    return corner[0], corner[1]


class RandomFlip:
    """Mirrors left-right and top-bottom, each with its own probability."""

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        for probability in (horizontal, vertical):
            if not 0 <= probability <= 1:
                raise ValueError(f"probabilities must be in 0..1, got {probability}")
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # both are always drawn, so that one switch does not shift the random numbers behind it
        left_right, top_bottom = torch.rand(2).tolist()
        dims = [dim for dim, drawn in ((-1, left_right < self.horizontal), (-2, top_bottom < self.vertical)) if drawn]
        return image.flip(dims), mask.flip(dims)


class ColorJitter:
    """Changes brightness, contrast and saturation by factors in 1 ± the given value, and hue by ± `hue` turns."""

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        self._jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self._jitter(image), mask


class Normalize:
    """(image / 255 - mean) / std per colour channel; ImageNet's numbers by default. Must be the last transform."""

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        if min(std) <= 0:
            raise ValueError(f"std must be positive, got {std}")
        self.mean, self.std = list(mean), list(std)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return TF.normalize(TF.to_dtype(image, torch.float32, scale=True), self.mean, self.std), mask


TRANSFORMS: dict[str, type] = {
    "RandomScale": RandomScale,
    "Resize": Resize,
    "RandomCrop": RandomCrop,
    "RandomFlip": RandomFlip,
    "ColorJitter": ColorJitter,
    "Normalize": Normalize,
}


class Pipeline:
    """Transforms in order, as a pure function of (image, mask, seed, aim); ends with a float32 image.

    Args:
        transforms: callables (image, mask) -> (image, mask).
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(self, image: Tensor, mask: Tensor, seed: int, aim: Aim | None = None) -> tuple[Tensor, Tensor]:
        # devices=[]: saving the state of a GPU's generator would cost a synchronisation per sample
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for transform in self.transforms:
                # crops say that they can be aimed: users' own ones, too
                aimed = {"aim": aim} if aim is not None and getattr(transform, "takes_aim", False) else {}
                image, mask = transform(image, mask, **aimed)
        if not image.is_floating_point():
            image = TF.to_dtype(image, torch.float32, scale=True)
        return image.contiguous(), mask.contiguous()


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width), both at least 1, got {tuple(size)}")
    return height, width
