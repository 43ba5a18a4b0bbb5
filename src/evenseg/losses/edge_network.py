"""A small network that marks the edges of classes in maps of classes, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FORMAT = "evenseg edge network 1"


class EdgeNetwork(nn.Module):
    """Three 3x3 convolutions, C -> hidden -> hidden -> C, of which the last says where the edges of every class are.

    Called with maps (N, C, H, W), one-hot labels or probabilities, it returns the activations of its layers, two after their
    ReLU and the edge probabilities (N, C, H, W). It has no normalisation, so training and evaluation are one mode.

    Args:
        num_classes: C, at least 2.
        hidden: channels of the two layers within.
        settings: how it was fitted, kept in its file.

    Raises:
        ValueError: fewer than two classes, or no hidden channel.

    Example:
        >>> import torch
        >>> from evenseg.losses.edge_network import EdgeNetwork
        >>> [tuple(layer.shape) for layer in EdgeNetwork(3, hidden=8)(torch.rand(1, 3, 16, 16))]
        [(1, 8, 16, 16), (1, 8, 16, 16), (1, 3, 16, 16)]
    """

    def __init__(self, num_classes: int, hidden: int = 64, settings: Mapping[str, Any] | None = None):
        super().__init__()
        if num_classes < 2 or hidden < 1:
            raise ValueError(f"an edge network needs at least 2 classes and 1 hidden channel, got {num_classes} and {hidden}")
        self.num_classes, self.hidden, self.settings = num_classes, hidden, dict(settings or {})
        widths = (num_classes, hidden, hidden, num_classes)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def forward(self, maps: Tensor) -> list[Tensor]:
        activations = self.hidden_layers(maps)
        return [*activations, self.last(activations[-1]).sigmoid()]

    def hidden_layers(self, maps: Tensor) -> list[Tensor]:
        """The activations of the layers but the last."""
        activations, x = [], maps
        for layer in self.layers[:-1]:  # type: ignore[union-attr]
            x = _convolve(layer, x).relu()
            activations.append(x)
        return activations

    def last(self, x: Tensor) -> Tensor:
        """(N, C, H, W) logits of the edges, from the last hidden activation."""
        return _convolve(self.layers[-1], x)

    def save(self, file: Path) -> None:
        """Writes weights and settings as one safetensors file."""
        from safetensors.torch import save_file

        shape = {"num_classes": self.num_classes, "hidden": self.hidden}
        weights = {name: value.detach().float().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, file, {"format": FORMAT, "shape": json.dumps(shape), "settings": json.dumps(self.settings)})


def _convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """In the precision of the input: a check in float64 is one all the way."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return F.conv2d(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype), padding=1)


def load_edges(file: str | Path) -> EdgeNetwork:
    """The edge network of a file that :meth:`EdgeNetwork.save` wrote.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"edges: {path} does not exist (looked in {Path.cwd()}); `evenseg fit-edges CONFIG` writes such a file")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stored:
            about = stored.metadata() or {}
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"edges: {path} is damaged or no safetensors file: {error}") from error
    if about.get("format") != FORMAT:
        raise ValueError(f"edges: {path} holds other weights than those of an edge network; `evenseg fit-edges CONFIG` writes one")
    network = EdgeNetwork(**json.loads(about["shape"]), settings=json.loads(about["settings"]))
    network.load_state_dict(weights)
    return network


def edge_maps(labels_NHW: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Where the edges of the classes are, and where that is known.

    A pixel is an edge of its class if a pixel of another class is among its eight neighbours; ignored neighbours are of no class.

    Args:
        labels_NHW: int64 labels, -1 where ignored.
        num_classes: C.

    Returns:
        (N, C, H, W) bool, and (N, 1, H, W) bool: no ignored pixel in the 3x3 neighbourhood.
    """
    valid = (labels_NHW >= 0)[:, None]
    label = labels_NHW[:, None].float()
    largest = F.max_pool2d(torch.where(valid, label, -torch.inf), 3, 1, 1)
    smallest = -F.max_pool2d(torch.where(valid, -label, -torch.inf), 3, 1, 1)
    known = F.max_pool2d((~valid).float(), 3, 1, 1) == 0
    own = labels_NHW[:, None] == torch.arange(num_classes, device=labels_NHW.device)[None, :, None, None]
    return own & (largest != smallest), known
