"""The feature map from which a network's last layer makes its logits, for losses that compare pixels by it."""

from __future__ import annotations

import math

from torch import Tensor, nn


def feature_head(model: nn.Module) -> nn.Module:
    """Returns the module whose input is the network's last feature map: its attribute `head`.

    Every network of this package has one. One of your own under :class:`evenseg.models.OwnModel` gets one by naming the
    layer that makes its main logits `head`.

    Raises:
        ValueError: there is none, naming the network.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module):
        network = getattr(model, "network", model)
        raise ValueError(
            f"{type(network).__name__} shows no feature map: give it an attribute `head`, the module that makes the logits from it"
        )
    return head


class WithFeatures(nn.Module):
    """Calls a network and returns its outputs and, last, its features (N, D, h, w), cut to the image and without gradient.

    Args:
        model: images (N, C, H, W) -> list of logits; with `head` and `stride`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.head = feature_head(model)

    def forward(self, image: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []
        # noted and let go in every call: a network that is used without this wrapper is never slowed down
        handle = self.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            outputs = self.model(image)
        finally:
            handle.remove()
        if not seen:
            raise ValueError(f"{type(self.model).__name__} made its logits without its `head`, so its features are not known")
        features = seen[-1].detach()
        for axis in (2, 3):
            # networks pad images at the bottom and the right to a multiple of their stride
            length, stride = image.shape[axis], int(self.model.stride)  # type: ignore[arg-type]
            padded = math.ceil(length / stride) * stride
            features = features.narrow(axis, 0, max(1, round(features.shape[axis] * length / padded)))
        return [*outputs, features]
