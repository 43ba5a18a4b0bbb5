"""SegFormer of the transformers library, where that is installed.

Source: E. Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021,
arXiv 2105.15203, tables 6 and 7 (the sizes of B0 to B5).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from evenseg.models.checks import check_sizes
from evenseg.models.padding import pad_to_multiple, resize
from evenseg.models.pretrained import NONE, weights_file, weights_to_be_had
from evenseg.models.weights import load_fitting, read_weights

Variant = Literal["b0", "b1", "b2", "b3", "b4", "b5"]

# variant -> blocks per stage, channels per stage, channels of the decoder
_SIZES: dict[str, tuple[list[int], list[int], int]] = {
    "b0": ([2, 2, 2, 2], [32, 64, 160, 256], 256),
    "b1": ([2, 2, 2, 2], [64, 128, 320, 512], 256),
    "b2": ([3, 4, 6, 3], [64, 128, 320, 512], 768),
    "b3": ([3, 4, 18, 3], [64, 128, 320, 512], 768),
    "b4": ([3, 8, 27, 3], [64, 128, 320, 512], 768),
    "b5": ([3, 6, 40, 3], [64, 128, 320, 512], 768),
}


class TransformersSegformer(nn.Module):
    """SegFormer (Xie et al. 2021) from transformers; SMP's `Segformer` is the same decoder on any encoder.

    Args:
        num_classes: channels of the logits.
        variant: "b0" to "b5".
        pretrained: "none", the name of weights on the Hugging Face Hub ("nvidia/mit-b0"; fetched unless they are in the
            local cache), a folder with such weights, or a file. What fits is loaded; the classifier of other classes
            does not.
        in_channels: of the images.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to a multiple of 32, and returns
    [logits (N, C, H, W)].
    """

    num_outputs = 1
    stride = 32

    def __init__(
        self, num_classes: int, variant: Variant = "b0", pretrained: str = NONE, in_channels: int = 3
    ) -> None:
        super().__init__()
        check_sizes(num_classes, in_channels)
        if variant not in _SIZES:
            raise ValueError(f"unknown variant {variant!r}; allowed: {', '.join(_SIZES)}")
        transformers = _transformers()
        depths, widths, decoder = _SIZES[variant]
        self.num_classes = num_classes
        self.network = transformers.SegformerForSemanticSegmentation(
            transformers.SegformerConfig(
                num_labels=num_classes,
                num_channels=in_channels,
                depths=depths,
                hidden_sizes=widths,
                decoder_hidden_size=decoder,
            )
        )
        if pretrained != NONE:
            load_fitting(self.network, _read(transformers, pretrained), pretrained)

    @property
    def head(self) -> nn.Module:
        """What makes the logits from the last feature map."""
        classifier: nn.Module = self.network.decode_head.classifier
        return classifier

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.stride)
        return [resize(self.network(padded).logits, padded)[..., :height, :width]]


def _transformers() -> Any:
    import evenseg._torchvision  # noqa: F401  (first: transformers imports torchvision where it finds it)

    try:
        import transformers  # isort: skip
    except ModuleNotFoundError as error:
        raise ValueError(
            "TransformersSegformer needs the package transformers, which is not installed (pip install -c "
            "constraints.txt transformers); SMP with arch: Segformer does without"
        ) from error
    return transformers


def _read(transformers: Any, pretrained: str) -> dict[str, Tensor]:
    file = weights_file(pretrained)
    if file is not None:
        return read_weights(file)
    with weights_to_be_had(pretrained):
        found: nn.Module = transformers.SegformerForSemanticSegmentation.from_pretrained(pretrained)
    return found.state_dict()
