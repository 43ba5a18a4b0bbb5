"""`segment_statistics`: checks the input, chooses an engine, sums over the pixels and, if asked, over the ranks."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from evenseg.statistics.bins import check_bins, histogram_size
from evenseg.statistics.eager import eager_statistics
from evenseg.statistics.labels import (
    NO_IGNORE,
    canonical_labels,
    describe_bad_labels,
    flatten_logits,
    flatten_target,
    flatten_weight,
    soft_targets,
)
from evenseg.statistics.partial import PartialLabels, annotated_classes, leave_out, merge_unannotated
from evenseg.statistics.sync import sum_over_ranks
from evenseg.statistics.types import ACTIVATIONS, DEFAULT_BINS, ENGINES, Members, SegmentStatistics

_HAS_NUMBA = importlib.util.find_spec("numba") is not None
_HAS_TRITON = importlib.util.find_spec("triton") is not None


def segment_statistics(
    logits: Tensor,
    target: Tensor,
    members: Members,
    *,
    activation: str = "softmax",
    per_image: bool = False,
    num_bins: int = DEFAULT_BINS,
    ignore_index: int | None = 255,
    pixel_weight: Tensor | None = None,
    annotated: PartialLabels | Tensor | Sequence[Sequence[int]] | None = None,
    sync: bool = False,
    engine: str = "auto",
) -> SegmentStatistics:
    """Differentiable sums over the pixels of a segmentation batch, in one pass over the logits.

    With p = softmax(logits) over the channels, or sigmoid(logits) channel by channel, and y_c the indicator (or the
    probability) of class c: sums of p_c, p_c², p_c y_c, -log p_c, focal terms, label counts and the histogram of the
    errors m = |y_c - p_c|, each per group and class. :class:`Members` says which.

    Args:
        logits: (N, C, *spatial), any float type and memory format; half precision is summed in float32.
        target: (N, *spatial) labels of any integer type, bool, or float holding whole numbers; (N, C, *spatial) 0/1 maps for
            sigmoid outputs; (N, C, *spatial) float probabilities (eager engine).
        members: the statistics asked for; only they are computed.
        activation: "softmax"; "sigmoid" (labels of several channels count as one-vs-rest); "hinge": as sigmoid, but the
            histogram holds hinge errors max(0, 1 - (2y-1) logit).
        per_image: one group per image instead of one for the batch.
        num_bins: bins of the error histogram, a multiple of 16; hinge errors get four times as many.
        ignore_index: label left out everywhere, or None.
        pixel_weight: (N, *spatial) non-negative weights of the pixels; all sums and counts are weighted.
        annotated: which classes were annotated in which image: (N, C) bool, a list of class numbers per image, or
            :class:`PartialLabels`; None for all. The other classes of an image are merged with the rest label 0: their
            probabilities are added, and they enter no sum of the image. See `evenseg.statistics.partial`.
        sync: under torch.distributed, sum over the ranks too, with gradients scaled so that the averaging of
            DistributedDataParallel yields the gradient of the global batch. Ignored with `per_image`.
        engine: "auto", "eager" (the definition), "numba" (CPU), "triton" (CUDA). A forced engine never falls back. On CUDA, labels
            outside the classes make the sums NaN at once and raise at a later call: asking would stall the host.

    Returns:
        SegmentStatistics in float64 and int64.

    Raises:
        ValueError: for shapes, types, labels or options that do not fit, saying what was received.

    Example:
        >>> import torch
        >>> from evenseg.statistics import Members, segment_statistics
        >>> logits = torch.zeros(1, 2, 2, 2)
        >>> target = torch.tensor([[[0, 1], [1, 255]]])
        >>> s = segment_statistics(logits, target, Members(prob=True, overlap=True), engine="eager")
        >>> s.labels.tolist(), s.prob.tolist(), s.overlap.tolist()
        ([[1, 2]], [[1.5, 1.5]], [[0.5, 1.0]])
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    logits_NCP = flatten_logits(logits)
    if activation == "softmax" and logits_NCP.shape[1] == 1:
        raise ValueError("a softmax over one channel is constant; use mode='binary' for a single logit")
    flat = flatten_target(target, logits, activation)
    weight_NP = flatten_weight(pixel_weight, logits)
    num_bins = histogram_size(check_bins(num_bins), activation)
    name, _ = choose_engine(logits_NCP, flat, engine)
    ignore = NO_IGNORE if ignore_index is None else int(ignore_index)
    labels_to = 2 if flat.dim() == 3 or logits_NCP.shape[1] == 1 else logits_NCP.shape[1]
    soft = flat.is_floating_point()
    partial = None if annotated is None else annotated_classes(annotated, *logits_NCP.shape[:2])
    if partial is not None and not sync and not torch.compiler.is_compiling() and bool(partial[0].all()):
        partial = None  # nothing is merged; ranks must take the same way together
    if (name != "triton" or partial is not None) and logits_NCP.dtype in (torch.float16, torch.bfloat16):
        logits_NCP = logits_NCP.float()
    of_image = per_image
    with torch.autocast(logits.device.type, enabled=False):
        if partial is not None:
            marginal = merge_unannotated(logits_NCP, flat, *partial, activation, ignore)
            logits_NCP, flat = marginal.logits, marginal.target
            if flat.dim() == 2:
                ignore = -1
            # image by image, since the classes of the sums differ; a class that one image lacks may be in another
            of_image = True
            if not per_image:
                members = dataclasses.replace(members, absent=True, ranks=False)
        if name == "triton":
            from evenseg.statistics.triton import triton_statistics
            from evenseg.statistics.triton.late_check import check_labels

            raw = flat if flat.dtype in (torch.uint8, torch.int64) else flat.long()
            stats, bad = triton_statistics(logits_NCP, raw, members, activation, of_image, num_bins, weight_NP, ignore)
            check_labels(bad, flat, labels_to, ignore)
            if members.pixel_nll:
                stats = _with_pixel_maps(stats, _canonical_unchecked(raw, ignore), weight_NP)
        elif name == "numba":
            from evenseg.statistics.numba import numba_statistics
            from evenseg.statistics.numba.engine import BadLabelsError

            raw = flat if flat.dtype in (torch.uint8, torch.int64) else flat.long()
            try:
                stats = numba_statistics(logits_NCP, raw, members, activation, of_image, num_bins, weight_NP, ignore)
            except BadLabelsError:
                raise ValueError(describe_bad_labels(flat, labels_to, ignore)) from None
            if members.pixel_nll:
                stats = _with_pixel_maps(stats, canonical_labels(raw, labels_to, ignore), weight_NP)
        else:
            prepared = soft_targets(flat, ignore) if soft else canonical_labels(flat, labels_to, ignore)
            stats = eager_statistics(logits_NCP, prepared, members, activation, of_image, num_bins, weight_NP)
        if partial is not None:
            stats = leave_out(stats, marginal.counted)
            stats = stats if per_image else stats.pooled()
        images, _, pixels = logits_NCP.shape
        groups, each = (images, pixels) if per_image else (1, images * pixels)
        stats = dataclasses.replace(stats, area=torch.full((groups, 1), each, dtype=torch.int64, device=logits.device))
        if stats.peak is not None:
            stats = dataclasses.replace(stats, peak=torch.where(stats.labels > 0, 0.0, stats.peak))
        if sync and not per_image:
            stats = sum_over_ranks(stats)
    return stats


