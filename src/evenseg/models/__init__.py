"""Networks: built with `num_classes`, with `num_outputs`, `stride` and `head`, returning a list of logits, main first."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from evenseg.models.enet import ENet
from evenseg.models.features import WithFeatures, feature_head
from evenseg.models.ocrnet import OCRNet
from evenseg.models.own import OwnModel
from evenseg.models.pretrained import without_pretrained
from evenseg.models.segformer import TransformersSegformer
from evenseg.models.smp import SMP, architecture_parameters, architectures
from evenseg.models.unet import LightUNet
from evenseg.models.weights import FittingReport, check_weights, load_fitting, read_weights

MODELS: dict[str, type[nn.Module]] = {
    "ENet": ENet,
    "LightUNet": LightUNet,
    "OCRNet": OCRNet,
    "SMP": SMP,
    "TransformersSegformer": TransformersSegformer,
}


def more_parameters(name: str, keywords: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters that a model of this name takes beside those of its constructor."""
    return architecture_parameters(keywords) if name == "SMP" else {}


__all__ = [
    "MODELS",
    "SMP",
    "ENet",
    "FittingReport",
    "LightUNet",
    "OCRNet",
    "OwnModel",
    "TransformersSegformer",
    "WithFeatures",
    "architecture_parameters",
    "architectures",
    "check_weights",
    "feature_head",
    "load_fitting",
    "more_parameters",
    "read_weights",
    "without_pretrained",
]
