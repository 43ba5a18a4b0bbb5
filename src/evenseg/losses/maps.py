"""What the losses on whole maps share: those that look at neighbours, shapes or images and so are no formulas on sums.

They read the same input as the statistic losses (`evenseg.losses.base`), checked by the same code, but get it as maps of
logits, labels and weights instead of as sums over pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.base import channels, refuse_unknown, result_dtype
from evenseg.losses.options import MODES, class_weights, flag, label, one_of
from evenseg.statistics.labels import (
    NO_IGNORE,
    canonical_labels,
    flatten_logits,
    flatten_target,
    flatten_weight,
    soft_targets,
)
from evenseg.statistics.sync import sums_over_ranks


class MapOptions(TypedDict, total=False):
    """Keywords of every loss on maps; see :class:`MapLoss`."""

    mode: str
    ignore_index: int | None
    weight: Sequence[float] | Tensor | None
    sync: bool


@dataclass(frozen=True)
class Maps:
    """One batch, checked and in one form, whatever form it came in.

    Attributes:
        logits: (N, C, *spatial) in float32 or float64, with a graph; 0 under ignored pixels (a logit there has no gradient).
        raw_logits: the same, untouched under ignored pixels.
        truth: (N, C, *spatial) one-hot labels, or probabilities, in the dtype of the logits; 0 where ignored. C = 1 in binary mode.
        labels: (N, *spatial) int64 class numbers, -1 where ignored; None for multilabel maps and soft labels.
        valid: (N, 1, *spatial) bool, or (N, C, *spatial) for multilabel maps.
        weight: (N, 1, *spatial) (or as `valid`) in the dtype of the logits: the pixel weight, 1 if none was given, 0 where ignored.
        softmax: whether the channels exclude each other.
    """

    logits: Tensor
    raw_logits: Tensor
    truth: Tensor
    labels: Tensor | None
    valid: Tensor
    weight: Tensor
    softmax: bool

    def log_probs(self) -> Tensor:
        """(N, C, *spatial) log-probabilities of the channels."""
        return F.log_softmax(self.logits, 1) if self.softmax else F.logsigmoid(self.logits)

    def probs(self) -> Tensor:
        """(N, C, *spatial) probabilities of the channels."""
        return self.logits.softmax(1) if self.softmax else self.logits.sigmoid()

    def zero(self) -> Tensor:
        """0 with a graph and zero gradient: what a batch without a valid pixel costs."""
        return (self.logits * 0).sum()


def read_maps(
    logits: Tensor, target: Tensor, mode: str, ignore_index: int | None, pixel_weight: Tensor | None = None, *, soft_labels: bool = False
) -> Maps:
    """The batch as :class:`Maps`.

    Args:
        logits: (N, C, *spatial), in binary mode also (N, *spatial) or two channels, which mean z1 - z0.
        target: labels (N, *spatial), maps (N, C, *spatial) in multilabel mode, or probabilities if `soft_labels`.
        mode: as in :class:`MapLoss`.
        ignore_index: likewise.
        pixel_weight: (N, *spatial) non-negative weights.
        soft_labels: whether probabilities are allowed.

    Raises:
        ValueError: for shapes, types and labels that do not fit, with what was received and what is allowed.
    """
    raw = channels(logits, target, mode)
    flat_logits = flatten_logits(raw)
    N, C, P = flat_logits.shape
    softmax = mode == "multiclass"
    flat = flatten_target(target, raw, "softmax" if softmax else "sigmoid")
    ignore = NO_IGNORE if ignore_index is None else int(ignore_index)
    weight_NP = flatten_weight(pixel_weight, raw)
    if raw.dtype in (torch.float16, torch.bfloat16):
        raw = raw.float()
    spatial = raw.shape[2:] or (1,)
    labels = None
    if flat.is_floating_point():
        if not soft_labels:
            raise ValueError("this loss is not defined for soft labels; give it integer labels")
        probabilities = soft_targets(flat, ignore)
        valid = ~probabilities.isnan().any(1, keepdim=True)
        truth = torch.where(valid, probabilities, 0.0)
    else:
        number = canonical_labels(flat, 2 if flat.dim() == 3 or C == 1 else C, ignore)
        if number.dim() == 3 and C > 1:
            valid, truth = number >= 0, number == 1
        else:
            number = number.reshape(N, P)
            labels = number.reshape(N, *spatial)
            valid = (number >= 0)[:, None]
            classes = torch.arange(C, device=raw.device)[None, :, None] if C > 1 else 1
            truth = number[:, None] == classes
    weight = valid.to(raw.dtype)
    if weight_NP is not None:
        weight = weight * weight_NP.to(raw.dtype)[:, None]
        # a pixel of weight 0 is a pixel that is ignored
        valid = valid & (weight > 0)
        truth = torch.where(valid, truth.to(raw.dtype), 0.0)
        if labels is not None:
            labels = torch.where(valid[:, 0].reshape(labels.shape), labels, -1)

    def shaped(x: Tensor) -> Tensor:
        return x.reshape(N, -1, *spatial)

    raw = raw.reshape(N, C, *spatial)
    valid = shaped(valid)
    return Maps(
        logits=torch.where(valid, raw, 0.0), raw_logits=raw, truth=shaped(truth.to(raw.dtype)), labels=labels, valid=valid,
        weight=shaped(weight), softmax=softmax,
    )  # fmt: skip


def read_region(
    logits: Tensor, target: Tensor, mode: str, ignore_index: int | None, pixel_weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The batch as a loss needs it that uses no labels: they are checked and left alone.

    Returns:
        (N, C, *spatial) logits in float32 or float64, untouched under ignored pixels; (N, 1, *spatial) pixel weights, or None.
    """
    raw = channels(logits, target, mode)
    C = flatten_logits(raw).shape[1]
    flat = flatten_target(target, raw, "softmax" if mode == "multiclass" else "sigmoid")
    ignore = NO_IGNORE if ignore_index is None else int(ignore_index)
    if flat.is_floating_point():
        soft_targets(flat, ignore)
    else:
        canonical_labels(flat, 2 if flat.dim() == 3 or C == 1 else C, ignore)
    weight_NP = flatten_weight(pixel_weight, raw)
    if raw.dtype in (torch.float16, torch.bfloat16):
        raw = raw.float()
    if raw.dim() == 2:
        raw = raw[:, :, None]
    weight = None if weight_NP is None else weight_NP.to(raw.dtype).reshape(len(raw), 1, *raw.shape[2:])
    return raw, weight


