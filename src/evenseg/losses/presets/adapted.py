"""What stands between a loss of ours and the number of another library where no option of the loss says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evenseg.losses.options import number, one_of

_PADDLE_EPS = 1e-9


class Adapted(nn.Module):
    """Calls a loss with the inputs, and returns its value in the form, that another library is used to.

    Made for presets; each option is a convention (or a defect) of somebody, and none is needed for training well.

    Args:
        loss: the loss, or its {"type": ..., **keywords}.
        ignored: "left_out", or "background": an ignored pixel belongs to no class, but what is predicted there counts as a
            false positive (MMSegmentation's Dice).
        channels: "separate", or "together": all channels of a multilabel problem are one set of pixels with one foreground
            (SMP's multilabel Lovász hinge).
        two_channels: how two-channel logits become one: "difference" z1 - z0, or "log_probability"
            log(p1 + eps/(1 - p1 + eps)), which lacks a pair of parentheses: it is about log p1 <= 0, so that no foreground
            pixel ever reaches the margin (PaddleSeg's Lovász hinge).
        binary_smoothing: s turns labels 0 and 1 into s and 1 - s (SMP's SoftBCEWithLogitsLoss).
        power, offset: the value is value^power + offset (SegLossOdyssey returns minus the score, which is the loss - 1).

    Example:
        >>> import torch
        >>> from evenseg.losses.presets.adapted import Adapted
        >>> loss = Adapted({"type": "DiceLoss"}, offset=-1.0)
        >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).item()
        -0.5
    """

    def __init__(
        self,
        loss: nn.Module | Mapping[str, Any],
        *,
        ignored: str = "left_out",
        channels: str = "separate",
        two_channels: str = "difference",
        binary_smoothing: float = 0.0,
        power: float = 1.0,
        offset: float = 0.0,
    ):
        super().__init__()
        if not isinstance(loss, nn.Module):
            from evenseg.losses.build import build_single_loss  # build knows the presets, which use this class

            loss = build_single_loss(loss)
        self.loss = loss
        self.ignored = one_of("ignored", ignored, ("left_out", "background"))
        self.channels = one_of("channels", channels, ("separate", "together"))
        self.two_channels = one_of("two_channels", two_channels, ("difference", "log_probability"))
        self.binary_smoothing = number("binary_smoothing", binary_smoothing, 0, 0.5)
        self.power, self.offset = number("power", power, 0, 20, open_low=True), number("offset", offset)
        self.requires = tuple(getattr(loss, "requires", ()))

    def forward(self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, **context: Any) -> Tensor:
        if self.two_channels == "log_probability" and logits.dim() > 1 and logits.shape[1] == 2:
            p1 = logits.softmax(1)[:, 1:]
            logits = torch.log(p1 + _PADDLE_EPS / (1 - p1 + _PADDLE_EPS))
        if self.ignored == "background" and target.shape != logits.shape:
            target = self._maps(target, logits)
        if self.binary_smoothing:
            target = self._smoothed(target, logits)
        if self.channels == "together":
            # side by side, so that every image keeps its pixels together
            logits, target = logits.flatten(1, 2)[:, None], target.flatten(1, 2)
            pixel_weight = None if pixel_weight is None else pixel_weight.repeat(1, logits.shape[2] // pixel_weight.shape[1], 1)
        value = self.loss(logits, target, *(() if pixel_weight is None else (pixel_weight,)), **context)
        # the power of 0 has no finite slope where power < 1
        value = value if self.power == 1 else value.clamp(min=torch.finfo(value.dtype).tiny) ** self.power
        return value + self.offset

    def _ignore(self) -> int | None:
        return getattr(self.loss, "ignore_index", None)

    def _maps(self, target: Tensor, logits: Tensor) -> Tensor:
        """One 0/1 map per channel, 0 everywhere at ignored pixels."""
        C = logits.shape[1]
        label = target.reshape(logits.shape[0], *logits.shape[2:]).long()
        outside = (label < 0) | (label >= C)
        ignore = self._ignore()
        if ignore is None or bool((outside & (label != ignore)).any()):
            wrong = label[outside if ignore is None else outside & (label != ignore)]
            if wrong.numel():
                raise ValueError(f"target has labels outside the classes 0..{C - 1}: {sorted(set(wrong.tolist()))}")
        ignored = outside if ignore is None else outside | (label == ignore)
        maps = F.one_hot(label.masked_fill(ignored, C), C + 1)[..., :C].movedim(-1, 1)
        return maps.to(logits.dtype)

    def _smoothed(self, target: Tensor, logits: Tensor) -> Tensor:
        """Probabilities s and 1 - s in the shape of the logits, the ignored label where it stood."""
        label = target.reshape(logits.shape)
        s, ignore = self.binary_smoothing, self._ignore()
        soft = s + (1 - 2 * s) * label.to(logits.dtype)
        return soft if ignore is None else torch.where(label == ignore, float(ignore), soft)

    def extra_repr(self) -> str:
        shown = ("ignored", "channels", "two_channels", "binary_smoothing", "power", "offset")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
