"""Online hard example mining, and its relative, bootstrapped cross-entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.base import StatisticLoss
from evenseg.losses.functional_form import functional
from evenseg.losses.options import CommonOptions, flag, number, one_of
from evenseg.losses.selection import kth_largest
from evenseg.statistics import Members, SegmentStatistics
from evenseg.statistics.sync import sum_tensor_over_ranks
from evenseg.statistics.types import require


def amount(name: str, value: int | float) -> int | float:
    """A number of pixels (int >= 1, or 0) or a fraction (float in (0, 1]), or a ValueError that explains the difference."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0 or (isinstance(value, float) and not 0 < value <= 1):
        raise ValueError(f"{name} must be a number of pixels (an int) or a fraction of the valid ones (a float in (0, 1]), got {value!r}")
    return value


class _SelectiveCrossEntropyLoss(StatisticLoss):
    """Cross-entropy over a selection of the pixels; the subclasses select."""

    pixel_mean = True
    rank_weighted = False  # whether class weights take part in the selection
    divisor_share = 0.0  # of all pixels, added to the divisor

    def __init__(self, *, weight_normalization: bool = False, **common: Unpack[CommonOptions]):
        super().__init__(**common)
        self.weight_normalization = flag("weight_normalization", weight_normalization)
        if self.memory is not None:
            raise ValueError(f"{type(self).__name__} selects pixels of this batch: it has no memory")
        if self.reduction != "mean":
            raise ValueError(f"{type(self).__name__} has reduction='mean' only")

    @property
    def members(self) -> Members:
        return Members(pixel_nll=True)

    def weight_length(self, num_classes: int) -> int:
        return 2 if self.mode == "binary" else num_classes

    def select(self, nll: Tensor, valid: Tensor, number_valid: int, images: int) -> Tensor:
        """The share (0 to 1) of every pixel that is kept."""
        raise NotImplementedError

    def from_statistics(self, stats: SegmentStatistics) -> Tensor:
        nll, label, weight = (require(getattr(stats, n), n) for n in ("pixel_nll", "pixel_labels", "pixel_weight"))
        if self.weight is None:
            class_weight = torch.ones_like(nll)
        elif label.dim() == 2 or self.mode == "binary":
            class_weight = self.weight.to(nll.dtype)[label.clamp(min=0)]
        else:
            class_weight = self.weight.to(nll.dtype)[:, None].expand_as(nll)
        images = range(nll.shape[0]) if self.per_image else [slice(None)]
        sync = self.sync and not self.per_image
        totals, divisors = [], []
        for i in images:
            loss, valid = nll[i], (label[i] >= 0) & (weight[i] > 0)
            counts = torch.tensor([int(valid.sum()), 1 if self.per_image else nll.shape[0]], device=nll.device)
            number_valid, number_images = (sum_tensor_over_ranks(counts) if sync else counts).tolist()
            ranked = loss * class_weight[i] if self.rank_weighted else loss
            share = self.select(ranked, valid, number_valid, number_images).to(nll.dtype) * weight[i]
            total = torch.where(valid, share * class_weight[i] * loss, 0.0).sum(dtype=torch.float64)
            divisor = torch.where(valid, share * class_weight[i] if self.weight_normalization else share, 0.0).sum(dtype=torch.float64)
            divisor = torch.where(divisor > 0, divisor + self.divisor_share * valid.numel(), 0.0)
            totals.append(sum_tensor_over_ranks(total) if sync else total)
            divisors.append(sum_tensor_over_ranks(divisor) if sync else divisor)
        total_G, by_G = torch.stack(totals), torch.stack(divisors)
        return self.mean_over_groups(total_G / torch.where(by_G > 0, by_G, 1.0), by_G > 0)


