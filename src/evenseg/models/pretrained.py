"""Trunks from timm, with the weights a configuration asks for or none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evenseg._names import unknown_name
from evenseg.models.weights import load_fitting, read_weights, under_the_names_of

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

    known = timm.list_models(f"{family}*")
    if name not in known:
        raise ValueError(unknown_name("backbone", name, known))
    keywords |= {"features_only": True, "in_chans": in_channels}
    file = weights_file(pretrained)
    if pretrained == NONE or file:
        trunk = timm.create_model(name, pretrained=False, **keywords)
        if file:
            load_trunk(trunk, file, in_channels)
        return trunk
    tag = pretrained if "." in pretrained else f"{name}.{pretrained}"
    weights = timm.list_models(f"{family}*", pretrained=True)
    if tag not in weights:
        raise ValueError(
            f"pretrained: there is no file {pretrained}, and {unknown_name('weights', pretrained, [NONE, *weights])}"
        )
    other = tag.partition(".")[0]
    if _shapes(other, keywords) != _shapes(name, keywords):
        raise ValueError(f"pretrained: {tag} are weights of {other}, which is built otherwise than {name}")
    with weights_to_be_had(tag):
        return timm.create_model(tag, pretrained=True, **keywords)


def weights_file(pretrained: str) -> Path | None:
    """Returns the file that `pretrained` means, there or not; None where it is a name."""
    path = Path(pretrained)
    return path if path.is_file() or path.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt") else None


def load_trunk(trunk: nn.Module, file: Path, in_channels: int) -> None:
    """Loads weights that were trained for classification into a trunk; those of the classifier are left out.

    Raises:
        FileNotFoundError, ValueError: no such file, or weights of another network.
    """
    from timm.models import adapt_input_conv

    weights = under_the_names_of(trunk, read_weights(file))
    first = next(name for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d)) + ".weight"
    if first in weights and weights[first].shape[1] == 3:
        weights = {**weights, first: adapt_input_conv(in_channels, weights[first])}
    report = load_fitting(trunk, weights, file)
    absent = [*report.missing, *report.other_shape]
    if absent:
        raise ValueError(
            f"pretrained: {file} lacks {len(absent)} of the {len(trunk.state_dict())} tensors of this trunk or has them "
            f"in another shape, {absent[0]} for one"
        )


def without_pretrained(kind: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keywords of a model for a network whose weights are loaded afterwards anyway.

    Args:
        kind: what builds the network; torchvision's builders fetch weights unless told not to.
        keywords: for it.
    """
    changed = {name: NONE if name in ("pretrained", "encoder_weights") else value for name, value in keywords.items()}
    if kind.__module__.partition(".")[0] == "torchvision":
        changed |= {name: None for name in ("weights", "weights_backbone") if name in inspect.signature(kind).parameters}
    return changed


@contextmanager
def weights_to_be_had(name: str) -> Iterator[None]:
    """Says what to do when weights are neither in the local cache nor can be fetched."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"pretrained: the weights {name!r} are not in the local cache and cannot be fetched ({reason}); "
            f"write {NONE}, or the path of a file that holds them"
        ) from error


def _shapes(name: str, keywords: Mapping[str, Any]) -> dict[str, torch.Size]:
    import timm

    with torch.device("meta"):
        return {key: value.shape for key, value in timm.create_model(name, **keywords).state_dict().items()}
