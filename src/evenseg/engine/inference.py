"""From an image to class probabilities: whole or by overlapping windows, at several scales, mirrored or not.

Shape suffixes: N images or windows, C channels of the image, K classes, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenseg.config import EvaluationSection

# called with the outputs for one window, as the model returned them, and its place: (outputs, top, left, height, width)
OnOutputs = Callable[[Any, int, int, int, int], None]


class Predictor:
    """Turns images into probabilities per class; training, `evaluate` and `predict` all measure through it.

    With windows the image is cut into overlapping ones of equal size, evenly spaced and flush with the edges; their
    probabilities are averaged with weights that fall off from the window's centre (gaussian) or not (uniform). With
    scales and flip, every window is also seen resized and mirrored, and all views count alike.

    Args:
        model: images (N, C, H, W) -> logits, or several with the main ones first.
        settings: the `evaluation` section.
    """

    def __init__(self, model: nn.Module, settings: EvaluationSection) -> None:
        self.model, self.settings = model, settings

    @property
    def plain(self) -> bool:
        """Whether an image is seen once, as a whole."""
        return self.settings.window is None and self.settings.scales == (1.0,) and not self.settings.flip

    def probabilities(self, image_NCHW: Tensor, on_outputs: OnOutputs | None = None) -> Tensor:
        """Returns the probability of every class at every pixel, (N, K, H, W) float32, however the images are seen.

        The largest is the prediction.

        Args:
            image_NCHW: as the pipeline gives them.
            on_outputs: called once for every window, with the outputs of the scale nearest to 1, not mirrored: there a loss is
                measured, which resizes them to the labels.
        """
        size = (image_NCHW.shape[2], image_NCHW.shape[3])
        if self.plain:
            outputs = self._call(image_NCHW)
            if on_outputs is not None:
                on_outputs(outputs, 0, 0, *size)
            return _resized(main_output(outputs).float(), size).softmax(1)
        images = []
        for image_CHW in image_NCHW:

            def rows(top: int, bottom: int, image_CHW: Tensor = image_CHW) -> Tensor:
                return image_CHW[:, top:bottom]

            bands = [band.clone() for _, band in self.bands(rows, *size, on_outputs)]
            images.append(torch.cat(bands, dim=1))
        return torch.stack(images)

    def bands(
        self, rows: Callable[[int, int], Tensor], height: int, width: int, on_outputs: OnOutputs | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yields the probabilities of an image from top to bottom: (first row, (K, rows, W) float32).

        At any time one row of windows is held in memory, so an image may be larger than memory allows. A band is a
        view that the next one overwrites.

        Args:
            rows: (top, bottom) -> these rows of the image, (C, bottom - top, W), on the model's device.
            height: of the image.
            width: of the image.
            on_outputs: as in `probabilities`.
        """
        down, across = self._grid(height, width)
        total: Tensor | None = None
        for number, (top, down_weight) in enumerate(down):
            band_CHW = rows(top, top + len(down_weight))
            down_weight = down_weight.to(band_CHW.device)[:, None]
            for chunk in _chunks(across, self.settings.batch_size):
                lefts = [left for left, _ in chunk]
                views = torch.stack([band_CHW[:, :, left : left + len(weight)] for left, weight in chunk])
                probs_NKHW = self._views(views, top, lefts, on_outputs)
                if total is None:
                    total = probs_NKHW.new_zeros(probs_NKHW.shape[1], len(down_weight), width)
                for (left, weight), probs_KHW in zip(chunk, probs_NKHW):
                    # product and sum in one pass, without a copy of the window
                    total[:, :, left : left + len(weight)].addcmul_(probs_KHW, down_weight * weight.to(total.device))
            assert total is not None
            done = (down[number + 1][0] if number + 1 < len(down) else height) - top
            yield top, total[:, :done]
            for plane_HW in total:
                # class by class: a copy of all would double the memory
                plane_HW[: len(plane_HW) - done] = plane_HW[done:].clone()
                plane_HW[len(plane_HW) - done :] = 0

    def _call(self, image_NCHW: Tensor) -> Any:
        with torch.no_grad():
            return self.model(image_NCHW.contiguous(memory_format=torch.channels_last))

    def _grid(self, height: int, width: int) -> tuple[list[tuple[int, Tensor]], list[tuple[int, Tensor]]]:
        """Returns where windows begin and their weights, down and across.

        All windows are products of a vertical and a horizontal profile, so the sum of their weights over a pixel is a
        product too and the weights can be divided by it beforehand.
        """
        window = self.settings.window or (height, width)
        stride = self.settings.window_stride or window
        down, across = (
            _weighted(_places(length, size, step), min(size, length), length, self.settings.blend)
            for length, size, step in zip((height, width), window, stride)
        )
        return down, across

    def _views(self, image_NCHW: Tensor, top: int, lefts: Sequence[int], on_outputs: OnOutputs | None) -> Tensor:
        """Returns the mean of the probabilities over scales and mirrored views, (N, K, H, W) float32."""
        size = (image_NCHW.shape[2], image_NCHW.shape[3])
        total: Tensor | None = None
        scales = self.settings.scales
        shown = min(range(len(scales)), key=lambda number: abs(scales[number] - 1))
        for number, scale in enumerate(scales):
            scaled = _resized(image_NCHW, (_scaled(size[0], scale), _scaled(size[1], scale)))
            for mirrored in (False, True) if self.settings.flip else (False,):
                view = scaled.flip(-1) if mirrored else scaled
                outputs = self._call(view)
                if on_outputs is not None and number == shown and not mirrored:
                    for place, left in enumerate(lefts):
                        on_outputs(_one_of(outputs, place), top, left, *size)
                logits = main_output(outputs).float()
                probs = _resized(logits.flip(-1) if mirrored else logits, size).softmax(1)
                total = probs if total is None else total.add_(probs)
        assert total is not None
        return total / (len(self.settings.scales) * (2 if self.settings.flip else 1))


