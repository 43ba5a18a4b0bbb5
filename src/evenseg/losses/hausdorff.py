"""Hausdorff loss."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.class_maps import ClassMapLoss, ClassMapOptions
from evenseg.losses.distance import distance_transform
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import Maps
from evenseg.losses.options import flag, number


class HausdorffLoss(ClassMapLoss):
    """Squared errors weighted by powers of their distance to the boundaries of prediction and labels: fewer far-off mistakes.

    L_c = sum_i w_i (p_c(i) - y_c(i))^2 (d_p(i)^alpha + d_y(i)^alpha) / sum_i w_i over the valid pixels i of the group; mean over
    classes, then groups. p_c is the probability of class c, y_c = 1 on its label and 0 elsewhere, w the pixel weight, d_y(i) the
    distance in pixels from i to the nearest valid pixel on the other side of the class (from inside to the nearest pixel outside, and the
    reverse), d_p the same for the prediction p_c > 1/2; 0 everywhere where an image has only one side. Distances have no gradient.

    The paper adds a Dice loss and balances the two after every epoch; here by the coefs of a mix. Values grow with the image's size.

    Args:
        alpha: exponent of the distances; between 1 and 3 in the paper, 2 was best.
        one_sided: without d_p, which spares its transforms in every step (the paper's L_DT-OS).
        **common: see :class:`evenseg.losses.class_maps.ClassMapLoss`. classes="all" by default, for mistakes of absent classes count
            by their own d_p. MONAI's HausdorffDTLoss is classes="foreground", per_image=True (its `include_background` is "all").

    Range: [0, 2 D^alpha] with D the diagonal of the image in pixels.

    Source: Karimi and Salcudean, Reducing the Hausdorff distance in medical image segmentation with convolutional neural networks, IEEE
    TMI 2020, the form by distance transforms. The paper leaves open what an empty mask is: 0 as in MONAI.

    Example:
        >>> import torch
        >>> from evenseg.functional import hausdorff_loss
        >>> hausdorff_loss(torch.zeros(1, 1, 1, 4), torch.tensor([[[1, 0, 0, 0]]]), mode="binary").item()
        0.9375
    """

    default_classes = "all"

    def __init__(self, *, alpha: float = 2.0, one_sided: bool = False, **common: Unpack[ClassMapOptions]):
        super().__init__(**common)
        self.alpha = number("alpha", alpha, 0, open_low=True)
        self.one_sided = flag("one_sided", one_sided)

    def class_values(self, maps: Maps) -> Tensor:
        p = maps.probs()
        distance = boundary_distance(maps.truth > 0, maps.valid, p.dtype) ** self.alpha
        if not self.one_sided:
            distance = distance + boundary_distance(p.detach() > 0.5, maps.valid, p.dtype) ** self.alpha
        return self.pixel_mean((p - maps.truth) ** 2 * distance, maps)


@torch.no_grad()
def boundary_distance(member_NC: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, *spatial) distance of every valid pixel to the other side of its class; 0 in maps with one side only."""
    inside, outside = member_NC & valid, ~member_NC & valid
    to_inside, to_outside = (distance_transform(side.flatten(0, 1), dtype).view(side.shape) for side in (inside, outside))
    distance = torch.where(inside, to_outside, torch.where(outside, to_inside, 0.0))
    return torch.where(distance.isinf(), 0.0, distance)


hausdorff_loss = functional(HausdorffLoss)
