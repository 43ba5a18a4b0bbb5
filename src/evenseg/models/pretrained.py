"""Trunks from timm, with the weights a configuration asks for or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from evenseg.models.weights import load_fitting, read_weights

# what a configuration writes for weights drawn at random
NONE = "none"


def timm_trunk(name: str, family: str, pretrained: str, in_channels: int, **keywords: Any) -> Any:
    """Returns a network of timm that gives its feature maps.

    Args:
        name: as timm calls it, "hrnet_w18" for example.
        family: what allowed names start with.
        pretrained: "none", a tag of the network's weights ("ms_in1k"), the full name of weights of the same network
            under another name ("hrnet_w18_ssld.paddle_in1k"), or a file.
        in_channels: of the images; weights for three channels are spread over them as timm does it.
        keywords: passed to timm.

    Raises:
        ValueError: an unknown name, or weights that are not to be had or do not fit.
    """
    import evenseg._torchvision  # noqa: F401  (first: lets torchvision import beside a CPU torch)
    import timm  # isort: skip

    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    known = timm.list_models(f"{family}*")
    if name not in known:
        raise ValueError(f"unknown backbone {name!r}; allowed: {', '.join(known)}")
    keywords |= {"features_only": True, "in_chans": in_channels}
    source = Path(pretrained)
    if pretrained == NONE or source.exists() or len(source.parts) > 1:
        trunk = timm.create_model(name, pretrained=False, **keywords)
        if pretrained != NONE:
            load_fitting(trunk, _spread_first(trunk, read_weights(source), in_channels), source)
        return trunk
    tag = pretrained if "." in pretrained else f"{name}.{pretrained}"
    weights = timm.list_models(f"{family}*", pretrained=True)
    if tag not in weights:
        raise ValueError(f"pretrained: no file and no weights of timm are called {pretrained!r}; allowed: "
                         f"{NONE}, {', '.join(weights)}")  # fmt: skip
    with weights_to_be_had(tag):
        return timm.create_model(tag, pretrained=True, **keywords)


@contextmanager
def weights_to_be_had(name: str) -> Iterator[None]:
    """Says what to do when weights are neither in the local cache nor can be fetched."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"pretrained: the weights {name!r} are not in the local cache and cannot be fetched ({reason}); "
            f"write {NONE}, or the path of a file that holds them"
        ) from error


def _spread_first(trunk: nn.Module, weights: dict[str, Any], in_channels: int) -> dict[str, Any]:
    """Returns the weights with those of the first convolution made to take `in_channels`."""
    from timm.models import adapt_input_conv

    first = next(name for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d)) + ".weight"
    if first in weights and weights[first].shape[1] == 3:
        weights = weights | {first: adapt_input_conv(in_channels, weights[first])}
    return weights
