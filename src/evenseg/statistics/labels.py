"""The one place that knows what a target may look like: labels, multilabel maps, probabilities, ignored pixels."""

from __future__ import annotations

import torch
from torch import Tensor

NO_IGNORE = -(2**62)  # stands for ignore_index=None: no label is ever equal to it


def flatten_logits(logits: Tensor) -> Tensor:
    """(N, C, *spatial) -> (N, C, P), or a ValueError."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"logits must be a floating point tensor of shape (N, C, *spatial), got {got}")
    if logits.dim() < 2 or logits.shape[1] < 1:
        raise ValueError(f"logits must have shape (N, C, *spatial), got {tuple(logits.shape)}")
    if logits.numel() == 0:
        raise ValueError(f"logits have no pixels: shape {tuple(logits.shape)}")
    return logits.reshape(*logits.shape[:2], -1) if logits.dim() > 2 else logits[:, :, None]


def flatten_target(target: Tensor, logits: Tensor, activation: str) -> Tensor:
    """(N, *spatial) labels -> (N, P); (N, C, *spatial) -> (N, C, P); checks shape and type against the logits'.

    Float targets of label shape are labels if they hold whole numbers, and probabilities of the foreground if the logits
    have one channel.
    """
    if not isinstance(target, Tensor) or target.dtype.is_complex:
        raise ValueError(f"target must be an integer, bool or float tensor, got {getattr(target, 'dtype', type(target).__name__)}")
    if target.device != logits.device:
        raise ValueError(f"target is on {target.device}, logits are on {logits.device}; move one to the other")
    N, C, *spatial = logits.shape
    spatial = spatial or [1]
    label_shape, full_shape = (N, *logits.shape[2:]), tuple(logits.shape)
    if tuple(target.shape) == full_shape and not (C == 1 and not target.is_floating_point()):
        flat = target.reshape(N, C, -1)
        if C > 1 and not target.is_floating_point() and activation == "softmax":
            raise ValueError(
                f"target of shape {tuple(target.shape)} has one map per class; a softmax needs labels of shape {label_shape} or "
                "float class probabilities; for overlapping classes use mode='multilabel'"
            )
    elif tuple(target.shape) in (label_shape, (N, 1, *logits.shape[2:])):
        flat = target.reshape(N, -1)
    else:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, logits {full_shape}: expected labels {label_shape} "
            f"or one map per channel {full_shape}"
        )
    if not flat.is_floating_point():
        return flat.view(torch.uint8) if flat.dtype == torch.bool else flat
    if flat.dim() == 3 and C > 1 and activation == "softmax":
        return flat
    # a traced graph cannot look at the values: what can be probabilities is taken for them
    whole = C > 1 and flat.dim() == 2 if torch.compiler.is_compiling() else bool((flat == flat.round()).all())
    if whole:
        flat = flat.nan_to_num(0.0).long()
        return flat[:, 0] if C == 1 and flat.dim() == 3 else flat
    if flat.dim() == 2 and C > 1:
        raise ValueError("float labels must be whole numbers; class probabilities need shape (N, C, *spatial)")
    return flat if flat.dim() == 3 else flat[:, None]


def flatten_weight(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    """Pixel weights (N, *spatial) -> (N, P), or a ValueError."""
    if weight is None:
        return None
    shape = (logits.shape[0], *logits.shape[2:])
    if not isinstance(weight, Tensor) or tuple(weight.shape) not in (shape, (shape[0], 1, *shape[1:])):
        got = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"pixel_weight must have the shape of the labels, {shape}, got {got}")
    if weight.requires_grad:
        raise ValueError("pixel_weight must not require a gradient; detach it")
    flat = weight.reshape(shape[0], -1).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    if not torch.compiler.is_compiling() and not bool((flat >= 0).all() & flat.isfinite().all()):
        raise ValueError("pixel_weight must be finite and not negative")
    return flat


def soft_targets(target_NCP: Tensor, ignore_index: int) -> Tensor:
    """Probabilities with NaN at ignored pixels (those where every channel equals ignore_index)."""
    ignored = (target_NCP == ignore_index).all(1, keepdim=True) | target_NCP.isnan().any(1, keepdim=True)
    if not torch.compiler.is_compiling():
        inside = ((target_NCP >= 0) & (target_NCP <= 1)) | ignored
        if not bool(inside.all()):
            bad = target_NCP[~inside]
            raise ValueError(f"soft labels must lie in [0, 1], got values from {bad.min().item():g} to {bad.max().item():g}")
    return torch.where(ignored, torch.nan, target_NCP)


@torch.library.custom_op("evenseg::canonical_labels", mutates_args=())
def canonical_labels(target: Tensor, labels_to: int, ignore_index: int) -> Tensor:
    """int64 labels with -1 for ignored pixels; ValueError if one is neither in 0..labels_to-1 nor ignore_index."""
    labels = target.long()
    ignored = labels == ignore_index
    if bool((((labels < 0) | (labels >= labels_to)) & ~ignored).any()):
        raise ValueError(describe_bad_labels(target, labels_to, ignore_index))
    return torch.where(ignored, -1, labels)


@canonical_labels.register_fake
def _(target, labels_to, ignore_index):
    return target.new_empty(target.shape, dtype=torch.int64)


def describe_bad_labels(target: Tensor, labels_to: int, ignore_index: int) -> str:
    """Which values are outside the classes, how many pixels have them, and what to do about it."""
    values, counts = target.reshape(-1).long().unique(return_counts=True)
    bad = [(v, n) for v, n in zip(values.tolist(), counts.tolist()) if (v < 0 or v >= labels_to) and v != ignore_index]
    shown = ", ".join(f"{v} ({n} pixel{'s' if n > 1 else ''})" for v, n in bad[:8]) + (", ..." if len(bad) > 8 else "")
    ignore = "no label is ignored" if ignore_index == NO_IGNORE else f"{ignore_index} is ignored"
    hint = ""
    if [v for v, _ in bad] == [255]:
        hint = "; if 255 marks pixels to leave out, set ignore_index=255; if it marks the foreground, map it to 1"
    elif [v for v, _ in bad] == [labels_to]:
        hint = "; are the labels counted from 1? subtract 1, or give the model one more class"
    return f"target has labels outside the classes 0..{labels_to - 1} ({ignore}): {shown}{hint}"