def _canonical_unchecked(target: Tensor, ignore: int) -> Tensor:
    """Labels with -1 for ignored pixels, where the kernels have looked for bad ones."""
    labels = target.long()
    return torch.where(labels == ignore, -1, labels)


def _with_pixel_maps(stats: SegmentStatistics, labels: Tensor, weight_NP: Tensor | None) -> SegmentStatistics:
    nll = stats.pixel_nll
    assert nll is not None
    if nll.dim() == 3:  # sigmoid: is this pixel of this channel foreground?
        if labels.dim() == 2 and nll.shape[1] > 1:
            channel = torch.arange(nll.shape[1], device=labels.device)[None, :, None]
            labels = torch.where(labels[:, None] < 0, -1, (labels[:, None] == channel).long())
        elif labels.dim() == 2:
            labels = labels[:, None]
    weight = (labels >= 0).to(nll.dtype)
    if weight_NP is not None:
        weight = weight * (weight_NP if nll.dim() == 2 else weight_NP[:, None]).to(nll.dtype)
    return dataclasses.replace(stats, pixel_labels=labels, pixel_weight=weight)


def choose_engine(logits: Tensor, target: Tensor, engine: str = "auto") -> tuple[str, str]:
    """(engine, reason) for a prepared batch; ValueError if a forced engine cannot do it."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "eager":
        return "eager", "asked for"
    obstacles = {"numba": _numba_obstacle(logits, target), "triton": _triton_obstacle(logits, target)}
    if engine != "auto":
        if obstacles[engine]:
            raise ValueError(f"engine={engine!r} cannot be used: {obstacles[engine]}; use engine='auto' or 'eager'")
        return engine, "asked for"
    name = "triton" if logits.device.type == "cuda" else "numba"
    obstacle = obstacles[name]
    if obstacle:
        return "eager", obstacle
    if logits.dtype == torch.float64:
        return "eager", "float64 logits are for checks, which the definition serves best"
    return name, f"hard labels on {'a CUDA device' if name == 'triton' else 'the CPU'}"


def _numba_obstacle(logits: Tensor, target: Tensor) -> str | None:
    """Why the CPU kernels cannot serve these tensors, or None."""
    if logits.device.type != "cpu":
        return f"the logits are on {logits.device}"
    if target.is_floating_point():
        return "the targets are probabilities"
    return None if _HAS_NUMBA else "numba is not installed"


def _triton_obstacle(logits: Tensor, target: Tensor) -> str | None:
    """Why the CUDA kernels cannot serve these tensors, or None. Triton's interpreter takes tensors on the CPU."""
    if logits.device.type != "cuda" and not (logits.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return f"the logits are on {logits.device}"
    if target.is_floating_point():
        return "the targets are probabilities"
    if logits.dtype == torch.float64:
        return "the logits are float64"
    return None if _HAS_TRITON else "triton is not installed"


def explain(logits: Tensor, target: Tensor, engine: str = "auto", activation: str = "softmax") -> str:
    """Which engine a call with these tensors would use, and why."""
    flat = flatten_target(target, logits, activation)
    name, reason = choose_engine(logits, flat, engine)
    return f"{name}: {reason}"