def context_for(loss: nn.Module, context: Mapping[str, Any]) -> dict[str, Any]:
    """What a loss needs beside logits and target, by the names in its `requires`; ValueError if something is missing."""
    needed = getattr(loss, "requires", ())
    missing = [name for name in needed if context.get(name) is None]
    if missing:
        words = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(f"{type(loss).__name__} needs {' and '.join(missing)} beside logits and target: loss(logits, target, {words})")
    return {name: context[name] for name in needed}


class MapLoss(nn.Module):
    """Base of the losses on whole maps.

    Keyword arguments common to all of them:
        mode: "multiclass" (softmax), "binary" (one logit, or two channels meaning z1 - z0), "multilabel" (one sigmoid per
            channel, targets (N, C, *spatial)).
        ignore_index: label that counts nowhere, or None.
        weight: non-negative weight per class.
        sync: take the sums and counts that the loss divides by each other over the global batch under torch.distributed, so that
            value and gradient are those of the joined batch. Without it a rank has the loss of its own part, and data parallelism
            the mean of these, which is another number wherever the ranks have different counts.

    Call: `loss(logits, target, pixel_weight=None, **context)` -> scalar, where `context` holds what `requires` names (image
    (N, B, *spatial), features ...). A batch without a valid pixel costs 0 with zero gradient.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()  # keywords of a base class that this one sets itself
    modes: ClassVar[tuple[str, ...]] = MODES
    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)  # numbers of spatial dimensions that the loss is defined for
    default_mode: ClassVar[str] = "multiclass"
    soft_labels: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = True  # False: labels are only checked, and every pixel of positive weight counts, ignored ones too
    files: ClassVar[tuple[str, ...]] = ()  # keywords that name files, which a run keeps copies of
    common_options: ClassVar[frozenset[str]] = frozenset(MapOptions.__annotations__)
    weight: Tensor | None

    def __init__(self, **common: Unpack[MapOptions]):
        super().__init__()
        refuse_unknown(type(self), common)
        self.mode = one_of("mode", common.get("mode", self.default_mode), self.modes)
        self.ignore_index = label("ignore_index", common.get("ignore_index", 255))
        self.register_buffer("weight", class_weights("weight", common.get("weight")), persistent=False)
        self.sync = flag("sync", common.get("sync", False))

    def over_ranks(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Sums over the batch as those of the global batch with `sync`; every rank must come here, whatever its pixels."""
        return sums_over_ranks(*sums) if self.sync else sums

    def mean(self, total: Tensor, by: Tensor, *, added: float = 0.0) -> Tensor:
        """The quotient total / (by + added) of sums over the batch, with `sync` the global one; 0 where nothing is to divide by."""
        total, by = self.over_ranks(total, by)
        by = by + added
        return total / torch.where(by > 0, by, 1)

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        """The loss of a checked batch; `maps.zero()` if nothing in it is valid."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, **context: Any) -> Tensor:
        for name in context:
            if name not in self.requires:
                raise ValueError(f"{type(self).__name__} takes no {name!r}" + (f"; it needs {self.requires}" if self.requires else ""))
        extra = context_for(self, context)
        if not isinstance(logits, Tensor):
            raise ValueError(f"logits must be a tensor, got {type(logits).__name__}")
        with torch.autocast(logits.device.type, enabled=False):
            return self.evaluate(logits, target, pixel_weight, extra).to(result_dtype(logits))

    def evaluate(self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None, context: Mapping[str, Any]) -> Tensor:
        """The loss of a batch whose context is complete."""
        maps = read_maps(logits, target, self.mode, self.ignore_index, pixel_weight, soft_labels=self.soft_labels)
        self.check_classes(maps)
        if maps.truth.dim() - 2 not in self.dimensions:
            allowed = " or ".join(str(d) for d in self.dimensions)
            raise ValueError(f"{type(self).__name__} is for {allowed} spatial dimensions; the logits have shape {tuple(logits.shape)}")
        return self.from_maps(maps, **context)

    def weight_length(self, num_classes: int) -> int:
        """How many class weights there must be."""
        return num_classes

    def check_num_classes(self, num_classes: int) -> None:
        """ValueError if the loss is made for another number of classes; begins with the keyword that says so."""

    def check_classes(self, maps: Maps) -> None:
        """ValueError if weight does not fit the number of classes of the logits."""
        expected = self.weight_length(maps.truth.shape[1])
        if self.weight is not None and self.weight.numel() != expected:
            raise ValueError(f"weight has {self.weight.numel()} entries, the logits need {expected} (mode={self.mode!r})")

    def class_weight(self, maps: Maps) -> Tensor:
        """(C,) class weights in the dtype of the logits, ones if none were given."""
        if self.weight is None:
            return maps.truth.new_ones(maps.truth.shape[1])
        return self.weight.to(maps.truth.dtype)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, ignore_index={self.ignore_index}"
