"""What all statistic losses share: keywords, the pass over the pixels, and the three ways from sums to a scalar.

A loss states which statistics it needs (`members`) and how to turn them into a number. Because these are separate,
MixedLoss can run one pass for many losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from evenseg.losses.options import MODES, CommonOptions, class_selection, class_weights, flag, label, nearest, number, one_of
from evenseg.statistics import DEFAULT_BINS, Members, PartialLabels, SegmentStatistics, StatisticsMemory, segment_statistics
from evenseg.statistics.sync import sum_tensor_over_ranks
from evenseg.statistics.types import ENGINES, require

REDUCTIONS = ("mean", "sum", "none")

# which classes were annotated in which image; None for all in all
Annotated: TypeAlias = PartialLabels | Tensor | Sequence[Sequence[int]] | None


def keywords(loss: type[nn.Module]) -> set[str]:
    """Every keyword that a loss class takes, those of its bases included."""
    names = set(getattr(loss, "common_options", ()))
    for cls in loss.__mro__:
        if "__init__" in cls.__dict__ and issubclass(cls, nn.Module) and cls is not nn.Module:
            parameters = inspect.signature(cls.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return names - set(getattr(loss, "fixed", ()))


def required_keywords(loss: type[nn.Module]) -> list[str]:
    """The keywords without which a loss cannot be built."""
    parameters = inspect.signature(loss.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


def refuse_unknown(loss: type[nn.Module], options: Mapping[str, object]) -> None:
    """ValueError with the nearest valid name if one of the options is not a common keyword."""
    for key in options:
        if key not in getattr(loss, "common_options", ()):
            raise ValueError(f"{loss.__name__} has no keyword {key!r}; {nearest(key, keywords(loss))}")


def channels(logits: Tensor, target: Tensor, mode: str) -> Tensor:
    """Logits as (N, C, *spatial) for a mode: binary logits may be (N, *), (N, 1, *) or two channels, which mean z1 - z0."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"logits must be a tensor, got {type(logits).__name__}")
    if mode == "multiclass":
        if logits.dim() < 2 or logits.shape[1] < 2:
            raise ValueError(
                f"mode='multiclass' needs logits (N, C, *spatial) with at least 2 channels, got {tuple(logits.shape)}; "
                "use mode='binary' for a single logit"
            )
        return logits
    if mode == "multilabel":
        return logits
    if logits.shape == target.shape and not (logits.dim() > 2 and logits.shape[1] == 1):
        if logits.dim() == 4 and logits.shape[1] == 2 and target.is_floating_point():
            raise ValueError(
                f"mode='binary' got logits and a float target of the same shape {tuple(logits.shape)}: for two channels and a one-hot "
                "target pass labels or target[:, 1], for volumes of two slices pass logits.unsqueeze(1)"
            )
        return logits.unsqueeze(1)
    if logits.dim() >= 2 and logits.shape[1] == 2:
        # a difference of half-precision numbers loses digits that both of them have
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return wide[:, 1:2] - wide[:, 0:1]
    if logits.dim() >= 2 and logits.shape[1] == 1:
        return logits
    raise ValueError(
        f"mode='binary' needs logits (N, *spatial), (N, 1, *spatial) or (N, 2, *spatial), got {tuple(logits.shape)} "
        f"for a target of shape {tuple(target.shape)}"
    )


