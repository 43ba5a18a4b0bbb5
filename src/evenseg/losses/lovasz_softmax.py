"""Lovász-Softmax loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.base import Annotated, RegionLoss, RegionOptions, channels, result_dtype
from evenseg.losses.functional_form import functional
from evenseg.losses.lovasz import lovasz_by_sorting, lovasz_from_histogram
from evenseg.losses.options import one_of
from evenseg.statistics import DEFAULT_BINS, Members, SegmentStatistics, segment_statistics
from evenseg.statistics.bins import check_bins
from evenseg.statistics.labels import NO_IGNORE, canonical_labels, flatten_target
from evenseg.statistics.partial import annotated_classes, merge_unannotated
from evenseg.statistics.types import require


class _LovaszLoss(RegionLoss):
    """What Lovász-Softmax and Lovász hinge share: two methods on the same errors."""

    soft_labels = False

    def __init__(
        self,
        *,
        method: str = "histogram",
        num_bins: int = DEFAULT_BINS,
        absent_as_zero: bool = False,
        weight_normalization: bool = True,
        **common: Unpack[RegionOptions],
    ):
        super().__init__(absent_as_zero=absent_as_zero, weight_normalization=weight_normalization, **common)
        self.method = one_of("method", method, ("histogram", "sort"))
        self.num_bins = check_bins(num_bins)
        if self.method == "sort" and self.memory is not None:
            raise ValueError("memory needs method='histogram': sorted errors of earlier batches cannot be added")
        if self.method == "sort" and self.sync:
            raise ValueError("sync needs method='histogram': sorted errors of several ranks cannot be added")

    @property
    def members(self) -> Members:
        alone = self.memory is None and not self.sync  # ranks are those of this batch on this rank
        if self.method == "sort":
            return Members()
        # the histogram of an absent class is wanted where other batches or ranks may hold the class
        return Members(errors=True, ranks=alone, absent=self.classes != "present" or not alone)

    def formula(self, stats: SegmentStatistics) -> Tensor:
        errors, counts = require(stats.errors, "errors"), require(stats.error_counts, "error_counts")
        peak = None if self.classes == "present" else require(stats.peak, "peak")
        return lovasz_from_histogram(errors, counts, stats.labels, peak, stats.ranked)

    def errors(self, logits_NCP: Tensor, foreground_NCP: Tensor) -> Tensor:
        """(N, C, P) errors whose Lovász extension is taken."""
        p = F.softmax(logits_NCP, 1) if self.activation == "softmax" else logits_NCP.sigmoid()
        return torch.where(foreground_NCP, 1 - p, p)

    def forward(
        self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, *, annotated: Annotated = None
    ) -> Tensor:
        if self.method == "histogram":
            return super().forward(logits, target, pixel_weight, annotated=annotated)
        prepared = channels(logits, target, self.mode)
        stats = segment_statistics(
            prepared, target, Members(), activation=self.activation, per_image=self.per_image,
            ignore_index=self.ignore_index, pixel_weight=pixel_weight, annotated=annotated, engine="eager",
        )  # fmt: skip
        if stats.soft:
            raise ValueError(f"{type(self).__name__} is not defined for soft labels; give it integer labels")
        self.check_classes(stats)
        N, C = prepared.shape[:2]
        with torch.autocast(logits.device.type, enabled=False):
            flat = flatten_target(target, prepared, self.activation)
            labels_to = 2 if flat.dim() == 3 or C == 1 else C
            ignore = NO_IGNORE if self.ignore_index is None else self.ignore_index
            z_NCP = prepared.reshape(N, C, -1)
            z_NCP = z_NCP if z_NCP.dtype == torch.float64 else z_NCP.float()
            counted_NC = torch.ones(N, C, dtype=torch.bool, device=z_NCP.device)
            if annotated is not None:
                marginal = merge_unannotated(z_NCP, flat, *annotated_classes(annotated, N, C), self.activation, ignore)
                z_NCP, flat, counted_NC = marginal.logits, marginal.target, marginal.counted
                ignore = -1 if flat.dim() == 2 else ignore
            label = canonical_labels(flat, labels_to, ignore)
            if label.dim() == 2:
                channel = torch.arange(C, device=label.device) if C > 1 else torch.ones(1, dtype=torch.long, device=label.device)
                foreground, valid = label[:, None] == channel[:, None], (label >= 0)[:, None].expand(N, C, -1)
            else:
                foreground, valid = label == 1, label >= 0
            error = self.errors(torch.where(valid, z_NCP, 0.0), foreground)
            valid = valid & counted_NC[:, :, None]
            weight = None if pixel_weight is None else pixel_weight.reshape(N, 1, -1).expand_as(error)
            rows = [slice(n, n + 1) for n in range(N)] if self.per_image else [slice(0, N)]

            def one(group: slice, c: int) -> Tensor:
                inside = valid[group, c]
                w = None if weight is None else weight[group, c][inside]
                return lovasz_by_sorting(error[group, c][inside], foreground[group, c][inside], w)

            counted = self.counted(stats)
            zero = error.sum() * 0.0
            value = torch.stack(
                [torch.stack([one(g, c) if bool(counted[i, c]) else zero.double() for c in range(C)]) for i, g in enumerate(rows)]
            )
        return self.reduce(value, stats, counted).to(result_dtype(logits))


class LovaszSoftmaxLoss(_LovaszLoss):
    """The Lovász extension of the Jaccard loss on softmax errors: a convex surrogate of 1 - IoU itself.

    L = mean over the classes c of J_c(m(c)), with m_i(c) = 1 - p_i(c) where y_i = c and p_i(c) elsewhere, and J_c the Lovász
    extension of the set function S -> |S| / |{y = c} ∪ S|, S a set of mispredicted pixels. For hard predictions it is exactly
    1 - IoU.

    Args:
        method: "histogram" (one pass, no sort; value within one bin width below the exact one, in practice 1e-6) or "sort"
            (exact, always in plain torch).
        num_bins: bins of the histogram, a multiple of 16. Where one bin would blur the gradient of a rare class, its pixels are
            ranked exactly; not so with `pixel_weight`, `annotated`, `sync` or `memory`, whose gradients can be off by some per cent
            for a class of a few pixels (docs/lovasz_accuracy.md).
        **common: see :class:`evenseg.losses.base.RegionLoss`. classes="present" by default, as in the authors' code. With
            "all" or a list, a class without labels costs its largest probability. mode "multiclass", or "binary" and
            "multilabel" for sigmoid errors.

    Range: [0, 1].

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, eq. 11.

    Example:
        >>> import torch
        >>> from evenseg.losses import LovaszSoftmaxLoss
        >>> target = torch.tensor([[[0, 0, 1, 1]]])
        >>> prediction = torch.tensor([[[0, 1, 1, 1]]])  # IoU 1/2 and 2/3
        >>> logits = 100 * torch.nn.functional.one_hot(prediction, 2).movedim(-1, 1).float()
        >>> round(LovaszSoftmaxLoss()(logits, target).item(), 4)
        0.4167
    """


lovasz_softmax_loss = functional(LovaszSoftmaxLoss)
