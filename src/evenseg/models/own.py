"""A network that is none of ours under this package's model contract."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class OwnModel(nn.Module):
    """Wraps a network named by its import path: `forward` returns a list of logits, main output first.

    Args:
        network: takes images (N, 3, H, W); returns logits (N, C, h, w), or a list or a mapping of several such tensors.
            Where it has no attribute `num_outputs`, they are counted on a black image of 64x64; `stride` is 1 where
            it has none.

    Raises:
        ValueError: `network` is no module, or does not take that image.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"it built a {type(network).__name__}; a model must be a torch.nn.Module")
        self.network = network
        given = getattr(network, "num_outputs", None)
        self.num_outputs = int(given) if given is not None else self._count()  # type: ignore[arg-type]
        self.stride = int(getattr(network, "stride", 1))  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> list[Tensor]:
        outputs = self.network(image)
        if isinstance(outputs, Tensor):
            return [outputs]
        return list(outputs.values() if isinstance(outputs, Mapping) else outputs)

    @torch.no_grad()
    def _count(self) -> int:
        self.network.eval()
        try:
            return len(self.forward(torch.zeros(1, 3, 64, 64)))
        except (RuntimeError, TypeError, ValueError) as error:
            message = " ".join(str(error).split())
            raise ValueError(
                f"it does not take an image (1, 3, 64, 64), so its outputs cannot be counted ({message}); "
                "give it an attribute num_outputs"
            ) from error
        finally:
            self.network.train()
