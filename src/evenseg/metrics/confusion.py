"""Counting pixels into confusion matrices.

Shape suffixes: N images, C classes, V valid pixels, * any number of spatial dimensions.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import evenseg._torchvision  # noqa: F401  torchmetrics imports torchvision where it finds it installed

_INTEGER = (
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)


def confusion_matrix(
    pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None = 255, *, per_image: bool = False
) -> Tensor:
    """Count the pixels of every (target, prediction) pair of classes, exactly, in int64.

        cm[t, p] = |{i : target_i = t, pred_i = p, target_i != ignore_index}|

    Args:
        pred: logits (N, C, *) of any float type, of which the largest wins (the first one at ties); one logit
            (N, 1, *) when `num_classes` is 2, class 1 where it is > 0; or class indices (N, *), integer. What it holds
            where the target is ignored does not matter.
        target: class indices (N, *), integer or bool, in [0, num_classes) or `ignore_index`.
        num_classes: C.
        ignore_index: target value that is not counted; None counts everything.
        per_image: one matrix for each of the N images instead of one for all.

    Returns:
        int64 (C, C), or (N, C, C) with `per_image`; row = target, column = prediction.

    Raises:
        ValueError: shapes, types or class indices that do not fit, naming the values and how many pixels hold them.

    Example:
        >>> import torch
        >>> confusion_matrix(torch.tensor([[2, 1, 0, 1]]), torch.tensor([[2, 1, 0, 0]]), num_classes=3)
        tensor([[1, 1, 0],
                [0, 1, 0],
                [0, 0, 1]])

    The counting is torchmetrics' `multiclass_confusion_matrix`.
    """
    _check_num_classes(num_classes)
    _check_ignore_index(ignore_index)
    _check_tensors(pred, target, num_classes)
    if not per_image:
        return _count(*_valid_pairs(pred, target, num_classes, ignore_index), num_classes)
    matrices = [
        _count(*_valid_pairs(pred[n : n + 1], target[n : n + 1], num_classes, ignore_index), num_classes)
        for n in range(len(target))
    ]
    if not matrices:
        return torch.zeros(0, num_classes, num_classes, dtype=torch.int64, device=target.device)
    return torch.stack(matrices)


class ConfusionMatrix(nn.Module):
    """A confusion matrix summed over batches and, under torch.distributed, over ranks.

    A thin shell around `torchmetrics.classification.MulticlassConfusionMatrix`, with the checks and the accepted
    forms of `confusion_matrix`. As a submodule it follows its parent to the device; the counts stay int64.

    Args:
        num_classes: C.
        ignore_index: target value that is not counted; None counts everything.

    Raises:
        ValueError: `num_classes` below 1, or an `ignore_index` that is no integer.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255) -> None:
        super().__init__()
        _check_num_classes(num_classes)
        _check_ignore_index(ignore_index)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        from torchmetrics.classification import MulticlassConfusionMatrix

        # One class is not multiclass to torchmetrics' argument check, but its counting is right.
        self._metric = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch; forms and errors as in `confusion_matrix`."""
        _check_tensors(pred, target, self.num_classes)
        pred_V, target_V = _valid_pairs(pred, target, self.num_classes, self.ignore_index)
        with counting_in_any_order():
            self._metric.update(pred_V, target_V)

    def compute(self) -> Tensor:
        """Return the int64 (C, C) counts of all updates since the last reset, on all ranks."""
        if not self._metric.update_called and not _distributed():
            return self._metric.confmat.clone()  # torchmetrics would warn; no pixels is a fine answer
        return self._metric.compute().clone()

    def reset(self) -> None:
        """Forget all counts."""
        self._metric.reset()


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _check_num_classes(num_classes: int) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes!r}; allowed: an integer of at least 1")


def _check_ignore_index(ignore_index: int | None) -> None:
    if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
        raise ValueError(f"ignore_index is {ignore_index!r}; allowed: an integer or None")


def _check_tensors(pred: Tensor, target: Tensor, num_classes: int) -> None:
    for name, value in (("pred", pred), ("target", target)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; allowed: a torch.Tensor")
    if target.dtype not in _INTEGER:
        raise ValueError(f"target is {target.dtype}; allowed: integer or bool class indices (N, *)")
    if target.ndim < 1:
        raise ValueError("target has no dimensions; allowed: (N, *)")
    if pred.ndim == target.ndim + 1:
        channels = (1, 2) if num_classes == 2 else (num_classes,)
        if not pred.is_floating_point():
            raise ValueError(
                f"pred {tuple(pred.shape)} has one dimension more than target {tuple(target.shape)}, so it is read as "
                f"logits, but its type is {pred.dtype}; allowed: a float type, or class indices {tuple(target.shape)}"
            )
        if pred.shape[1] not in channels:
            raise ValueError(
                f"pred {tuple(pred.shape)} has {pred.shape[1]} channels; allowed with num_classes={num_classes}: "
                + " or ".join(map(str, channels))
            )
        if (pred.shape[0], *pred.shape[2:]) != tuple(target.shape):
            raise ValueError(
                f"pred {tuple(pred.shape)} does not fit target {tuple(target.shape)}; "
                "allowed: logits (N, C, *) with target (N, *)"
            )
    elif pred.shape == target.shape:
        if pred.dtype not in _INTEGER:
            raise ValueError(
                f"pred {tuple(pred.shape)} has the target's shape, so it is read as class indices, but its type is "
                f"{pred.dtype}; allowed: an integer type, or logits (N, C, *) (one binary logit: (N, 1, *))"
            )
    else:
        raise ValueError(
            f"pred {tuple(pred.shape)} does not fit target {tuple(target.shape)}; "
            "allowed: logits (N, C, *) or class indices (N, *) with target (N, *)"
        )


def class_maps(
    pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check a batch; return predicted and true classes as int64 maps (N, *) and where they count (None: everywhere).

    Forms and errors as in `confusion_matrix`. Where a pixel does not count both maps may hold anything.
    """
    _check_num_classes(num_classes)
    _check_ignore_index(ignore_index)
    _check_tensors(pred, target, num_classes)
    if pred.ndim == target.ndim + 1:
        pred = pred.detach()
        pred = pred[:, 0] > 0 if pred.shape[1] == 1 and num_classes == 2 else pred.argmax(dim=1)
    # int64 before comparing: in a narrower type ignore_index can wrap around onto a class
    pred, target = pred.to(torch.int64), target.to(torch.int64)
    valid = None if ignore_index is None else target != ignore_index
    for name, values in (("target", target), ("pred", pred)):
        wrong = (values < 0) | (values >= num_classes)
        outside = values[wrong if valid is None else wrong & valid]
        if outside.numel():
            found, counts = outside.unique(return_counts=True)
            listed = ", ".join(f"{v} ({n} pixels)" for v, n in zip(found.tolist()[:8], counts.tolist()[:8]))
            more = f" and {len(found) - 8} more values" if len(found) > 8 else ""
            allowed = f"0 to {num_classes - 1}"
            if name == "target":
                allowed += "" if ignore_index is None else f", and {ignore_index} for ignored pixels"
            raise ValueError(f"{name} holds class indices outside the classes: {listed}{more}; allowed: {allowed}")
    return pred, target, valid


def _valid_pairs(pred: Tensor, target: Tensor, num_classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return the predicted and the true class of the pixels that count, both int64 (V,), in range."""
    pred, target, valid = class_maps(pred, target, num_classes, ignore_index)
    return (pred.flatten(), target.flatten()) if valid is None else (pred[valid], target[valid])


def _count(pred_V: Tensor, target_V: Tensor, num_classes: int) -> Tensor:
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    with counting_in_any_order():
        return multiclass_confusion_matrix(pred_V, target_V, num_classes, validate_args=False)


@contextlib.contextmanager
def counting_in_any_order() -> Iterator[None]:
    """Lift torch's deterministic mode while integers are counted or numbers summed that float64 holds exactly.

    Such a sum is the same in any order, but in that mode torchmetrics replaces bincount by a comparison of
    every pixel with every cell: a (V, C*C) int64 tensor, 6 GB for one megapixel and 28 classes.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
