"""How far a predicted probability can be believed: expected calibration error and the reliability curve.

Pixels are counted into K bins of equal width by their confidence; every number follows from three sums per bin, so a data
set of any size is measured in one pass and the sums of ranks may be added. Confidences are rounded to multiples of 2^-24 and
summed in float64, where such sums are exact up to 2^29 pixels: the same in any order, on any device and number of ranks.
(Sums in float32, as other libraries have them, lose the second digit at 2e7 pixels.)

Shape suffixes: N images, C classes, K bins, P pixels, 3 sums.
"""

import torch
from torch import Tensor

from evenseg.metrics.accumulate import SumOfCounts
from evenseg.metrics.confusion import class_maps, counting_in_any_order
from evenseg.metrics.scores import ratio


def calibration_sums(
    probs: Tensor,
    target: Tensor,
    ignore_index: int | None = 255,
    *,
    bins: int = 15,
    classwise: bool = False,
) -> Tensor:
    """Sum confidence and correctness of the pixels in each bin of confidence.

    A pixel's confidence is the largest of its probabilities and it is correct where that is the probability of its label;
    with `classwise`, for every class c, the confidence is p_c and the pixel is correct where its label is c. Bin k holds
    confidences in [k/K, (k+1)/K), the last one 1 too.

    Args:
        probs: probabilities (N, C, *), which sum to 1 over the classes.
        target: class indices (N, *), in [0, C) or `ignore_index`.
        ignore_index: target value that is not counted; None counts everything.
        bins: K.
        classwise: sums for each class, rather than for the predicted class alone.

    Returns:
        float64 (N, K, 3), or (N, C, K, 3) with `classwise`: number of pixels, sum of confidences, number of correct pixels.

    Raises:
        ValueError: shapes, types or class indices that do not fit, or values outside 0..1 (logits, most likely).
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins is {bins!r}; allowed: an integer of at least 1")
    if not isinstance(probs, Tensor) or not probs.is_floating_point() or probs.ndim < 2:
        raise ValueError("probs must be probabilities (N, C, *) of a float type")
    pred_maps, target_maps, valid = class_maps(probs, target, probs.shape[1], ignore_index)
    probs = probs.detach()
    sums = []
    for n in range(len(target)):
        keep = slice(None) if valid is None else valid[n].flatten()
        target_P = target_maps[n].flatten()[keep]
        if classwise:
            rows = [(probs[n, c].flatten()[keep], target_P == c) for c in range(probs.shape[1])]
        else:
            # torch's maximum without the place is several times faster than with it, and the place is known
            rows = [(probs[n].amax(0).flatten()[keep], pred_maps[n].flatten()[keep] == target_P)]
        per_row = torch.stack([_sums_per_bin(confidence_P, right_P, bins) for confidence_P, right_P in rows])
        sums.append(per_row if classwise else per_row[0])
    shape = (probs.shape[1], bins, 3) if classwise else (bins, 3)
    return torch.stack(sums) if sums else torch.zeros(0, *shape, dtype=torch.float64, device=probs.device)


def calibration_error(sums: Tensor, norm: str = "l1") -> Tensor:
    """Expected (l1), root mean square (l2) or maximum (max) calibration error from the sums of `calibration_sums`.

        ECE = sum_k n_k / n |accuracy_k - confidence_k|

    Args:
        sums: (..., K, 3).
        norm: "l1" for ECE, "l2" for the root of the weighted mean of squares, "max" for the largest gap.

    Returns:
        float64 (...,), in 0..1; NaN where nothing was counted.

    Raises:
        ValueError: not such sums, or an unknown norm.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017. Per class and averaged: Nixon et al., CVPR workshops 2019.
    """
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm is {norm!r}; allowed: 'l1', 'l2', 'max'")
    count, confidence, accuracy = reliability_curve(sums)
    gap = (accuracy - confidence).abs().nan_to_num(0)
    total = count.sum(-1)
    if norm == "max":
        return ratio(gap.amax(-1) * total, total, "nan")
    error = ratio((count * (gap if norm == "l1" else gap**2)).sum(-1), total, "nan")
    return error if norm == "l1" else error.sqrt()


def reliability_curve(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return number of pixels, mean confidence and accuracy of each bin; NaN for the means of an empty bin.

    Args:
        sums: (..., K, 3) of `calibration_sums`.

    Returns:
        Three float64 tensors (..., K).

    Raises:
        ValueError: not such sums.
    """
    if not isinstance(sums, Tensor) or sums.ndim < 2 or sums.shape[-1] != 3:
        shape = tuple(sums.shape) if isinstance(sums, Tensor) else type(sums).__name__
        raise ValueError(f"received {shape}; allowed: sums (..., K, 3) of calibration_sums")
    count, confidence, right = sums.to(torch.float64).unbind(-1)
    return count, ratio(confidence, count, "nan"), ratio(right, count, "nan")


class Calibration(SumOfCounts):
    """Sums of `calibration_sums` over batches and, under torch.distributed, over ranks.

    Args:
        ignore_index: target value that is not counted.
        bins: K.
    """

    def __init__(self, ignore_index: int | None = 255, *, bins: int = 15) -> None:
        super().__init__(torch.zeros(bins, 3, dtype=torch.float64))
        self.ignore_index, self.bins = ignore_index, bins

    def update(self, probs: Tensor, target: Tensor) -> None:
        """Add a batch; forms and errors as in `calibration_sums`."""
        self.add(calibration_sums(probs, target, self.ignore_index, bins=self.bins).sum(0))

    def compute(self, norm: str = "l1") -> Tensor:
        """Return the calibration error, 0-dim, over all updates on all ranks."""
        return calibration_error(self.total(), norm)


def _sums_per_bin(confidence_P: Tensor, right_P: Tensor, bins: int) -> Tensor:
    """Return (K, 3) float64."""
    if confidence_P.numel():
        low, high = confidence_P.aminmax()
        # also true for NaN; some rounding is nobody's fault
        if not (low >= 0 and high <= 1.001):
            raise ValueError("probs holds values outside 0..1; allowed: probabilities, so call softmax on logits first")
    # the product is exact in float64, so a confidence on an edge goes where it belongs
    confidence_P = confidence_P.to(torch.float64)
    bin_P = (confidence_P * bins).long().clamp_(0, bins - 1)
    rounded_P = (confidence_P * 2.0**24).round_() / 2.0**24
    with counting_in_any_order():
        count = torch.bincount(bin_P, minlength=bins).double()
        confidence = torch.bincount(bin_P, weights=rounded_P, minlength=bins)
        right = torch.bincount(bin_P[right_P], minlength=bins).double()
    return torch.stack([count, confidence, right], dim=-1)
