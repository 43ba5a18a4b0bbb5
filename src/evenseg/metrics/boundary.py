"""How well outlines agree: boundary F1 and boundary IoU, for all classes at once.

A pixel that is ignored in the target belongs to no class in the target nor in the prediction, so where a class meets an
ignored region both masks have a boundary there (the rule of the DAVIS code and of Gated-SCNN's evaluation).

Counts first, scores from sums of counts: over a data set, add the counts of its images and take the score of the sum, or take
each image's score and average those.

Shape suffixes: N images, C classes, H and W pixels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from evenseg.metrics.accumulate import SumOfCounts
from evenseg.metrics.confusion import class_maps
from evenseg.metrics.scores import fill_value, ratio


def boundary_matches(
    pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None = 255, *, tolerance: float = 0.008
) -> Tensor:
    """Count the boundary pixels of each class that have a boundary pixel of the same class nearby in the other map.

    A pixel is boundary of class c where its 2x2 block (itself, right, below, below right) holds c and another label. Nearby
    is a Euclidean distance of at most `tolerance`.

    Args:
        pred: logits (N, C, H, W) or class indices (N, H, W), as in `confusion_matrix`.
        target: class indices (N, H, W), in [0, num_classes) or `ignore_index`.
        num_classes: C.
        ignore_index: target value that belongs to no class; None where there is none.
        tolerance: 1 or more: in pixels; below 1: as a fraction of the image's diagonal, rounded up to whole pixels.

    Returns:
        int64 (N, C, 4): predicted boundary pixels that match, all predicted ones, target boundary pixels that match, all of
        the target's. These counts may be added over images.

    Raises:
        ValueError: shapes, types, class indices or a tolerance that do not fit.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[:, 2:6, 2:6] = 1
        >>> boundary_f1(boundary_matches(target.roll(1, 2), target, 2, tolerance=1))
        tensor([[1., 1.]], dtype=torch.float64)

    The boundary and the matching are those of DAVIS (Perazzi et al., CVPR 2016; Martin et al., PAMI 2004), per class.
    """
    from evenseg.metrics.boundary_kernel import count_matches, disk_offsets

    pred_NHW, target_NHW = _planes(pred, target, num_classes, ignore_index)
    _check_size("tolerance", tolerance)
    diagonal = math.hypot(*target_NHW.shape[1:])
    offsets = disk_offsets(tolerance if tolerance >= 1 else math.ceil(tolerance * diagonal))
    counts = np.zeros((len(target_NHW), num_classes, 4), np.int64)
    for n, (pred_HW, target_HW) in enumerate(zip(_arrays(pred_NHW), _arrays(target_NHW))):
        count_matches(pred_HW, target_HW, num_classes, offsets, counts[n, :, :2])
        count_matches(target_HW, pred_HW, num_classes, offsets, counts[n, :, 2:])
    return torch.from_numpy(counts).to(target_NHW.device)


def boundary_f1(matches: Tensor, absent: str = "nan") -> Tensor:
    """Boundary F1 of each class from the counts of `boundary_matches`.

        P = matched / predicted boundary pixels,  R = matched / target boundary pixels,  F1 = 2 P R / (P + R)

    Args:
        matches: counts (..., C, 4).
        absent: score of a class that has a boundary in neither map: "nan", "one" (as DAVIS has it) or "zero".

    Returns:
        float64 (..., C); 0 where only one of the maps has a boundary.

    Raises:
        ValueError: not such counts, or an unknown `absent`.
    """
    counts = _checked(matches, 4, "boundary_matches")
    matched_pred, pred, matched_target, target = counts.unbind(-1)
    precision, recall = ratio(matched_pred, pred, "zero"), ratio(matched_target, target, "zero")
    score = ratio(2 * precision * recall, precision + recall, "zero")
    return score.masked_fill(pred + target == 0, fill_value(absent))


def boundary_overlap(
    pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None = 255, *, dilation: float = 0.02
) -> Tensor:
    """Count the pixels in the inner boundary bands of each class and in their intersection.

    The band of class c holds its pixels within `dilation` (chessboard distance) of a pixel that is not c, or of the edge of
    the image.

    Args:
        pred: logits (N, C, H, W) or class indices (N, H, W), as in `confusion_matrix`.
        target: class indices (N, H, W), in [0, num_classes) or `ignore_index`.
        num_classes: C.
        ignore_index: target value that belongs to no class; None where there is none.
        dilation: 1 or more: width of the band in pixels; below 1: as a fraction of the image's diagonal, rounded to whole
            pixels, at least one.

    Returns:
        int64 (N, C, 3): pixels in both bands, in the predicted band, in the target's band. They may be added over images.

    Raises:
        ValueError: shapes, types, class indices or a dilation that do not fit.

    Cheng et al., Boundary IoU, CVPR 2021; its authors' code erodes a mask per class, here one band serves all classes.
    """
    pred_NHW, target_NHW = _planes(pred, target, num_classes, ignore_index)
    height, width = target_NHW.shape[1:]
    _check_size("dilation", dilation)
    steps = round(dilation) if dilation >= 1 else max(1, round(dilation * math.hypot(height, width)))
    pred_bands, target_bands = _band_labels(pred_NHW, steps, num_classes), _band_labels(target_NHW, steps, num_classes)
    both = torch.where(pred_bands == target_bands, pred_bands, num_classes)
    counts = [
        torch.stack([torch.bincount(plane.flatten(), minlength=num_classes + 1)[:num_classes] for plane in bands])
        for bands in (both, pred_bands, target_bands)
    ]
    return torch.stack(counts, dim=-1)


def boundary_iou(overlap: Tensor, absent: str = "nan") -> Tensor:
    """Boundary IoU of each class from the counts of `boundary_overlap`: the IoU of the two bands.

    Args:
        overlap: counts (..., C, 3).
        absent: score of a class that is in neither map: "nan", "one" or "zero".

    Returns:
        float64 (..., C).

    Raises:
        ValueError: not such counts, or an unknown `absent`.
    """
    both, pred, target = _checked(overlap, 3, "boundary_overlap").unbind(-1)
    return ratio(both, pred + target - both, absent)


class BoundaryF1(SumOfCounts):
    """Counts of `boundary_matches` summed over batches and, under torch.distributed, over ranks.

    Args:
        num_classes: C.
        ignore_index: target value that belongs to no class.
        tolerance: as in `boundary_matches`.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255, *, tolerance: float = 0.008) -> None:
        super().__init__(torch.zeros(num_classes, 4, dtype=torch.int64))
        self.num_classes, self.ignore_index, self.tolerance = num_classes, ignore_index, tolerance

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch; forms and errors as in `boundary_matches`."""
        self.add(boundary_matches(pred, target, self.num_classes, self.ignore_index, tolerance=self.tolerance).sum(0))

    def compute(self, absent: str = "nan") -> Tensor:
        """Return the boundary F1 of each class, (C,), over all updates on all ranks."""
        return boundary_f1(self.total(), absent)


class BoundaryIoU(SumOfCounts):
    """Counts of `boundary_overlap` summed over batches and, under torch.distributed, over ranks.

    Args:
        num_classes: C.
        ignore_index: target value that belongs to no class.
        dilation: as in `boundary_overlap`.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255, *, dilation: float = 0.02) -> None:
        super().__init__(torch.zeros(num_classes, 3, dtype=torch.int64))
        self.num_classes, self.ignore_index, self.dilation = num_classes, ignore_index, dilation

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch; forms and errors as in `boundary_overlap`."""
        self.add(boundary_overlap(pred, target, self.num_classes, self.ignore_index, dilation=self.dilation).sum(0))

    def compute(self, absent: str = "nan") -> Tensor:
        """Return the boundary IoU of each class, (C,), over all updates on all ranks."""
        return boundary_iou(self.total(), absent)


def _planes(pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return both maps (N, H, W) int64 with the label C where the target is ignored."""
    if isinstance(target, Tensor) and target.ndim != 3:
        raise ValueError(f"target has shape {tuple(target.shape)}; allowed: (N, H, W), boundaries are found in 2-D")
    pred_NHW, target_NHW, valid = class_maps(pred, target, num_classes, ignore_index)
    if valid is None:
        return pred_NHW, target_NHW
    return torch.where(valid, pred_NHW, num_classes), torch.where(valid, target_NHW, num_classes)


