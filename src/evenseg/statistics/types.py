"""What can be summed over the pixels of a segmentation batch, and the sums themselves.

Shape letters used in this package: N images, C classes, P pixels of an image (any number of spatial dimensions,
flattened), G groups (1 for the whole batch, N for one group per image), K histogram bins.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from torch import Tensor

from evenseg.statistics.ranking import RankedErrors

ACTIVATIONS = ("softmax", "sigmoid", "hinge")
ENGINES = ("auto", "eager", "numba", "triton")
DEFAULT_BINS = 4096

BACKGROUND, FOREGROUND = 0, 1  # the two sides of an error histogram


@dataclass(frozen=True)
class Members:
    """Which statistics are asked for; `a | b` is the union, so that a mix of losses needs one pass.

    Label counts and the number of valid pixels always come along. Everything else costs only if it is asked for.

    Attributes:
        prob: sum of p_c over the valid pixels.
        prob_sq: sum of p_c².
        overlap: sum of min(p_c, y_c): p_c where y = c for hard labels, the L1 form of the intersection for soft ones.
        product: sum of p_c y_c. The same as `overlap` for hard labels.
        nll: sum of -log p_c where y = c and, for sigmoid outputs, of -log(1 - p_c) where y != c.
        nll_all: sum of -log p_c over all valid pixels (label smoothing). Softmax only.
        focal: exponents gamma; sum of (1-p_c)^gamma (-log p_c) where y = c (and its mirror for sigmoid outputs).
        power: exponents q; sum of (-log p_c)^q where y = c.
        hits: number of pixels predicted as c, and of those predicted as c rightly.
        errors: the error histogram: counts and sums of m = |[y=c] - p_c| by class, side and bin.
        absent: also the errors of classes without labels: their histogram, which engines may else leave empty, and their peak.
        ranks: exact ranks of the errors in those bins where the histogram would blur a Lovász gradient (with `errors`).
        pixel_nll: the map of -log p_y by pixel (by pixel and channel for sigmoid outputs).
    """

    prob: bool = False
    prob_sq: bool = False
    overlap: bool = False
    product: bool = False
    nll: bool = False
    nll_all: bool = False
    focal: tuple[float, ...] = ()
    power: tuple[float, ...] = ()
    hits: bool = False
    errors: bool = False
    absent: bool = False
    ranks: bool = False
    pixel_nll: bool = False

    def __or__(self, other: Members) -> Members:
        merged: dict = {}
        for f in dataclasses.fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            merged[f.name] = tuple(sorted({*a, *b})) if isinstance(a, tuple) else a or b
        return Members(**merged)


@dataclass(frozen=True)
class SegmentStatistics:
    """Sums over the pixels of a batch, per group and class. Members that were not asked for are None.

    With partial labels (`annotated`) the sums of a class are over the images in which it counts.

    Counts (`valid`, `labels`, `predicted`, `hits`, `error_counts`) carry no gradient. They are weighted by
    `pixel_weight` where one was given; `pixels` and `area` never are.

    Attributes:
        pixels: (G, C) int64, number of valid pixels (equal over the classes but for multilabel targets).
        area: (G, 1) int64, number of all pixels, ignored ones included; None in statistics made by hand.
        valid: (G, C), sum of the pixel weights of the valid pixels.
        labels: (G, C), sum of y_c. `labels_sq`: sum of y_c² (equal to `labels` for hard labels).
        prob, prob_sq, overlap, product, nll, nll_all: (G, C), see :class:`Members`. An image in which K of the C classes
            count enters nll_all with the factor C/K.
        nll_rest: (G, C), sum of -log(1 - p_c) where y != c (sigmoid outputs), else None.
        focal, focal_rest, power: {exponent: (G, C)}.
        predicted, hits: (G, C).
        errors: (G, C, 2, K) sum of the errors in the bin; side 0 background, side 1 foreground; bin 0 the smallest.
        error_counts: (G, C, 2, K) number (weight) of the errors in the bin, as exact float64; hinge errors of 0 are left out.
        peak: (G, C) the largest background error of a class without labels, 0 for the others.
        ranked: errors with exact ranks; None unless `ranks`, and in statistics that were weighted, pooled, or added to others.
        pixel_nll: (N, P) for softmax, (N, C, P) for sigmoid outputs; 0 at ignored pixels.
        pixel_weight: (N, P) weight of every pixel, 0 at ignored ones; None unless `pixel_nll` was asked for.
        pixel_labels: (N, P) or (N, C, P) int64 class of every pixel, -1 at ignored ones; None unless `pixel_nll`.
        soft: whether the targets were probabilities.
    """

    pixels: Tensor
    valid: Tensor
    labels: Tensor
    labels_sq: Tensor
    area: Tensor | None = None
    prob: Tensor | None = None
    prob_sq: Tensor | None = None
    overlap: Tensor | None = None
    product: Tensor | None = None
    nll: Tensor | None = None
    nll_rest: Tensor | None = None
    nll_all: Tensor | None = None
    focal: dict[float, Tensor] = field(default_factory=dict)
    focal_rest: dict[float, Tensor] = field(default_factory=dict)
    power: dict[float, Tensor] = field(default_factory=dict)
    predicted: Tensor | None = None
    hits: Tensor | None = None
    errors: Tensor | None = None
    error_counts: Tensor | None = None
    peak: Tensor | None = None
    ranked: RankedErrors | None = None
    pixel_nll: Tensor | None = None
    pixel_weight: Tensor | None = None
    pixel_labels: Tensor | None = None
    soft: bool = False

    SUMS = (
        "pixels", "area", "valid", "labels", "labels_sq", "prob", "prob_sq", "overlap", "product", "nll", "nll_rest", "nll_all",
        "focal", "focal_rest", "power", "predicted", "hits", "errors", "error_counts",
    )  # fmt: skip

    @property
    def total(self) -> Tensor:
        """(G,) sum of the pixel weights of the valid pixels, also where some classes do not count in some images."""
        return self.valid.amax(1)

    def map_sums(self, function) -> SegmentStatistics:
        """Apply `function(name, tensor)` to every member that is a sum over pixels; `peak` stays, ranks are lost."""
        changed: dict = {"ranked": None}
        for name in self.SUMS:
            value = getattr(self, name)
            if isinstance(value, dict):
                changed[name] = {k: function(f"{name}.{k:g}", v) for k, v in value.items()}
            elif value is not None:
                changed[name] = function(name, value)
        return dataclasses.replace(self, **changed)

    def pooled(self) -> SegmentStatistics:
        """The statistics of the whole batch: the sum over the groups."""
        if self.valid.shape[0] == 1:
            return self
        pooled = self.map_sums(lambda name, value: value.sum(0, keepdim=True))
        return dataclasses.replace(pooled, peak=None if self.peak is None else self.peak.amax(0, keepdim=True))


def require(value: Tensor | None, name: str) -> Tensor:
    """The member itself, or an error that tells the author of a loss to ask for it."""
    if value is None:
        raise RuntimeError(f"the statistic {name!r} was not asked for; add it to the loss's `members`")
    return value
