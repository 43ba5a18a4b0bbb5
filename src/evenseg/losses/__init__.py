"""Losses for uneven classes. One loss, one file; LOSSES is the table of them all."""

from torch import nn

from evenseg.losses.active_boundary import ActiveBoundaryLoss
from evenseg.losses.auto_seg import AutoSegLoss
from evenseg.losses.base import PixelLoss, RegionLoss, StatisticLoss
from evenseg.losses.binary_cross_entropy import BinaryCrossEntropyLoss
from evenseg.losses.build import LossConfigError, OutputsLoss, build_loss
from evenseg.losses.cl_dice import ClDiceLoss
from evenseg.losses.class_maps import ClassMapLoss
from evenseg.losses.cross_entropy import CrossEntropyLoss
from evenseg.losses.dense_crf import DenseCRFLoss
from evenseg.losses.dice import DiceLoss, LogCoshDiceLoss
from evenseg.losses.dynamic_feature import DynamicFeatureLoss
from evenseg.losses.exponential_logarithmic import ExponentialLogarithmicLoss
from evenseg.losses.focal import FocalLoss
from evenseg.losses.generalized_dice import GeneralizedDiceLoss
from evenseg.losses.hausdorff import HausdorffLoss
from evenseg.losses.jaccard import JaccardLoss
from evenseg.losses.lovasz_hinge import LovaszHingeLoss
from evenseg.losses.lovasz_softmax import LovaszSoftmaxLoss
from evenseg.losses.maps import MapLoss
from evenseg.losses.mcc import MCCLoss
from evenseg.losses.mixed import MixedLoss
from evenseg.losses.ohem import BootstrappedCrossEntropyLoss, OhemCrossEntropyLoss
from evenseg.losses.phases import PhasedLoss
from evenseg.losses.presets import PRESETS, preset
from evenseg.losses.recall import RecallLoss
from evenseg.losses.rmi import RMILoss
from evenseg.losses.semantic_edge_aware import SemanticEdgeAwareLoss
from evenseg.losses.signed_distance import SignedDistanceBoundaryLoss
from evenseg.losses.structural_similarity import StructuralSimilarityLoss
from evenseg.losses.tversky import FocalTverskyLoss, TverskyLoss

LOSSES: dict[str, type[nn.Module]] = {
    "CrossEntropyLoss": CrossEntropyLoss,
    "BinaryCrossEntropyLoss": BinaryCrossEntropyLoss,
    "FocalLoss": FocalLoss,
    "OhemCrossEntropyLoss": OhemCrossEntropyLoss,
    "BootstrappedCrossEntropyLoss": BootstrappedCrossEntropyLoss,
    "RecallLoss": RecallLoss,
    "DiceLoss": DiceLoss,
    "JaccardLoss": JaccardLoss,
    "TverskyLoss": TverskyLoss,
    "FocalTverskyLoss": FocalTverskyLoss,
    "GeneralizedDiceLoss": GeneralizedDiceLoss,
    "LogCoshDiceLoss": LogCoshDiceLoss,
    "MCCLoss": MCCLoss,
    "ExponentialLogarithmicLoss": ExponentialLogarithmicLoss,
    "LovaszSoftmaxLoss": LovaszSoftmaxLoss,
    "LovaszHingeLoss": LovaszHingeLoss,
    "AutoSegLoss": AutoSegLoss,
    "DenseCRFLoss": DenseCRFLoss,
    "DynamicFeatureLoss": DynamicFeatureLoss,
    "RMILoss": RMILoss,
    "StructuralSimilarityLoss": StructuralSimilarityLoss,
    "ActiveBoundaryLoss": ActiveBoundaryLoss,
    "SemanticEdgeAwareLoss": SemanticEdgeAwareLoss,
    "SignedDistanceBoundaryLoss": SignedDistanceBoundaryLoss,
    "HausdorffLoss": HausdorffLoss,
    "ClDiceLoss": ClDiceLoss,
    "MixedLoss": MixedLoss,
}

__all__ = [
    "LOSSES",
    "PRESETS",
    "ActiveBoundaryLoss",
    "AutoSegLoss",
    "BinaryCrossEntropyLoss",
    "BootstrappedCrossEntropyLoss",
    "ClDiceLoss",
    "ClassMapLoss",
    "CrossEntropyLoss",
    "DenseCRFLoss",
    "DiceLoss",
    "DynamicFeatureLoss",
    "ExponentialLogarithmicLoss",
    "FocalLoss",
    "FocalTverskyLoss",
    "GeneralizedDiceLoss",
    "HausdorffLoss",
    "JaccardLoss",
    "LogCoshDiceLoss",
    "LossConfigError",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "MCCLoss",
    "MapLoss",
    "MixedLoss",
    "OhemCrossEntropyLoss",
    "OutputsLoss",
    "PhasedLoss",
    "PixelLoss",
    "RMILoss",
    "RecallLoss",
    "RegionLoss",
    "SemanticEdgeAwareLoss",
    "SignedDistanceBoundaryLoss",
    "StatisticLoss",
    "StructuralSimilarityLoss",
    "TverskyLoss",
    "build_loss",
    "preset",
]
