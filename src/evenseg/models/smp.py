"""Any architecture of segmentation-models-pytorch under this package's model contract."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from torch import Tensor, nn

from evenseg.models.padding import pad_to_multiple

# set by the adapter or without a use for segmentation
_OWN = {"classes", "activation", "aux_params", "in_channels", "kwargs"}


class SMP(nn.Module):
    """A network of segmentation-models-pytorch by the name of its architecture.

    Args:
        num_classes: channels of the logits.
        arch: "Unet", "DeepLabV3Plus", "FPN", ...: see `architectures()`.
        keywords: passed on, like `encoder_name: resnet18` and `encoder_weights: null`.

    `forward` takes images (N, 3, H, W) of any size, padded inside to what the encoder needs, and returns
    [logits (N, C, H, W)]. Weights are only fetched when `encoder_weights` names some; the default here is none.
    """

    num_outputs = 1

    def __init__(self, num_classes: int, arch: str = "Unet", **keywords: Any) -> None:
        super().__init__()
        known = architectures()
        if arch not in known:
            raise ValueError(f"unknown arch {arch!r}; allowed: {', '.join(known)}")
        self.num_classes = num_classes
        if keywords.get("encoder_weights", "none") == "none":
            keywords["encoder_weights"] = None
        try:
            self.network = known[arch](classes=num_classes, **keywords)
        except (KeyError, TypeError, AssertionError) as error:
            raise ValueError(f"{arch} cannot be built from {keywords}: {error}") from error
        # some architectures (UPerNet on a convolutional encoder, say) ask for 32 at any output stride
        self.stride = max(32, int(getattr(getattr(self.network, "encoder", None), "output_stride", 32)))

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        return [self.network(pad_to_multiple(image, self.stride))[..., :height, :width]]


def architectures() -> dict[str, type[nn.Module]]:
    """Returns name -> class of every architecture of the installed segmentation-models-pytorch."""
    import evenseg._torchvision  # noqa: F401  (first: lets torchvision import beside a CPU torch)
    import segmentation_models_pytorch as smp  # isort: skip

    base = smp.base.SegmentationModel
    found = {name: value for name, value in vars(smp).items() if inspect.isclass(value) and issubclass(value, base)}
    return dict(sorted(found.items()))


def architecture_parameters(keywords: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters that the architecture named by `keywords["arch"]` adds; none when it is unknown."""
    architecture = architectures().get(str(keywords.get("arch", "Unet")))
    if architecture is None:
        return {}
    hints = get_type_hints(architecture.__init__)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(architecture).parameters.items()
        if name not in _OWN and parameter.kind is not parameter.VAR_KEYWORD
    }