def _check_size(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(
            f"{name} is {value!r}; allowed: pixels (1 or more) or a fraction of the diagonal (between 0 and 1)"
        )


def _arrays(planes_NHW: Tensor) -> NDArray[np.int32]:
    return planes_NHW.to("cpu", torch.int32).contiguous().numpy()


def _band_labels(plane_NHW: Tensor, steps: int, num_classes: int) -> Tensor:
    """Return each pixel's label where it lies in a band, C elsewhere."""
    height, width = plane_NHW.shape[1:]
    steps = min(steps, max(height, width))
    # a window holds one label where no two neighbours in it differ, and sums of differences cost the same for any window
    steps_down = F.pad((plane_NHW[:, 1:] != plane_NHW[:, :-1]).int(), (0, 0, 1, 0))
    steps_right = F.pad((plane_NHW[:, :, 1:] != plane_NHW[:, :, :-1]).int(), (1, 0))
    mixed = torch.ones_like(plane_NHW, dtype=torch.bool)
    if height > 2 * steps and width > 2 * steps:
        # the band along the edge of the image stays
        inner = mixed[:, steps : height - steps, steps : width - steps]
        inner.copy_(
            (_window_sums(steps_down, steps, skip_rows=1) > 0) | (_window_sums(steps_right, steps, skip_columns=1) > 0)
        )
    return torch.where(mixed, plane_NHW, num_classes)


def _window_sums(values_NHW: Tensor, steps: int, *, skip_rows: int = 0, skip_columns: int = 0) -> Tensor:
    """Return the sum over each window of 2 steps + 1 pixels a side that lies inside, without its first rows or columns."""
    size = 2 * steps + 1
    total = F.pad(values_NHW.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0))
    rows, columns = values_NHW.shape[1] - size + 1, values_NHW.shape[2] - size + 1
    top, bottom = total[:, skip_rows : skip_rows + rows], total[:, size : size + rows]
    left, right = slice(skip_columns, skip_columns + columns), slice(size, size + columns)
    return bottom[:, :, right] - bottom[:, :, left] - top[:, :, right] + top[:, :, left]


def _checked(counts: Tensor, length: int, function: str) -> Tensor:
    if not isinstance(counts, Tensor) or counts.ndim < 2 or counts.shape[-1] != length:
        shape = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
        raise ValueError(f"received {shape}; allowed: counts (..., C, {length}) of {function}")
    return counts.to(torch.float64)
