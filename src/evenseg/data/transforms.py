"""Transforms of an image and its mask together, on torchvision's v2 functions.

Legend: image (C, H, W), uint8 in 0..255 or, where the file has 16 bits or floats, float32 (of 16 bits in 0..1); after
Normalize float32; mask (H, W) uint8 or int32. Transforms that move pixels (`geometric`) take further maps of the mask's size, like
weights of the pixels, and move them as the mask is. All randomness comes from torch's global generator, which `Pipeline`
seeds per sample and restores.
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

_ATTEMPTS = 10  # at a crop that is not of one class, as in the toolkits that have it

Transform = Callable[..., tuple[Tensor, ...]]


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


def _resize(image: Tensor, maps: Sequence[Tensor], height: int, width: int) -> tuple[Tensor, ...]:
    image = TF.resize(image, [height, width], InterpolationMode.BILINEAR, antialias=True)
    return image, *(TF.resize(map_[None], [height, width], InterpolationMode.NEAREST_EXACT)[0] for map_ in maps)


class RandomScale:
    """Scales by a factor drawn evenly from [minimum, maximum]; image bilinear, mask nearest."""

    geometric = True

    def __init__(self, minimum: float = 0.5, maximum: float = 2.0) -> None:
        if not 0 < minimum <= maximum:
            raise ValueError(f"needs 0 < minimum <= maximum, got {minimum} and {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, image: Tensor, mask: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        factor = _uniform(self.minimum, self.maximum)
        height, width = mask.shape
        return _resize(image, (mask, *maps), max(1, round(height * factor)), max(1, round(width * factor)))


class ResizeStepScaling:
    """Scales by a factor drawn evenly from minimum, minimum + step, ..., maximum; image bilinear, mask nearest."""

    geometric = True

    def __init__(self, minimum: float = 0.5, maximum: float = 2.0, step: float = 0.25) -> None:
        if not 0 < minimum <= maximum or step <= 0:
            raise ValueError(f"needs 0 < minimum <= maximum and step > 0, got {minimum}, {maximum} and {step}")
        steps = round((maximum - minimum) / step)
        if abs(minimum + steps * step - maximum) > 1e-6 * maximum:
            raise ValueError(f"steps of {step} from {minimum} do not meet {maximum}")
        self.factors = [minimum + number * step for number in range(steps + 1)]

    def __call__(self, image: Tensor, mask: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        factor = self.factors[int(torch.randint(len(self.factors), ()))]
        height, width = mask.shape
        return _resize(image, (mask, *maps), max(1, round(height * factor)), max(1, round(width * factor)))


class Resize:
    """Resizes to `size` = (height, width)."""

    geometric = True

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = _checked_size(size)

    def __call__(self, image: Tensor, mask: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        return _resize(image, (mask, *maps), *self.size)


class RandomCrop:
    """Cuts out a window of `size` = (height, width) anywhere; smaller images are padded at the bottom and the right.

    A sampler may aim the window at a class; see `Aim`.

    Args:
        size: (height, width) of the window.
        ignore_index: label of padded pixels.
        padding_index: another label for them, where a loss is to tell them from unlabelled ones (254, say): the trainer
            ignores them and gives them the pixel weight 0.
        fill: value of padded pixels in 0..255, black by default. 127.5 becomes 0 under a mean of 0.5: for a fill that is
            no whole number the image goes on as float32.
        category_max_ratio: windows are drawn again, up to ten times, while one class fills more than this share of their
            labelled pixels; 1 takes the first.
    """

    geometric = True
    takes_aim = True

    def __init__(
        self,
        size: tuple[int, int],
        ignore_index: int = 255,
        fill: float = 0.0,
        category_max_ratio: float = 1.0,
        padding_index: int | None = None,
    ) -> None:
        self.size = _checked_size(size)
        if not 0 <= fill <= 255:
            raise ValueError(f"fill must be in 0..255, got {fill}")
        if not 0 < category_max_ratio <= 1:
            raise ValueError(f"category_max_ratio must be in (0, 1], got {category_max_ratio}")
        self.ignore_index, self.fill, self.category_max_ratio = ignore_index, fill, category_max_ratio
        self.padding_index = ignore_index if padding_index is None else padding_index

    def __call__(self, image: Tensor, mask: Tensor, *maps: Tensor, aim: Aim | None = None) -> tuple[Tensor, ...]:
        height, width = self.size
        bottom, right = max(0, height - mask.shape[0]), max(0, width - mask.shape[1])
        if bottom or right:
            if not float(self.fill).is_integer():
                image = TF.to_dtype(image, torch.float32, scale=True)
            fill = self.fill / 255 if image.is_floating_point() else self.fill
            image = TF.pad(image, [0, 0, right, bottom], fill=fill)
            mask = TF.pad(mask[None], [0, 0, right, bottom], fill=self.padding_index)[0]
            maps = tuple(TF.pad(map_[None], [0, 0, right, bottom], fill=0)[0] for map_ in maps)
        for _ in range(_ATTEMPTS if self.category_max_ratio < 1 else 1):
            top, left = window_corner(mask, self.size, aim)
            window = (slice(top, top + height), slice(left, left + width))
            if self.category_max_ratio == 1 or self._is_mixed(mask[window]):
                break
        return image[:, window[0], window[1]], mask[window], *(map_[window] for map_ in maps)

    def _is_mixed(self, mask: Tensor) -> bool:
        counts = mask[(mask != self.ignore_index) & (mask != self.padding_index)].long().bincount()
        return bool(counts.sum() > 0 and counts.max() <= self.category_max_ratio * counts.sum())


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

    geometric = True

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        for probability in (horizontal, vertical):
            if not 0 <= probability <= 1:
                raise ValueError(f"probabilities must be in 0..1, got {probability}")
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, image: Tensor, mask: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        # both are always drawn, so that one switch does not shift the random numbers behind it
        left_right, top_bottom = torch.rand(2).tolist()
        dims = [dim for dim, drawn in ((-1, left_right < self.horizontal), (-2, top_bottom < self.vertical)) if drawn]
        return image.flip(dims), mask.flip(dims), *(map_.flip(dims) for map_ in maps)


class ColorJitter:
    """Changes brightness, contrast and saturation by factors in 1 ± the given value, and hue by ± `hue` turns."""

    geometric = False

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        self._jitter = v2.ColorJitter(brightness, contrast, saturation, hue)

    def check_channels(self, channels: int) -> None:
        _check_colors(channels)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self._jitter(image), mask


class RandomDistort:
    """Changes brightness, contrast, saturation and hue in a random order, each with a probability of its own.

    Factors are drawn evenly from 1 ± the given value, the turn of the hue from ± `hue` degrees.

    Args:
        brightness, contrast, saturation: largest change of the factor.
        hue: largest turn in degrees. PaddleSeg's `hue_range: 18` counts in 256ths of the circle, so it is 25.3 degrees.
        probability: of each of the four.
    """

    geometric = False

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 18.0,
        probability: float = 0.5,
    ) -> None:
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")
        if not 0 <= hue <= 180:
            raise ValueError(f"hue must be in 0..180 degrees, got {hue}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in 0..1, got {probability}")
        self.ranges, self.hue, self.probability = (brightness, contrast, saturation), hue, probability

    def check_channels(self, channels: int) -> None:
        _check_colors(channels)

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # all are always drawn, so that one switch does not shift the random numbers behind it
        order, drawn, amounts = torch.randperm(4).tolist(), torch.rand(4).tolist(), (2 * torch.rand(4) - 1).tolist()
        adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
        for place in order:
            if drawn[place] >= self.probability:
                continue
            if place == 3:
                image = TF.adjust_hue(image, amounts[3] * self.hue / 360)
            else:
                image = adjust[place](image, 1 + amounts[place] * self.ranges[place])
        return image, mask


class Normalize:
    """(image / 255 - mean) / std per channel; ImageNet's numbers by default. Must be the last transform.

    Images of 16 bits are divided by 65535 instead, images of floats by nothing.

    Args:
        mean, std: one number per channel, or one for all.
    """

    geometric = False

    def __init__(self, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
        if not mean or len(std) not in (1, len(mean)):
            raise ValueError(f"mean and std must have one number per channel, got {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise ValueError(f"std must be positive, got {std}")
        self.mean, self.std = list(mean), list(std)

    def check_channels(self, channels: int) -> None:
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"mean has {len(self.mean)} numbers, but the images have {channels} channel{'s' if channels > 1 else ''}; "
                "give mean and std one number per channel"
            )

    def undo(self, image: Tensor) -> Tensor:
        """Returns images (..., C, H, W) as they were before, in 0..1 where their files hold integers."""
        mean, std = (image.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return image * std + mean

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        image = TF.to_dtype(image, torch.float32, scale=True)
        return TF.normalize(image, *(values * (len(image) // len(values)) for values in (self.mean, self.std))), mask


TRANSFORMS: dict[str, type] = {
    "RandomScale": RandomScale,
    "ResizeStepScaling": ResizeStepScaling,
    "Resize": Resize,
    "RandomCrop": RandomCrop,
    "RandomFlip": RandomFlip,
    "ColorJitter": ColorJitter,
    "RandomDistort": RandomDistort,
    "Normalize": Normalize,
}


class Pipeline:
    """Transforms in order, as a pure function of (image, mask, maps, seed, aim); ends with a float32 image.

    Args:
        transforms: callables (image, mask) -> (image, mask), or (image, mask, *maps) -> the same where `geometric` says so.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def check_channels(self, channels: int) -> None:
        """Raises ValueError, naming the transform, when one cannot take images of so many channels."""
        for transform in self.transforms:
            if check := getattr(transform, "check_channels", None):
                try:
                    check(channels)
                except ValueError as error:
                    raise ValueError(f"{type(transform).__name__}: {error}") from error

    def check_maps(self) -> None:
        """Raises ValueError, naming the transform, when one does not say whether it moves pixels: maps could not follow it."""
        for transform in self.transforms:
            if not isinstance(getattr(transform, "geometric", None), bool):
                raise ValueError(
                    f"{type(transform).__name__} does not say what to do with weights of pixels: set its attribute `geometric` to "
                    "False if it moves no pixels, or to True and let it take and return further maps, (image, mask, *maps)"
                )

    def geometric(self) -> Pipeline:
        """Returns the part that moves pixels, for masks without images."""
        return Pipeline([t for t in self.transforms if getattr(t, "geometric", True)])

    def __call__(
        self, image: Tensor, mask: Tensor, seed: int, aim: Aim | None = None, maps: Sequence[Tensor] = ()
    ) -> tuple[Tensor, ...]:
        # devices=[]: saving the state of a GPU's generator would cost a synchronisation per sample
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for transform in self.transforms:
                # crops say that they can be aimed: users' own ones, too
                aimed = {"aim": aim} if aim is not None and getattr(transform, "takes_aim", False) else {}
                if maps and getattr(transform, "geometric", False):
                    image, mask, *maps = transform(image, mask, *maps, **aimed)
                else:
                    image, mask = transform(image, mask, **aimed)
        if not image.is_floating_point():
            image = TF.to_dtype(image, torch.float32, scale=True)
        return image.contiguous(), mask.contiguous(), *(map_.contiguous() for map_ in maps)


def _check_colors(channels: int) -> None:
    if channels not in (1, 3):
        raise ValueError(f"changes the colours of grey and RGB images; these have {channels} channels")


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width), both at least 1, got {tuple(size)}")
    return height, width
