"""Any architecture of segmentation-models-pytorch under this package's model contract."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from evenseg._names import unknown_name
from evenseg.models.checks import check_sizes
from evenseg.models.padding import pad_to_multiple
from evenseg.models.pretrained import NONE, load_trunk, weights_file, weights_to_be_had

# set by the adapter or without a use for segmentation
_OWN = {"classes", "activation", "aux_params", "in_channels", "kwargs"}
# PAN pools the features of stride 16 to an eighth of their size
_STRIDES = {"PAN": 128}
# built with parts that they do not use; any architecture is with another encoder_depth than its own
_WITH_IDLE_PARTS = ("PSPNet", "DPT")


class SMP(nn.Module):
    """A network of segmentation-models-pytorch by the name of its architecture.

    Args:
        num_classes: channels of the logits.
        arch: "Unet", "DeepLabV3Plus", "UPerNet", "Segformer", ...: see `architectures()`.
        pretrained: weights of the encoder: "none", a name that the library knows for it ("imagenet", fetched unless
            they are in the local cache), or a file.
        in_channels: of the images.
        keywords: passed on, like `encoder_name: resnet18`. The library's own `encoder_weights` may stand for
            `pretrained`.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to what the network needs, and returns
    [logits (N, C, H, W)].
    """

    num_outputs = 1

    def __init__(
        self, num_classes: int, arch: str = "Unet", pretrained: str = NONE, in_channels: int = 3, **keywords: Any
    ) -> None:
        super().__init__()
        known = architectures()
        if arch not in known:
            raise ValueError(unknown_name("arch", arch, known))
        check_sizes(num_classes, in_channels)
        self.num_classes = num_classes
        encoder = keywords.get("encoder_name", inspect.signature(known[arch]).parameters["encoder_name"].default)
        _check_encoder(str(encoder))
        allowed = architecture_parameters({"arch": arch})
        for name in keywords:
            # timm's encoders take keywords of their own
            if name not in allowed and not str(encoder).startswith("tu-"):
                raise ValueError(unknown_name(f"keyword of {arch}", name, allowed))
        weights = keywords.pop("encoder_weights", None) or NONE
        if NONE not in (weights, pretrained):
            raise ValueError(f"pretrained {pretrained!r} and encoder_weights {weights!r} say the same thing; give one")
        weights = weights if pretrained == NONE else pretrained
        file = weights_file(weights)
        keywords |= {"classes": num_classes, "in_channels": in_channels}
        keywords["encoder_weights"] = None if file or weights == NONE else weights
        if keywords["encoder_weights"] and str(encoder).startswith("tu-"):
            # the name of the encoder says which weights: "tu-resnet18.a1_in1k"
            keywords["encoder_weights"] = True
        if arch == "DPT":
            # its vision transformers else take images of one size only
            keywords.setdefault("dynamic_img_size", True)
        try:
            with nullcontext() if keywords["encoder_weights"] is None else weights_to_be_had(weights):
                self.network = known[arch](**keywords)
        except (KeyError, TypeError, AssertionError) as error:
            reason = str(error.args[0]) if error.args else "this encoder cannot keep the resolution that it needs"
            raise ValueError(f"{arch} cannot be built on {encoder}: {reason}") from error
        encoder_module: nn.Module = self.network.encoder  # type: ignore[assignment]
        if file:
            load_trunk(encoder_module, file, in_channels)
        # some architectures (UPerNet on a convolutional encoder, say) ask for 32 at any output stride
        self.stride = _STRIDES.get(arch, max(32, int(getattr(encoder_module, "output_stride", 32))))
        if arch in _WITH_IDLE_PARTS or "encoder_depth" in keywords:
            _freeze_idle(self.network, in_channels, 2 * self.stride)

    @property
    def head(self) -> nn.Module:
        """What makes the logits from the last feature map."""
        made: nn.Module = self.network.segmentation_head  # type: ignore[assignment]
        return made

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        return [self.network(pad_to_multiple(image, self.stride))[..., :height, :width]]


def _freeze_idle(network: nn.Module, in_channels: int, size: int) -> None:
    """Takes parameters that have no part in the output out of training: data parallelism would wait for their gradients."""
    # on a device without memory: which gradients there are is all that is asked
    copy = deepcopy(network).to("meta")
    copy(torch.empty(2, in_channels, size, size, device="meta")).sum().backward()
    for parameter, other in zip(network.parameters(), copy.parameters(), strict=True):
        parameter.requires_grad_(other.grad is not None)


def _check_encoder(name: str) -> None:
    """ValueError when the library has no encoder of this name."""
    import segmentation_models_pytorch as smp
    import timm

    if name.startswith("tu-"):
        plain = name.removeprefix("tu-").partition(".")[0]
        if not timm.is_model(plain):
            raise ValueError(unknown_name("encoder_name", name, [f"tu-{known}" for known in timm.list_models()]))
    elif not name.startswith("timm-") and name not in (known := smp.encoders.get_encoder_names()):
        raise ValueError(unknown_name("encoder_name", name, known))


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
