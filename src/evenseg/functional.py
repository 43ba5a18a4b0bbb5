"""Every loss as a function: `loss(logits, target, *, pixel_weight=None, **options)` -> scalar."""

from evenseg.losses.active_boundary import active_boundary_loss
from evenseg.losses.auto_seg import auto_seg_loss
from evenseg.losses.binary_cross_entropy import binary_cross_entropy_loss
from evenseg.losses.cl_dice import cl_dice_loss
from evenseg.losses.cross_entropy import cross_entropy_loss
from evenseg.losses.dense_crf import dense_crf_loss
from evenseg.losses.dice import dice_loss, log_cosh_dice_loss
from evenseg.losses.dynamic_feature import dynamic_feature_loss
from evenseg.losses.exponential_logarithmic import exponential_logarithmic_loss
from evenseg.losses.focal import focal_loss
from evenseg.losses.generalized_dice import generalized_dice_loss
from evenseg.losses.hausdorff import hausdorff_loss
from evenseg.losses.jaccard import jaccard_loss
from evenseg.losses.lovasz_hinge import lovasz_hinge_loss
from evenseg.losses.lovasz_softmax import lovasz_softmax_loss
from evenseg.losses.mcc import mcc_loss
from evenseg.losses.ohem import bootstrapped_cross_entropy_loss, ohem_cross_entropy_loss
from evenseg.losses.recall import recall_loss
from evenseg.losses.rmi import rmi_loss
from evenseg.losses.semantic_edge_aware import semantic_edge_aware_loss
from evenseg.losses.signed_distance import signed_distance_boundary_loss
from evenseg.losses.structural_similarity import structural_similarity_loss
from evenseg.losses.tversky import focal_tversky_loss, tversky_loss

__all__ = [
    "active_boundary_loss",
    "auto_seg_loss",
    "binary_cross_entropy_loss",
    "bootstrapped_cross_entropy_loss",
    "cl_dice_loss",
    "cross_entropy_loss",
    "dense_crf_loss",
    "dice_loss",
    "dynamic_feature_loss",
    "exponential_logarithmic_loss",
    "focal_loss",
    "focal_tversky_loss",
    "generalized_dice_loss",
    "hausdorff_loss",
    "jaccard_loss",
    "log_cosh_dice_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "mcc_loss",
    "ohem_cross_entropy_loss",
    "recall_loss",
    "rmi_loss",
    "semantic_edge_aware_loss",
    "signed_distance_boundary_loss",
    "structural_similarity_loss",
    "tversky_loss",
]