class StatisticLoss(nn.Module):
    """Base of the losses that are formulas on segment statistics.

    Keyword arguments common to all of them:
        mode: "multiclass" (softmax), "binary" (one logit, or two channels meaning z1 - z0), "multilabel" (one sigmoid per
            channel, targets (N, C, *spatial)).
        ignore_index: label that counts nowhere, or None.
        weight: non-negative weight per class.
        per_image: evaluate image by image and average over the images, instead of once for the batch.
        classes: which classes are averaged: "present" (in the labels), "all", "foreground" (all but class 0), or a list of
            class numbers.
        reduction: "mean", "sum" or "none" (per pixel, or per group and class, depending on the family).
        sync: use the statistics of the global batch under torch.distributed.
        engine: "auto", "eager", "numba".
        memory: None, "accumulate" or a decay: see :class:`evenseg.statistics.StatisticsMemory`.
        empty_image: with `per_image`, what an image costs in the mean over images of which nothing counts (it is wholly ignored,
            or holds no counted class); None leaves it out. Other libraries count such an image as 0 or as 1.

    Call: `loss(logits, target, pixel_weight=None, annotated=None)` -> scalar. A batch without a valid pixel costs 0 with zero
    gradient.
        pixel_weight: (N, *spatial) non-negative weights; every sum and count is weighted.
        annotated: which classes were annotated in which image, where not all were: (N, C) bool, a list of class numbers per
            image, or :class:`evenseg.statistics.PartialLabels`. In such an image label 0 means "background or any class
            that was not annotated": the probabilities of these are added, and only the annotated classes and the rest are
            averaged (Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation, Medical
            Image Analysis 2021, eq. 4; Fidon et al., Label-set loss functions for partial supervision, MICCAI 2021).
    """

    requires: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()  # keywords of a base class that this one sets itself
    common_options: ClassVar[frozenset[str]] = frozenset(CommonOptions.__annotations__)
    soft_labels: ClassVar[bool] = False
    default_mode: ClassVar[str] = "multiclass"
    default_classes: ClassVar[str] = "present"
    pixel_mean: ClassVar[bool] = False  # a mean over pixels, not over classes
    _maps: ClassVar[bool] = False  # whether reduction="none" gives one value per pixel
    num_bins: int | None = None
    weight: Tensor | None

    def __init__(self, **common: Unpack[CommonOptions]):
        super().__init__()
        refuse_unknown(type(self), common)
        self.mode = one_of("mode", common.get("mode", self.default_mode), MODES)
        self.ignore_index = label("ignore_index", common.get("ignore_index", 255))
        self.per_image = flag("per_image", common.get("per_image", False))
        self.classes = class_selection(common.get("classes", self.default_classes))
        if self.pixel_mean and self.classes not in ("present", "all"):
            chosen = self.classes if isinstance(self.classes, str) else list(self.classes)
            raise ValueError(
                f"{type(self).__name__} is a mean over pixels: classes={chosen!r} does not apply; use weight to leave classes out"
            )
        self.reduction = one_of("reduction", common.get("reduction", "mean"), REDUCTIONS)
        self.sync = flag("sync", common.get("sync", False))
        self.engine = one_of("engine", common.get("engine", "auto"), ENGINES)
        self.register_buffer("weight", class_weights("weight", common.get("weight")), persistent=False)
        keep = common.get("memory")
        if keep is not None and self.per_image:
            raise ValueError("memory follows the whole batch; it cannot be combined with per_image=True")
        self.memory = None if keep is None else StatisticsMemory(keep)
        empty = common.get("empty_image")
        self.empty_image = None if empty is None else number("empty_image", empty)
        if self.empty_image is not None and not self.per_image:
            raise ValueError("empty_image is what an image costs in a mean over images; it needs per_image=True")

    @property
    def members(self) -> Members:
        """The statistics this loss needs."""
        raise NotImplementedError

    @property
    def activation(self) -> str:
        return "softmax" if self.mode == "multiclass" else "sigmoid"

    def from_statistics(self, stats: SegmentStatistics) -> Tensor:
        """The loss, from statistics of its groups (float64)."""
        raise NotImplementedError

    def forward(
        self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, *, annotated: Annotated = None
    ) -> Tensor:
        prepared = channels(logits, target, self.mode)
        stats = segment_statistics(
            prepared, target, self.members, activation=self.activation, per_image=self.per_image,
            num_bins=self.num_bins or DEFAULT_BINS, ignore_index=self.ignore_index, pixel_weight=pixel_weight,
            annotated=annotated, sync=self.sync, engine=self.engine,
        )  # fmt: skip
        value = self.evaluate(stats).to(result_dtype(logits))
        if self._maps and self.reduction == "none":
            many = value.dim() == 3 and prepared.shape[1] > 1
            return value.view(prepared.shape if many else (prepared.shape[0], *prepared.shape[2:]))
        return value

    def evaluate(self, stats: SegmentStatistics) -> Tensor:
        """`from_statistics` behind the checks and the memory."""
        if stats.soft and not self.soft_labels:
            raise ValueError(f"{type(self).__name__} is not defined for soft labels; give it integer labels")
        self.check_classes(stats)
        if self.memory is not None:
            stats = self.memory(stats)
        return self.from_statistics(stats)

    def check_classes(self, stats: SegmentStatistics) -> None:
        """ValueError if weight or classes do not fit the number of classes of the logits."""
        C = stats.labels.shape[1]
        expected = self.weight_length(C)
        if self.weight is not None and self.weight.numel() != expected:
            raise ValueError(f"weight has {self.weight.numel()} entries, the logits need {expected} (mode={self.mode!r})")
        if not isinstance(self.classes, str) and max(self.classes) >= C:
            raise ValueError(f"classes {list(self.classes)} do not fit logits of {C} channels")

    def weight_length(self, num_classes: int) -> int:
        """How many class weights there must be."""
        return num_classes

    def class_weight(self, stats: SegmentStatistics) -> Tensor:
        """(C,) float64 class weights, ones if none were given."""
        if self.weight is None:
            return torch.ones(stats.labels.shape[1], dtype=torch.float64, device=stats.labels.device)
        return self.weight.double()

    def mean_over_groups(self, value_G: Tensor, counted_G: Tensor) -> Tensor:
        """Mean over the groups that count; with `sync` and `per_image` over the images of all ranks."""
        if self.empty_image is not None:
            value_G, counted_G = torch.where(counted_G, value_G, self.empty_image), torch.ones_like(counted_G)
        total, groups = torch.where(counted_G, value_G, 0.0).sum(), counted_G.sum().double()
        if self.sync and self.per_image:
            total, groups = sum_tensor_over_ranks(total), sum_tensor_over_ranks(groups)
        return total / groups.clamp(min=1)

    def sum_over_groups(self, value_G: Tensor) -> Tensor:
        """Sum over the groups; with `sync` and `per_image` over the images of all ranks."""
        total = value_G.sum()
        return sum_tensor_over_ranks(total) if self.sync and self.per_image else total

    def extra_repr(self) -> str:
        shown = {"mode": self.mode, "ignore_index": self.ignore_index, "per_image": self.per_image, "classes": self.classes}
        return ", ".join(f"{k}={v!r}" for k, v in shown.items())


