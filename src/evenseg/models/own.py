"""A network that is none of ours under this package's model contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evenseg.models.padding import pad_to_multiple, resize


class OwnModel(nn.Module):
    """Wraps a network named by its import path.

    `forward` takes images of any size, pads them to a multiple of the network's stride, and returns a list of logits of
    the image's size, main output first; logits of another size are resized (bilinear).

    Args:
        network: takes images (N, in_channels, H, W); returns logits (N, C, h, w), or a list or a mapping of several such
            tensors. Where it has no attribute `num_outputs`, they are counted on a black image of 64x64; `stride` is 1
            where it has none. `head`, the layer that makes the main logits, is needed by losses that read features.
        in_channels: of the images.

    Raises:
        ValueError: `network` is no module, or does not take that image.
    """

    def __init__(self, network: nn.Module, in_channels: int = 3) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"it built a {type(network).__name__}; a model must be a torch.nn.Module")
        self.network = network
        self.stride = int(getattr(network, "stride", 1))  # type: ignore[arg-type]
        given = getattr(network, "num_outputs", None)
        self.num_outputs = int(given) if given is not None else self._count(in_channels)  # type: ignore[arg-type]

    @property
    def head(self) -> Any:
        """The network's layer of this name, None where it has none."""
        return getattr(self.network, "head", None)

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.stride)
        return [resize(output, padded)[..., :height, :width] for output in _as_list(self.network(padded))]

    @torch.no_grad()
    def _count(self, in_channels: int) -> int:
        self.network.eval()
        try:
            return len(_as_list(self.network(torch.zeros(1, in_channels, 64, 64))))
        except (RuntimeError, TypeError, ValueError) as error:
            message = " ".join(str(error).split())
            raise ValueError(
                f"it does not take an image (1, {in_channels}, 64, 64), so its outputs cannot be counted ({message}); "
                "give it an attribute num_outputs"
            ) from error
        finally:
            self.network.train()


def _as_list(outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return list(outputs.values() if isinstance(outputs, Mapping) else outputs)
