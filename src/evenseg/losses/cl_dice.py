"""Centreline Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.class_maps import ClassMapLoss, ClassMapOptions
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import Maps
from evenseg.losses.options import number


class ClDiceLoss(ClassMapLoss):
    """One minus the Dice of centrelines: whether thin, branching structures (roads, vessels, cracks) stay connected.

    L_c = 1 - 2 T_prec T_sens / (T_prec + T_sens), T_prec = (sum w S(p) y + s) / (sum w S(p) + s), T_sens = (sum w S(y) p + s) /
    (sum w S(y) + s), over the valid pixels of the group; mean over classes, then groups. p is the probability of class c, y = 1
    on its label and 0 elsewhere, w the pixel weight, s = `smooth`, S(x) the soft skeleton of a map x: what openings by one pixel take
    away from x and from its erosions, S <- S + relu(D - S D) with D = relu(x_k - dilate(erode(x_k))), x_k = x eroded k times;
    an erosion takes the smallest value of a pixel and its neighbours along the axes, a dilation the largest of its 3 x 3 (x 3) block.

    It says nothing of widths: the paper mixes it with a Dice loss, (1 - a) Dice + a clDice with a up to 0.5.

    Args:
        iterations: number of erosions, at least the radius in pixels of the widest structure; 3 as in the authors' code. Time and
            memory grow with it.
        smooth: s in pixels, above 0. 1 as in the authors' code.
        **common: see :class:`evenseg.losses.class_maps.ClassMapLoss`. classes="foreground" by default, as in the authors' code.

    Range: [0, 1].

    Source: Shit et al., clDice, a novel topology-preserving loss function for tubular structure segmentation, CVPR 2021, algorithms
    1 and 2. The authors' code takes one sum over all foreground classes, here each has its own. Ignored pixels are 0 in both maps.

    Example:
        >>> import torch
        >>> from evenseg.losses import ClDiceLoss, DiceLoss, MixedLoss
        >>> mix = MixedLoss([DiceLoss(mode="binary"), ClDiceLoss(mode="binary")], coef=[0.5, 0.5])
        >>> mix(torch.zeros(1, 1, 8, 8, requires_grad=True), torch.eye(8)[None].long()).backward()
    """

    default_classes = "foreground"
    dimensions = (2, 3)

    def __init__(self, *, iterations: int = 3, smooth: float = 1.0, **common: Unpack[ClassMapOptions]):
        super().__init__(**common)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
            raise ValueError(f"iterations must be a number of erosions, 0 or more, got {iterations!r}")
        self.iterations = iterations
        self.smooth = number("smooth", smooth, 0, open_low=True)

    def class_values(self, maps: Maps) -> Tensor:
        p, y, w, s = torch.where(maps.valid, maps.probs(), 0.0), maps.truth, maps.weight, self.smooth
        of_p, of_y = soft_skeleton(p, self.iterations) * w, soft_skeleton(y, self.iterations) * w
        on_y, all_p, on_p, all_y = self.grouped(of_p * y, of_p, of_y * p, of_y)
        precision, sensitivity = (on_y + s) / (all_p + s), (on_p + s) / (all_y + s)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def soft_skeleton(x: Tensor, iterations: int) -> Tensor:
    """(N, C, *spatial) centrelines of maps with values in [0, 1], 2-D or 3-D."""
    skeleton = torch.zeros_like(x)
    for k in range(iterations + 1):
        eroded = erode(x)
        removed = F.relu(x - dilate(eroded))
        skeleton = removed if k == 0 else skeleton + F.relu(removed - skeleton * removed)
        x = eroded
    return skeleton


def erode(x: Tensor) -> Tensor:
    """Smallest value of a pixel and its neighbours along the axes."""
    dims = x.dim() - 2
    pool = F.max_pool2d if dims == 2 else F.max_pool3d
    smallest = x
    for axis in range(dims):
        size = [3 if axis == a else 1 for a in range(dims)]
        smallest = torch.minimum(smallest, -pool(-x, size, 1, [k // 2 for k in size]))
    return smallest


def dilate(x: Tensor) -> Tensor:
    """Largest value of a pixel's 3 x 3 (x 3) block."""
    return (F.max_pool2d if x.dim() == 4 else F.max_pool3d)(x, 3, 1, 1)


cl_dice_loss = functional(ClDiceLoss)