DIVISORS = ("weights", "valid", "pixels", "entries")


class PixelOptions(CommonOptions, total=False):
    """Keywords of every loss that is a mean over pixels; see :class:`PixelLoss`."""

    divisor: str


class PixelLoss(StatisticLoss):
    """Losses that are means over pixels: a numerator and a denominator per group.

    Further keyword arguments:
        divisor: what the mean divides by. "weights" (default): the sum of the weights used, as the loss says; without weights
            the number of valid pixels (and channels). "valid": the number of valid pixels. "pixels": the number of all pixels,
            so that ignored ones dilute the loss. "entries": all pixels times channels. The last two are what some other
            libraries do.

    And those of :class:`StatisticLoss`.
    """

    pixel_mean = True
    _maps = True
    common_options = frozenset(PixelOptions.__annotations__)

    def __init__(self, *, divisor: str = "weights", **common: Unpack[CommonOptions]):
        super().__init__(**common)
        self.divisor = one_of("divisor", divisor, DIVISORS)

    def sums(self, stats: SegmentStatistics) -> tuple[Tensor, Tensor]:
        """(G,) weighted sum of the pixels' losses and (G,) what the mean divides it by."""
        raise NotImplementedError

    def pixel_map(self, stats: SegmentStatistics) -> Tensor:
        """The loss of every pixel, for reduction="none"."""
        raise ValueError(f"{type(self).__name__} has no reduction='none'")

    def from_statistics(self, stats: SegmentStatistics) -> Tensor:
        if self.reduction == "none":
            return self.pixel_map(stats)
        total_G, by_G = self.sums(stats)
        if self.reduction == "sum":
            return self.sum_over_groups(total_G)
        by_G = self.divided_by(by_G, stats)
        return self.mean_over_groups(total_G / torch.where(by_G > 0, by_G, 1.0), by_G > 0)

    def divided_by(self, weights_G: Tensor, stats: SegmentStatistics) -> Tensor:
        """(G,) what the mean divides by; 0 where there is nothing to average."""
        if self.divisor == "weights":
            return weights_G
        valid_G = stats.valid.double().amax(1)
        if self.divisor == "valid":
            return valid_G
        area_G = require(stats.area, "area")[:, 0].double()
        size_G = area_G * stats.labels.shape[1] if self.divisor == "entries" else area_G
        return torch.where(valid_G > 0, size_G, 0.0)


MEAN_ORDERS = ("classes_first", "images_first")


class RegionOptions(CommonOptions, total=False):
    """Keywords of every region loss that its subclasses hand on; see :class:`RegionLoss`."""

    mean_order: str


