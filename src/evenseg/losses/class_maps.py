"""What the losses share that have one value per class from whole maps: which classes count, sums over groups, the mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import class_selection, flag


class ClassMapOptions(MapOptions, total=False):
    """Keywords of the losses on whole maps with one value per class; see :class:`ClassMapLoss`."""

    classes: str | Sequence[int]
    per_image: bool


class ClassMapLoss(MapLoss):
    """Base of the losses on whole maps with one value per group and class, averaged over the counted classes, then over the groups.

    Keyword arguments common to all of them, beside those of :class:`evenseg.losses.maps.MapLoss`:
        classes: which classes are averaged: "present" (in the labels of the group), "all", "foreground" (all but class 0, unless
            there is one channel only), or a list of class numbers.
        per_image: evaluate image by image and average over the images that have a valid pixel, instead of once for the batch.
    """

    common_options: ClassVar[frozenset[str]] = frozenset(ClassMapOptions.__annotations__)
    default_classes: ClassVar[str] = "present"

    def __init__(self, **common: Unpack[ClassMapOptions]):
        others: Any = {key: value for key, value in common.items() if key not in ("classes", "per_image")}
        super().__init__(**others)
        chosen = common.get("classes", self.default_classes)
        self.classes = class_selection(chosen)
        self.per_image = flag("per_image", common.get("per_image", False))

    def class_values(self, maps: Maps) -> Tensor:
        """(G, C) loss of every class in every group, finite also where nothing is valid."""
        raise NotImplementedError

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        counted_GC = self.counted(maps)
        value_GC = torch.where(counted_GC, self.class_values(maps), 0.0)
        weight_GC = self.class_weight(maps) * counted_GC
        by_G = weight_GC.sum(1)
        mean_G = (weight_GC * value_GC).sum(1) / torch.where(by_G > 0, by_G, 1.0)
        # one group is the whole batch, of all ranks with `sync`
        return self.mean(mean_G.sum(), (by_G > 0).sum()) if self.per_image else mean_G[0]

    def grouped(self, *maps_NC: Tensor) -> tuple[Tensor, ...]:
        """(G, C) float64 sums of (N, C, *spatial) maps over the pixels of each group."""
        sums = [x.flatten(2).sum(2, dtype=torch.float64) for x in maps_NC]
        return tuple(sums) if self.per_image else self.over_ranks(*[x.sum(0, keepdim=True) for x in sums])

    def pixel_mean(self, map_NC: Tensor, maps: Maps) -> Tensor:
        """(G, C) means of an (N, C, *spatial) map over the pixels of each group, by their weights."""
        value, total = self.grouped(map_NC * maps.weight, maps.weight)
        return value / torch.where(total > 0, total, 1.0)

    def counted(self, maps: Maps) -> Tensor:
        """(G, C) which classes are averaged in which group."""
        C = maps.truth.shape[1]
        weight_GC, truth_GC = self.grouped(maps.weight, maps.truth)
        alive_GC = (weight_GC > 0).expand(-1, C)
        if self.classes == "present":
            return alive_GC & (truth_GC > 0)
        chosen = torch.ones(C, dtype=torch.bool, device=alive_GC.device)
        if self.classes == "foreground":
            chosen[: min(1, C - 1)] = False
        elif self.classes != "all":
            chosen.fill_(False)
            chosen[list(self.classes)] = True
        return alive_GC & chosen

    def check_classes(self, maps: Maps) -> None:
        super().check_classes(maps)
        C = maps.truth.shape[1]
        if not isinstance(self.classes, str) and max(self.classes) >= C:
            raise ValueError(f"classes {list(self.classes)} do not fit logits of {C} channels")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, classes={self.classes!r}, per_image={self.per_image}"
