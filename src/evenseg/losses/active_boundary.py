"""Active boundary loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.distance import distance_transform
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import flag, number, one_of

# (dy, dx) to the neighbours, in the published order, which decides between equal distances
DIRECTIONS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
STAY = len(DIRECTIONS)
LOWEST_SCORE = 1e-5
OUTSIDE = 1e5  # distance of what lies outside the image


class ActiveBoundaryLoss(MapLoss):
    """Moves the predicted boundary, pixel by pixel, one step towards the nearest boundary of the labels; beside CE and an IoU loss.

    L = sum_i w_i min(M_i, d) / d * H(t_i, softmax_j KL(P_j || P_i)) / sum_i w_i over the pixels i of the predicted boundary, where
    P_i are the class probabilities of pixel i, j its 8 neighbours, M_i the distance to the nearest boundary of the labels in
    pixels, t_i the neighbour where M is smallest, H the cross-entropy with smoothed labels, d = `max_clip_dist`, w the pixel weight
    times the class weight of the label.

    - The predicted boundary of an image: its max_ratio * H * W pixels of largest KL(P_i || P_right) + KL(P_i || P_below) > 1e-5, and
      their neighbours; not those that lie on the labels' boundary (M_i = 0) or have no neighbour closer to it.
    - The boundary of the labels: pixels whose right or lower neighbour has another label.
    - An image without such a boundary, or whose probabilities are the same everywhere, adds nothing.
    - Ignored pixels are no boundary and nothing moves into them: an ignored neighbour is treated like one outside the image.

    The loss alone, or beside CE alone, is nearly useless; its paper uses CE + Lovász-Softmax + w ABL, w = 1 on ADE20K and 1.5 on
    Cityscapes. Perfect predictions do not cost 0: pixels beside the boundary count too. 2-D only.

    Args:
        max_ratio: share of an image's pixels that seed its predicted boundary; at least one pixel.
        max_clip_dist: distance in pixels from which on a boundary pixel weighs no more.
        label_smoothing: share of the target that goes to the other directions.
        smoothing_classes: by what this share is divided: 7 other directions (paper), or 8 as in the published code, whose targets
            then sum to 0.975. None: 7, and 8 with convention="published".
        detach: take the neighbours' probabilities as fixed. Without it the authors lost 4 points of mIoU.
        convention: "paper", or "published" for the numbers of the published code: one threshold for the whole batch, raised by
            factors of 1.2 until at most max_ratio pixels of ONE image are above it (8 images share what each has here, and
            where many pixels have the same score it jumps over them all); distances floor(M - 1), so that the
            neighbours of the boundary weigh nothing; pixels on the boundary count in the mean; ignored pixels are boundary, and the logits
            under them take part.
        **common: see :class:`evenseg.losses.maps.MapLoss`. In mode "binary" `weight` holds two numbers, for labels 0 and 1; in
            mode "multilabel" every channel is an image of its own.

    Range: [0, inf).

    Source: Wang et al., Active boundary loss for semantic segmentation, AAAI 2022, section 3. KL(P_j || P_i) as in their code; the paper
    has the reverse. Their code also returns nothing (None) where no score is above the threshold, NaN where no pixel is
    left, and draws the boundaries of images without one to the top left corner; here all of these are 0. They enlarge smaller logits with
    align_corners=True, `build_loss` without.

    Example:
        >>> import torch
        >>> from evenseg.losses import ActiveBoundaryLoss, CrossEntropyLoss, LovaszSoftmaxLoss, MixedLoss
        >>> mix = MixedLoss([CrossEntropyLoss(), LovaszSoftmaxLoss(), ActiveBoundaryLoss()], coef=[1, 1, 1.5])
        >>> logits = torch.randn(2, 3, 16, 16, requires_grad=True)
        >>> mix(logits, torch.arange(3).repeat(2, 16, 6)[:, :, :16]).backward()
    """

    dimensions = (2,)

    def __init__(
        self,
        *,
        max_ratio: float = 0.01,
        max_clip_dist: float = 20.0,
        label_smoothing: float = 0.2,
        smoothing_classes: int | None = None,
        detach: bool = True,
        convention: str = "paper",
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.max_ratio = number("max_ratio", max_ratio, 0, 1, open_low=True)
        self.max_clip_dist = number("max_clip_dist", max_clip_dist, 0, open_low=True)
        self.label_smoothing = number("label_smoothing", label_smoothing, 0, 1)
        self.published = one_of("convention", convention, ("paper", "published")) == "published"
        self.smoothing_classes = one_of("smoothing_classes", smoothing_classes, (None, 7, 8)) or (8 if self.published else 7)
        self.detach = flag("detach", detach)

    def weight_length(self, num_classes: int) -> int:
        return 2 if self.mode == "binary" else num_classes

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        logits, labels, weight = self._classes(maps)
        valid = labels >= 0
        with torch.no_grad():
            true = labels_boundary(labels, ignored_too=self.published)
            distance = distance_transform(true, logits.dtype)
            if self.published:
                distance = torch.where(true, 0.0, (distance - 1).floor())
                seeds = scores_over_threshold(logits, torch.ones_like(valid), self.max_ratio, self.over_ranks)
            else:
                seeds = highest_scores(logits, valid, self.max_ratio)
            predicted = F.max_pool2d(seeds[:, None].to(logits.dtype), 3, 1, 1)[:, 0] > 0
            predicted &= true.flatten(1).any(1)[:, None, None]
            if not self.published:
                predicted &= valid & (distance > 0)
                distance = torch.where(valid, distance, OUTSIDE)
            n, y, x = predicted.nonzero().unbind(1)
            padded = F.pad(distance, (1, 1, 1, 1), value=OUTSIDE)
            # argmin takes the first of several
            target = torch.stack([padded[n, y + 1 + dy, x + 1 + dx] for dy, dx in (*DIRECTIONS, (0, 0))], 1).argmin(1)
            moves = target != STAY
            n, y, x, target = n[moves], y[moves], x[moves], target[moves]
            importance = distance[n, y, x].clamp(max=self.max_clip_dist) / self.max_clip_dist
        divergence = self._divergences(logits, valid, n, y, x)
        log_share = divergence.log_softmax(1)
        at_target = log_share.gather(1, target[:, None])[:, 0]
        others = log_share.sum(1) - at_target
        cost = -(1 - self.label_smoothing) * at_target - self.label_smoothing / self.smoothing_classes * others
        weight = weight[n, y, x]
        return self.mean((weight * importance * cost).sum(), weight.sum())

    def _classes(self, maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, K, H, W) of K >= 2 classes, labels (M, H, W), -1 where ignored, and weights (M, H, W)."""
        logits = maps.raw_logits if self.published else maps.logits
        labels, weight = maps.labels, maps.weight[:, 0]
        if self.mode == "multilabel":
            labels = torch.where(maps.valid, maps.truth.long(), -1).flatten(0, 1)
            weight = maps.weight.expand_as(maps.valid).flatten(0, 1)
            if self.weight is not None:
                weight = weight * self.class_weight(maps).repeat(len(logits))[:, None, None]
            logits = logits.flatten(0, 1)[:, None]
        assert labels is not None  # soft labels are refused
        if self.published:
            weight = torch.where(labels >= 0, weight, 1.0)
        if self.weight is not None and self.mode != "multilabel":
            weight = weight * torch.where(labels >= 0, self.weight.to(weight.dtype)[labels.clamp(min=0)], 1.0)
        if self.mode != "multiclass":
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        return logits, labels, weight

    def _divergences(self, logits: Tensor, valid: Tensor, n: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """(B, 8) KL(P_j || P_i) of the pixels' neighbours j; beyond the image its border goes on."""
        H, W = valid.shape[1:]
        here = logits[n, :, y, x].log_softmax(1)
        # gradients into a padded copy never meet in one place, so their sum does not depend on the order of the threads
        source = logits.detach() if self.detach else F.pad(logits, (1, 1, 1, 1), mode="replicate")
        out = []
        for dy, dx in DIRECTIONS:
            v, u = (y + dy).clamp(0, H - 1), (x + dx).clamp(0, W - 1)
            there = (source[n, :, v, u] if self.detach else source[n, :, y + dy + 1, x + dx + 1]).log_softmax(1)
            divergence = (there.exp() * (there - here)).sum(1)
            out.append(divergence if self.published else torch.where(valid[n, v, u], divergence, 0.0))
        return torch.stack(out, 1)


def labels_boundary(labels: Tensor, *, ignored_too: bool) -> Tensor:
    """(N, H, W) pixels whose right or lower neighbour has another label; -1 is ignored: no boundary, or all of it boundary."""
    boundary = labels < 0 if ignored_too else torch.zeros_like(labels, dtype=torch.bool)
    for axis in (1, 2):
        one, other = labels.narrow(axis, 0, labels.shape[axis] - 1), labels.narrow(axis, 1, labels.shape[axis] - 1)
        differs = one != other
        if not ignored_too:
            differs &= (one >= 0) & (other >= 0)
        boundary.narrow(axis, 0, labels.shape[axis] - 1).logical_or_(differs)
    return boundary


def boundary_scores(logits: Tensor, valid: Tensor) -> Tensor:
    """(N, H, W) KL(P_i || P_right) + KL(P_i || P_below), of pairs of valid pixels."""
    scores = torch.zeros(valid.shape, dtype=logits.dtype, device=logits.device)
    for score, z, ok in zip(scores, logits, valid):  # image by image, for the memory
        log_p = z.log_softmax(0)
        p = log_p.exp()
        for axis in (0, 1):
            size = ok.shape[axis] - 1
            one, other = log_p.narrow(axis + 1, 0, size), log_p.narrow(axis + 1, 1, size)
            divergence = (p.narrow(axis + 1, 0, size) * (one - other)).sum(0)
            both = ok.narrow(axis, 0, size) & ok.narrow(axis, 1, size)
            score.narrow(axis, 0, size).add_(torch.where(both, divergence, 0.0))
    return scores


def highest_scores(logits: Tensor, valid: Tensor, max_ratio: float) -> Tensor:
    """(N, H, W) the max_ratio * H * W pixels of the largest score in each image, as far as it is above `LOWEST_SCORE`."""
    scores = boundary_scores(logits, valid).flatten(1)
    value, pixel = scores.topk(max(1, int(max_ratio * scores.shape[1])), sorted=False)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, pixel, value > LOWEST_SCORE).view(valid.shape)


def scores_over_threshold(
    logits: Tensor, valid: Tensor, max_ratio: float, over_ranks: Callable[[Tensor], tuple[Tensor, ...]] = lambda x: (x,)
) -> Tensor:
    """(N, H, W) pixels above one threshold for the batch (of all ranks), raised in steps until few enough are left."""
    scores = boundary_scores(logits, valid)
    most, threshold = max_ratio * scores[0].numel(), LOWEST_SCORE
    while int(over_ranks((scores > threshold).sum())[0]) > most:
        threshold *= 1.2
    return scores > threshold


active_boundary_loss = functional(ActiveBoundaryLoss)
