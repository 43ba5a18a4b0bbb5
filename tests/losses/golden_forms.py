"""Words of the tables of golden conventions: from our values and inputs to a peer's."""

from __future__ import annotations

import torch
from golden_cases import Golden
from torch import Tensor

# -- from our value to a peer's ---------------------------------------------------------------------------------------


def minus_score(value: Tensor, g: Golden) -> Tensor:
    """SegLossOdyssey returns minus the score, which is the loss minus one."""
    return value - 1


def over_all_pixels(value: Tensor, g: Golden) -> Tensor:
    """A mean that counts ignored pixels too: our sum over the number of all pixels."""
    return value / g.labels.numel()


def over_all_pixels_and_channels(value: Tensor, g: Golden) -> Tensor:
    return value / g.logits.numel()


def over_channels(value: Tensor, g: Golden) -> Tensor:
    return value / g.channels


def summed_over_channels(value: Tensor, g: Golden) -> Tensor:
    return value * g.channels


def times_images(value: Tensor, g: Golden) -> Tensor:
    return value * g.images_with_labels


def doubled_over_all_pixels(value: Tensor, g: Golden) -> Tensor:
    return 2 * over_all_pixels(value, g)


def ignored_image_costs(cost: float):
    """A wholly ignored image enters the mean over images with this value; ours leaves it out."""

    def after(value: Tensor, g: Golden) -> Tensor:
        counted = g.images_with_labels
        return (value * counted + cost * (g.images - counted)) / g.images

    return after


def images_before_classes(value_NC: Tensor, g: Golden) -> Tensor:
    """The mean over the images that have the class, then over the classes (mIoU-C of JDTLosses)."""
    soft = g.labels.is_floating_point()
    has_NC = torch.stack(
        [(g.labels[:, c] > 0 if soft else g.labels == c).flatten(1).any(1) for c in range(g.channels)], 1
    )
    images_C = has_NC.sum(0)
    mean_C = value_NC.sum(0) / images_C.clamp(min=1)
    return mean_C.sum() / (images_C > 0).sum().clamp(min=1)


# -- inputs ------------------------------------------------------------------------------------------------------------


def soft_with_mask(g: Golden, leaves):
    """Soft labels of pixels that are not kept become the ignore index in every channel."""
    keep = torch.from_numpy(g.inputs["keep_mask"])
    return leaves["logits"], torch.where(keep[:, None], g.labels, 255.0)


def smoothed_binary(g: Golden, leaves):
    """0.1 and 0.9 for 0 and 1, as probabilities."""
    y = g.labels[:, None]
    return leaves["logits"], torch.where(y == 255, 255.0, 0.1 + 0.8 * y.to(leaves["logits"].dtype))


def channels_as_images(g: Golden, leaves):
    """All channels of a multilabel problem in one set of pixels."""
    return leaves["logits"].flatten(0, 1)[:, None], g.labels.flatten(0, 1)


def two_heads(g: Golden, leaves):
    return [leaves["logits"], leaves["aux_logits"]], g.labels


def head_first(g: Golden, leaves):
    """HRNet lists the auxiliary head first."""
    return [leaves["aux_logits"], leaves["logits"]], g.labels


# -- keywords ----------------------------------------------------------------------------------------------------------


def lin(g: Golden) -> list[float]:
    """linspace(0.5, 2, C)"""
    return torch.linspace(0.5, 2, g.channels).tolist()


def no_background(g: Golden) -> list[int]:
    return list(range(1, g.channels))


FIVE = [0.5, 1.0, 2.0, 3.0, 1.5]


def loss(type: str, **keywords):
    return {"type": type, **keywords}


def batch_or_image(type: str, **keywords):
    return loss(type, **keywords), loss(type, per_image=True, **keywords)


RAISES = "the peer raises"

img0, img1 = ignored_image_costs(0.0), ignored_image_costs(1.0)
