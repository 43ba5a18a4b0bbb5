"""Signed distance boundary loss."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.class_maps import ClassMapLoss, ClassMapOptions
from evenseg.losses.distance import distance_transform
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import Maps
from evenseg.losses.options import flag


class SignedDistanceBoundaryLoss(ClassMapLoss):
    """Probability weighted by the signed distance to the boundary of the labels: wrong pixels cost more the farther away they are.

    L_c = sum_i w_i phi_c(i) p_c(i) / sum_i w_i over the valid pixels i of the group; mean over classes, then groups. p_c is the
    probability of class c, w the pixel weight, phi_c(i) in pixels: outside the class the distance to its nearest pixel, inside
    minus (the distance to the nearest pixel of another class less one), so that it is 0 along the inner side of the boundary. phi_c = 0
    everywhere where an image has no valid pixel of the class, or none of another.

    It is meant beside a region loss (alone it has poor minima: an empty prediction costs little). The schedules of the paper are those
    of the mix: coefs 1 - a and a with `phases` that raise a ("rebalance"), or a fixed coef with an ever larger one beside it ("increase").

    Args:
        nonnegative: weigh p_c - y_c (y = 1 on the label's class, else 0) instead of p_c: the same gradient, and a value that is 0
            for right predictions instead of negative.
        **common: see :class:`evenseg.losses.class_maps.ClassMapLoss`. classes="present" by default; the paper names the foreground
            classes of each data set: "foreground" or a list.

    Range: [-D, D] with D the diagonal of the image in pixels ([0, D] with nonnegative).

    Source: Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019 and Medical Image Analysis 2021, eq. 5.
    Distances as in the authors' code, but for a class that fills the image: there it measures to a place outside the image.

    Example:
        >>> import torch
        >>> from evenseg.losses import DiceLoss, MixedLoss, SignedDistanceBoundaryLoss
        >>> mix = MixedLoss([DiceLoss(mode="binary"), SignedDistanceBoundaryLoss(mode="binary")], coef=[1, 0.01])
        >>> mix(torch.zeros(1, 1, 4, 6, requires_grad=True), torch.eye(6)[None, :4].long()).backward()
    """

    def __init__(self, *, nonnegative: bool = False, **common: Unpack[ClassMapOptions]):
        super().__init__(**common)
        self.nonnegative = flag("nonnegative", nonnegative)

    def class_values(self, maps: Maps) -> Tensor:
        p = maps.probs()
        phi = signed_distance(maps.truth > 0, maps.valid, p.dtype)
        return self.pixel_mean(phi * (p - maps.truth if self.nonnegative else p), maps)


@torch.no_grad()
def signed_distance(member_NC: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, *spatial) distances in pixels: positive outside the class, 0 and less inside; 0 in maps without an inside or an outside."""
    inside, outside = member_NC & valid, ~member_NC & valid
    to_inside, to_outside = (distance_transform(side.flatten(0, 1), dtype).view(side.shape) for side in (inside, outside))
    phi = torch.where(inside, 1 - to_outside, torch.where(outside, to_inside, 0.0))
    return torch.where(phi.isinf(), 0.0, phi)


signed_distance_boundary_loss = functional(SignedDistanceBoundaryLoss)