class RegionLoss(StatisticLoss):
    """Losses with one value per group and class, averaged over the counted classes, then over the groups.

    Further keyword arguments:
        absent_as_zero: classes without a label count as 0 (and stay in the mean) instead of by their value.
        weight_normalization: divide the weighted sum over classes by the sum of the weights instead of the number of classes.
        mean_order: with `per_image`, "classes_first" (default) averages the classes of every image, then the images;
            "images_first" averages every class over the images that count it, then the classes: mIoU-C of Wang et al.,
            Revisiting evaluation metrics for semantic segmentation, NeurIPS 2023, in which rare classes weigh as much as
            others.

    And those of :class:`StatisticLoss`.
    """

    soft_labels = True
    common_options = frozenset(RegionOptions.__annotations__)
    averages_classes: ClassVar[bool] = True  # whether there is one value per class, of which a mean is taken

    def __init__(
        self,
        *,
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        mean_order: str = "classes_first",
        **common: Unpack[CommonOptions],
    ):
        super().__init__(**common)
        self.mean_order = one_of("mean_order", mean_order, MEAN_ORDERS)
        if self.mean_order == "images_first":
            if not self.per_image:
                raise ValueError("mean_order='images_first' is a mean over images; it needs per_image=True")
            if not self.averages_classes:
                raise ValueError(f"{type(self).__name__} has no mean over classes: mean_order does not apply")
        self.absent_as_zero = flag("absent_as_zero", absent_as_zero)
        self.weight_normalization = flag("weight_normalization", weight_normalization)

    def formula(self, stats: SegmentStatistics) -> Tensor:
        """(G, C) loss of every class in every group."""
        raise NotImplementedError

    def finish(self, mean_G: Tensor) -> Tensor:
        """Applied to the class mean of a group; the identity but for the losses that bend the mean."""
        return mean_G

    def counted(self, stats: SegmentStatistics) -> Tensor:
        """(G, C) which classes are averaged in which group."""
        alive = stats.valid > 0
        if self.classes == "all":
            return alive
        if self.classes == "present":
            return alive & (stats.labels > 0)
        C = stats.labels.shape[1]
        chosen = torch.zeros(C, dtype=torch.bool, device=alive.device)
        # a single channel is foreground
        chosen[list(range(min(1, C - 1), C)) if self.classes == "foreground" else list(self.classes)] = True
        return alive & chosen

    def from_statistics(self, stats: SegmentStatistics) -> Tensor:
        return self.reduce(self.formula(stats), stats, self.counted(stats))

    def reduce(self, value_GC: Tensor, stats: SegmentStatistics, counted_GC: Tensor) -> Tensor:
        """Class mean and group mean (or none of them) of the values."""
        zeroed = counted_GC & (stats.labels > 0) if self.absent_as_zero else counted_GC
        value_GC = torch.where(zeroed, value_GC, 0.0)
        if self.reduction == "none":
            return value_GC
        weight_GC = self.class_weight(stats) * counted_GC
        if self.reduction == "sum":
            return self.sum_over_groups((weight_GC * value_GC).sum(1))
        if self.mean_order == "images_first":
            return self.mean_over_classes(value_GC, counted_GC, self.class_weight(stats))
        by_G = (weight_GC if self.weight_normalization else counted_GC.double()).sum(1)
        mean_G = (weight_GC * value_GC).sum(1) / torch.where(by_G > 0, by_G, 1.0)
        return self.mean_over_groups(self.finish(mean_G), by_G > 0)

    def mean_over_classes(self, value_GC: Tensor, counted_GC: Tensor, weight_C: Tensor) -> Tensor:
        """The mean over the images of every class, then over the classes; with `sync` over the images of all ranks."""
        total_C, images_C = torch.where(counted_GC, value_GC, 0.0).sum(0), counted_GC.double().sum(0)
        if self.sync:
            total_C, images_C = sum_tensor_over_ranks(total_C), sum_tensor_over_ranks(images_C)
        counted_C = images_C > 0
        weight_C = weight_C * counted_C
        by = (weight_C if self.weight_normalization else counted_C.double()).sum()
        mean = (weight_C * total_C / images_C.clamp(min=1)).sum() / torch.where(by > 0, by, 1.0)
        return self.finish(mean[None])[0]


def result_dtype(logits: Tensor) -> torch.dtype:
    """Losses come back in float64 for float64 logits and in float32 otherwise."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
