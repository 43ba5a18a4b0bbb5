"""Partial labels: images in which only some of the classes were annotated.

In such an image the label `rest_label` means "the background, or any class that was not annotated". What can be said of a
pixel is then the probability of the whole set, the sum over its classes (the marginal). With p a softmax of logits z,

    sum_{c in R} p_c = softmax over (z_annotated, z_R),    z_R = log sum_{c in R} exp z_c

so the image is that of a problem with fewer classes, whose logits are a stable, differentiable function of the given ones. It
is brought into the shape of the others: z_R takes the place of the rest label, and the places of the classes that were merged
into it are emptied and left out of every sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evenseg.statistics.labels import canonical_labels, soft_targets
from evenseg.statistics.types import SegmentStatistics

EMPTY = 1000.0  # so far below the rest a logit has the probability 0 in float64 too, and a finite logarithm


@dataclass(frozen=True)
class PartialLabels:
    """Which classes were annotated in which image, with a rest label other than 0.

    Every loss on sums takes it as `annotated=`, in place of the bare list.

    Attributes:
        annotated: (N, C) bool, or a list of class numbers for each image. The rest label need not be among them.
        rest_label: label of the pixels that are of no annotated class.

    Example:
        >>> import torch
        >>> from evenseg.functional import dice_loss
        >>> from evenseg.statistics import PartialLabels
        >>> logits, target = torch.randn(2, 4, 8, 8), torch.full((2, 8, 8), 3)
        >>> value = dice_loss(logits, target, annotated=PartialLabels([[0], [0, 1, 2]], rest_label=3))
    """

    annotated: Tensor | Sequence[Sequence[int]]
    rest_label: int = 0


@dataclass(frozen=True)
class Marginal:
    """A batch with the classes merged that were not annotated.

    Attributes:
        logits: (N, C, P), with the rest's logit in the place of the rest label.
        target: (N, P) int64 labels, -1 where ignored; (N, C, P) probabilities, NaN where ignored; multilabel maps as given.
        counted: (N, C) bool, which classes of which image enter the sums.
    """

    logits: Tensor
    target: Tensor
    counted: Tensor


def annotated_classes(given: PartialLabels | Tensor | Sequence[Sequence[int]], N: int, C: int) -> tuple[Tensor, int]:
    """(N, C) bool and the rest label, or a ValueError that says what is allowed."""
    named = given if isinstance(given, PartialLabels) else PartialLabels(given)
    given, rest = named.annotated, named.rest_label
    if C < 2:
        raise ValueError("annotated needs several classes, but the logits have one channel (mode='binary')")
    if isinstance(rest, bool) or not isinstance(rest, int) or not 0 <= rest < C:
        raise ValueError(f"rest_label must be a class 0..{C - 1}, got {rest!r}")
    form = f"annotated must be a bool tensor ({N}, {C}) or a list of class numbers for each of the {N} images"
    if isinstance(given, Tensor):
        if given.dtype != torch.bool or tuple(given.shape) != (N, C):
            raise ValueError(f"{form}, got a tensor of {given.dtype} and shape {tuple(given.shape)}")
        return given, rest
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != N:
        raise ValueError(f"{form}, got {len(given)} entries" if isinstance(given, Sequence) else f"{form}, got {given!r}")
    known = torch.zeros(N, C, dtype=torch.bool)
    for n, classes in enumerate(given):
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            raise ValueError(f"{form}, got {classes!r} for image {n}")
        for c in classes:
            if isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < C:
                raise ValueError(f"annotated: image {n} names {c!r}, classes are 0..{C - 1}")
            known[n, c] = True
    return known, rest


def merge_unannotated(logits_NCP: Tensor, target: Tensor, known_NC: Tensor, rest: int, activation: str, ignore: int) -> Marginal:
    """The batch with unannotated classes merged into the rest label.

    Softmax: as derived above. Sigmoids of labels (one class against the rest): the unannotated channels count nowhere in the
    image, nor does that of the rest label if classes were merged into it, since their sum is no sigmoid. Sigmoids of maps
    (multilabel): the unannotated channels count nowhere. An image in which nothing is told apart counts nowhere.

    Args:
        logits_NCP: float32 or float64.
        target: (N, P) labels of any integer type, (N, C, P) integer maps or probabilities.
        known_NC: bool, which classes were annotated.
        rest: the rest label.
        activation: "softmax", "sigmoid" or "hinge".
        ignore: label that counts nowhere.

    Raises:
        ValueError: labels that are no class.
    """
    C = logits_NCP.shape[1]
    known_NC = known_NC.to(logits_NCP.device)
    if activation != "softmax" and target.dim() == 3:
        # the channels know nothing of each other; select, so that an unannotated one has no gradient whatever stands there
        return Marginal(torch.where(known_NC[:, :, None], logits_NCP, 0.0), target, known_NC)
    classes = torch.arange(C, device=known_NC.device)
    is_rest_C = classes == rest
    merged_NC = ~known_NC & ~is_rest_C
    set_NC = merged_NC | is_rest_C
    counted_NC = ~merged_NC
    if activation != "softmax":
        counted_NC = counted_NC & ~(is_rest_C & merged_NC.any(1, keepdim=True))
    tells_N1 = counted_NC.sum(1, keepdim=True) > (1 if activation == "softmax" else 0)
    counted_NC = counted_NC & tells_N1

    if target.is_floating_point():
        y_NCP = soft_targets(target, ignore)
        ignored_N1P = y_NCP.isnan().any(1, keepdim=True) | ~tells_N1[:, :, None]
        of_set = torch.where(set_NC[:, :, None], y_NCP, 0.0).sum(1, keepdim=True).clamp(max=1.0)
        y_NCP = torch.where(is_rest_C[:, None], of_set, torch.where(merged_NC[:, :, None], 0.0, y_NCP))
        new_target = torch.where(ignored_N1P, torch.nan, y_NCP)
        valid_N1P = ~ignored_N1P
    else:
        label_NP = canonical_labels(target, C, ignore)
        becomes_NC = torch.where(merged_NC, rest, classes)
        new_NP = becomes_NC.gather(1, label_NP.clamp(min=0))
        new_target = torch.where((label_NP >= 0) & tells_N1, new_NP, -1)
        valid_N1P = (new_target >= 0)[:, None]

    z_NCP = torch.where(valid_N1P, logits_NCP, 0.0)
    if activation != "softmax":
        return Marginal(torch.where(counted_NC[:, :, None], z_NCP, 0.0), new_target, counted_NC)
    z_rest = torch.where(set_NC[:, :, None], z_NCP, -torch.inf).logsumexp(1, keepdim=True)
    emptied = torch.where(merged_NC[:, :, None], z_rest.detach() - EMPTY, z_NCP)
    return Marginal(torch.where(is_rest_C[:, None], z_rest, emptied), new_target, counted_NC)


def leave_out(stats: SegmentStatistics, counted_NC: Tensor) -> SegmentStatistics:
    """Statistics per image without the classes that do not count in it."""
    C = counted_NC.shape[1]
    share_N1 = C / counted_NC.sum(1, keepdim=True).clamp(min=1).double()

    def cut(name: str, value: Tensor) -> Tensor:
        kept = counted_NC[:, :, None, None] if value.dim() == 4 else counted_NC
        value = torch.where(kept, value, 0)
        return value * share_N1 if name == "nll_all" else value  # losses take the mean over C classes of it

    left = stats.map_sums(cut)
    # an emptied class has no labels, so none of its errors was ranked
    changed: dict = {"ranked": stats.ranked}
    if stats.peak is not None:
        changed["peak"] = torch.where(counted_NC, stats.peak, 0.0)
    if stats.pixel_nll is not None and stats.pixel_nll.dim() == 3:
        kept = counted_NC[:, :, None]
        for name, empty in (("pixel_nll", 0.0), ("pixel_weight", 0.0), ("pixel_labels", -1)):
            changed[name] = torch.where(kept, getattr(stats, name), empty)
    return dataclasses.replace(left, **changed)