def most_probable(probs_KHW: Tensor) -> Tensor:
    """Returns the class of the largest probability at every pixel, the first of equal ones, (H, W) uint8 or int32.

    `argmax` over the first dimension of the planes is five to fifteen times slower on a CPU, as it leaps from plane to plane.
    """
    largest = probs_KHW[0].clone()
    dtype = torch.uint8 if len(probs_KHW) <= 256 else torch.int32
    index_HW = torch.zeros(largest.shape, dtype=dtype, device=largest.device)
    for c, plane_HW in enumerate(probs_KHW[1:], start=1):
        index_HW.masked_fill_(plane_HW > largest, c)
        torch.maximum(largest, plane_HW, out=largest)
    return index_HW


def main_output(outputs: Any) -> Tensor:
    """Returns the main logits of what a model returned: a tensor, a sequence or a mapping with the main ones first."""
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _one_of(outputs: Any, place: int) -> Any:
    """Returns the outputs for one member of a batch, in the same form."""
    if isinstance(outputs, Tensor):
        return outputs[place : place + 1]
    if isinstance(outputs, Mapping):
        return {name: output[place : place + 1] for name, output in outputs.items()}
    return [output[place : place + 1] for output in outputs]


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def _resized(image_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image_NCHW.shape[2:]) == size:
        return image_NCHW
    smaller = size[0] < image_NCHW.shape[2]
    return F.interpolate(image_NCHW, size=size, mode="bilinear", align_corners=False, antialias=smaller)


def _places(length: int, size: int, step: int) -> list[int]:
    """Returns where windows begin: the first at 0, the last flush with the end, evenly, no farther apart than `step`."""
    room = length - size
    if room <= 0:
        return [0]
    steps = math.ceil(room / step)
    return [round(room * number / steps) for number in range(steps + 1)]


def _weighted(places: list[int], size: int, length: int, blend: str) -> list[tuple[int, Tensor]]:
    """Returns each place with the weights (size,) of its window, which sum to 1 over the windows at every pixel."""
    profile = torch.ones(size, dtype=torch.float64)
    if blend == "gaussian":
        # nnU-Net's and MONAI's width: an eighth of the window, so that its edge weighs 1/3000 of its centre
        distance = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        profile = torch.exp(-0.5 * (distance / (size / 8)) ** 2)
    total = torch.zeros(length, dtype=torch.float64)
    for place in places:
        total[place : place + size] += profile
    return [(place, (profile / total[place : place + size]).float()) for place in places]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