class OhemCrossEntropyLoss(_SelectiveCrossEntropyLoss):
    """Cross-entropy over the hard pixels only: those predicted with less than `thresh`, but never fewer than `min_kept`.

    L = sum over the kept pixels of w[y_i] (-log p_i[y_i]) / number of kept pixels. With k the number to keep at least: if at
    least k pixels have p[y] < thresh, exactly those are kept; otherwise the k hardest, pixels equal to the k-th included. At
    least one pixel is kept if one is valid. The selection is exact and carries no gradient.

    Args:
        thresh: probability of the true class below which a pixel is hard, in (0, 1].
        min_kept: an int, number of pixels of the batch; or a float in (0, 1], fraction of its valid pixels.
        min_kept_per_image: an int `min_kept` is per image: multiplied by the number of images. With crops of another size or
            another batch size, a fraction keeps its meaning by itself.
        selection: "hrnet" (default): at most all valid pixels but the easiest count towards min_kept. "ocnet": min_kept at or
            above the number of valid pixels keeps all, and pixels equal to the threshold are kept. "paddleseg": min_kept - 1
            pixels, all of them for a min_kept of 0 or at least the number of valid pixels, and 1e-5 of all pixels is added
            to the divisor.
        weight_normalization: divide by the sum of the kept pixels' class weights instead of their number.
        **common: see :class:`evenseg.losses.base.StatisticLoss`; with `per_image` the selection is made image by image.
            With `pixel_weight` the selection is by the unweighted loss and counts pixels, those of weight 0 left out; the mean
            over the kept ones is weighted.

    Range: [0, inf).

    Source: Shrivastava et al., CVPR 2016 (the idea); HRNet-Semantic-Segmentation lib/core/criterion.py and OCNet
    utils/loss.py (the rules). Their empty selections, which give NaN, cannot occur here.
    """

    def __init__(
        self,
        *,
        thresh: float = 0.7,
        min_kept: int | float = 100_000,
        min_kept_per_image: bool = False,
        selection: str = "hrnet",
        weight_normalization: bool = False,
        **common: Unpack[CommonOptions],
    ):
        super().__init__(weight_normalization=weight_normalization, **common)
        self.thresh = number("thresh", thresh, 0, 1, open_low=True)
        self.min_kept = amount("min_kept", min_kept)
        self.min_kept_per_image = flag("min_kept_per_image", min_kept_per_image)
        if self.min_kept_per_image and isinstance(min_kept, float):
            raise ValueError("min_kept_per_image is for a number of pixels; a fraction is relative already")
        self.selection = one_of("selection", selection, ("hrnet", "ocnet", "paddleseg"))
        self.divisor_share = 1e-5 if self.selection == "paddleseg" else 0.0

    def select(self, nll: Tensor, valid: Tensor, number_valid: int, images: int) -> Tensor:
        if number_valid == 0:
            return valid
        if isinstance(self.min_kept, float):
            k = math.ceil(self.min_kept * number_valid)
        else:
            k = self.min_kept * (images if self.min_kept_per_image else 1)
        if self.selection == "paddleseg":
            if not 0 < k < number_valid:
                return valid
            k -= 1
        most = number_valid - 1 if self.selection == "hrnet" else number_valid
        k = max(1, min(k, most))
        limit = -math.log(self.thresh)
        strict = self.selection != "ocnet"
        hard = valid & ((nll > limit) if strict else (nll >= limit))
        kth = kth_largest(nll.float(), valid, k, sync=self.sync and not self.per_image)
        # the k-th hardest is hard itself exactly if at least k are
        enough = kth > limit if strict else kth >= limit
        return torch.where(enough, hard, valid & (nll.float() >= kth))


class BootstrappedCrossEntropyLoss(_SelectiveCrossEntropyLoss):
    """Cross-entropy over the pixels of the largest loss.

    L = mean of the `top_k` largest -log p_i[y_i] (times w[y_i]); with `threshold`, of all larger than it if they are more.
    Pixels equal to the k-th largest share the places that are left, so the mean is that of exactly k.

    Args:
        top_k: an int, number of pixels; or a float in (0, 1], fraction of the valid ones (0.1 in nnU-Net's TopK).
        threshold: loss above which a pixel is kept in any case, or None.
        weight_normalization: divide by the sum of the kept pixels' class weights instead of their number.
        **common: see :class:`evenseg.losses.base.StatisticLoss`; `per_image` (default False) takes top_k of every image.
            `pixel_weight` works as in :class:`OhemCrossEntropyLoss`.

    Range: [0, inf).

    Source: Wu et al., Bridging category-level and instance-level semantic image segmentation, 2016, section 3.
    """

    def __init__(
        self,
        *,
        top_k: int | float = 0.25,
        threshold: float | None = None,
        weight_normalization: bool = False,
        **common: Unpack[CommonOptions],
    ):
        super().__init__(weight_normalization=weight_normalization, **common)
        self.top_k = amount("top_k", top_k)
        self.threshold = None if threshold is None else number("threshold", threshold, 0)

    def wanted(self, valid: Tensor, number_valid: int) -> int:
        """How many pixels to keep."""
        return math.ceil(self.top_k * number_valid) if isinstance(self.top_k, float) else self.top_k

    def select(self, nll: Tensor, valid: Tensor, number_valid: int, images: int) -> Tensor:
        if number_valid == 0:
            return valid
        k = max(1, min(self.wanted(valid, number_valid), number_valid))
        sync = self.sync and not self.per_image
        kth = kth_largest(nll.float(), valid, k, sync=sync)
        above, equal = valid & (nll.float() > kth), valid & (nll.float() == kth)
        counts = torch.stack([above.sum(), equal.sum()])
        counts = sum_tensor_over_ranks(counts) if sync else counts
        share = torch.where(above, 1.0, torch.where(equal, (k - counts[0]) / counts[1].clamp(min=1), 0.0))
        if self.threshold is None:
            return share
        return torch.where(kth > self.threshold, (valid & (nll > self.threshold)).to(share.dtype), share)


ohem_cross_entropy_loss = functional(OhemCrossEntropyLoss)
bootstrapped_cross_entropy_loss = functional(BootstrappedCrossEntropyLoss)
