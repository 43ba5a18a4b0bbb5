"""The one list of what is measured: name, family, provider, factory, shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from benchmarks import peers
from evenseg import losses as L
from evenseg.bench.inputs import IGNORE, Batch
from evenseg.losses.edge_network import EdgeNetwork

Shape = tuple[int, int, int, int]
Call = Callable[[], Tensor]

SHAPES: tuple[Shape, ...] = ((2, 19, 512, 1024), (1, 150, 512, 512), (4, 2, 512, 512), (8, 1, 512, 512))
MEMORY_SHAPES: tuple[Shape, ...] = ((2, 19, 512, 1024), (4, 2, 512, 512))
PROVIDERS = ("torch", "evenseg", "smp", "monai", "kornia")
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the tables at one shape.

    `make` prepares everything that need not be timed and returns the forward pass; it raises `peers.UnavailableError`.
    `heavy` rows may be measured in fewer rounds; `parts` names rows whose sum may stand for a row too slow to run.
    """

    name: str
    family: str
    provider: str
    label: str
    make: Callable[[Batch], Call]
    shape: Shape | None = None
    heavy: bool = False
    note: str | None = None
    parts: tuple[str, ...] = ()


def baseline(batch: Batch) -> Call:
    """F.cross_entropy, or for one channel F.binary_cross_entropy_with_logits on float targets."""
    z = batch.logits
    if batch.binary:
        y = batch.as_float()
        return lambda: F.binary_cross_entropy_with_logits(z, y)
    target = batch.target
    return lambda: F.cross_entropy(z, target, ignore_index=IGNORE)


def baseline_name(shape: Shape) -> str:
    return "F.binary_cross_entropy_with_logits" if shape[1] == 1 else "F.cross_entropy"


def cross_entropy(batch: Batch) -> Call:
    loss = L.BinaryCrossEntropyLoss() if batch.binary else L.CrossEntropyLoss()
    return lambda: loss(batch.logits, batch.target)


def lovasz(batch: Batch, method: str = "histogram") -> Call:
    loss = L.LovaszHingeLoss(method=method) if batch.binary else L.LovaszSoftmaxLoss(method=method)
    return lambda: loss(batch.logits, batch.target)


def sorted_lovasz(batch: Batch) -> Call:
    return lovasz(batch, "sort")


def rmi(batch: Batch) -> Call:
    """BCE + region mutual information with the paper's settings (average pooling by 4, windows of 3 x 3)."""
    loss = L.RMILoss(mode="binary" if batch.binary else "multiclass")
    return lambda: loss(batch.logits, batch.target)


def structural_similarity(batch: Batch) -> Call:
    loss = L.StructuralSimilarityLoss(mode="binary" if batch.binary else "multiclass")
    return lambda: loss(batch.logits, batch.target)


def dense_crf(batch: Batch, **options: Any) -> Call:
    loss, image = L.DenseCRFLoss(mode=_mode(batch), **options), batch.image()
    return lambda: loss(batch.logits, batch.target, image=image)


def windowed_crf(batch: Batch) -> Call:
    """The settings of Gated CRF: a radius of five pixels at full resolution."""
    return dense_crf(batch, window=5, sigma_xy=6.0, sigma_rgb=0.1, self_pairs=False, max_cells=None)


def dynamic_feature(batch: Batch) -> Call:
    loss, image, features = L.DynamicFeatureLoss(mode=_mode(batch)), batch.image(), batch.features()
    return lambda: loss(batch.logits, batch.target, image=image, features=features)


def _mode(batch: Batch) -> str:
    return "binary" if batch.binary else "multiclass"


def _in_mode(cls: type[L.MapLoss], batch: Batch) -> Call:
    loss = cls(mode=_mode(batch))
    return lambda: loss(batch.logits, batch.target)


def active_boundary(batch: Batch) -> Call:
    return _in_mode(L.ActiveBoundaryLoss, batch)


def signed_distance(batch: Batch) -> Call:
    return _in_mode(L.SignedDistanceBoundaryLoss, batch)


def hausdorff(batch: Batch) -> Call:
    return _in_mode(L.HausdorffLoss, batch)


def cl_dice(batch: Batch) -> Call:
    return _in_mode(L.ClDiceLoss, batch)


def mix_of(binary: bool) -> L.MixedLoss:
    """CE + focal + Dice + Lovász, or BCE + focal + Dice + hinge for one channel."""
    if binary:
        parts = [L.BinaryCrossEntropyLoss(), L.FocalLoss(mode="binary"), L.DiceLoss(mode="binary"), L.LovaszHingeLoss()]
    else:
        parts = [L.CrossEntropyLoss(), L.FocalLoss(), L.DiceLoss(), L.LovaszSoftmaxLoss()]
    return L.MixedLoss(parts, coef=[1, 1, 1, 1])


def mix(batch: Batch) -> Call:
    loss = mix_of(batch.binary)
    return lambda: loss(batch.logits, batch.target)


def semantic_edges(batch: Batch) -> Call:
    """With a network that was not fitted: its weights change no time."""
    edges = EdgeNetwork(2 if batch.binary else batch.logits.shape[1])
    loss = L.SemanticEdgeAwareLoss(edges=edges, mode="binary" if batch.binary else "multiclass")
    return lambda: loss(batch.logits, batch.target)


_NO_IGNORE = "knows no ignore index: ignored pixels count as class 0"
_FASTER = "ignored pixels count as class 0, which it does faster than leaving them out"
_PARTS = ("baseline", "smp_focal", "smp_dice", "smp_lovasz")
ROWS: tuple[Case, ...] = (
    Case("baseline", "cross-entropy", "torch", "the baseline against itself", baseline, note="shows the noise of a ratio"),
    Case("ce", "cross-entropy", "evenseg", "cross-entropy", cross_entropy),
    Case("lovasz", "lovasz", "evenseg", "Lovász", lovasz),
    Case("mix", "mix", "evenseg", "CE + focal + Dice + Lovász", mix),
    Case("rmi", "rmi", "evenseg", "RMI (with BCE)", rmi),
    Case("ssl", "ssl", "evenseg", "structural similarity (with BCE)", structural_similarity),
    Case("dense_crf", "crf", "evenseg", "dense CRF, all pairs of 4096 cells", dense_crf),
    Case("windowed_crf", "crf", "evenseg", "dense CRF, window of 11x11 pixels", windowed_crf, heavy=True),
    Case("dynamic_feature", "crf", "evenseg", "dynamic features, all pairs of 4096 cells", dynamic_feature),
    Case("lovasz_sort", "lovasz", "evenseg", 'Lovász, method="sort"', sorted_lovasz, heavy=True),
    Case("semantic_edges", "boundary", "evenseg", "SEMEDA, 64 hidden channels", semantic_edges, heavy=True,
         note="a network of three 3x3 convolutions sees prediction and labels"),
    Case("abl", "abl", "evenseg", "active boundary", active_boundary, heavy=True),
    Case("signed_distance", "signed distance", "evenseg", "signed distance boundary", signed_distance, heavy=True),
    Case("hausdorff", "hausdorff", "evenseg", "Hausdorff by distance transforms", hausdorff, heavy=True),
    Case("cl_dice", "cl dice", "evenseg", "clDice, 3 iterations", cl_dice, heavy=True),
    Case("smp_lovasz", "lovasz", "smp", "LovaszLoss", peers.smp_lovasz, heavy=True),
    Case("smp_focal", "focal", "smp", "FocalLoss", peers.smp_focal, heavy=True),
    Case("smp_dice", "dice", "smp", "DiceLoss", peers.smp_dice, heavy=True),
    Case("smp_mix", "mix", "smp", "torch CE + SMP focal + Dice + Lovász", peers.smp_mix, heavy=True, parts=_PARTS),
    Case("monai_dice", "dice", "monai", "DiceLoss", peers.monai_dice, heavy=True, note=_FASTER),
    Case("monai_focal", "focal", "monai", "FocalLoss", peers.monai_focal, heavy=True, note=_FASTER),
    Case("monai_dice_focal", "dice + focal", "monai", "DiceFocalLoss", peers.monai_dice_focal, heavy=True, note=_NO_IGNORE),
    Case("kornia_lovasz", "lovasz", "kornia", "lovasz_softmax_loss or lovasz_hinge_loss", peers.kornia_lovasz,
         heavy=True, note=_NO_IGNORE),
    Case("kornia_dice", "dice", "kornia", "dice_loss", peers.kornia_dice, heavy=True),
    Case("kornia_focal", "focal", "kornia", "focal_loss or binary_focal_loss_with_logits", peers.kornia_focal, heavy=True),
)  # fmt: skip


def cases(shape: Iterable[int], providers: Iterable[str] = PROVIDERS) -> list[Case]:
    """The rows at a shape, in the order of the tables."""
    N, C, H, W = shape
    wanted = set(providers)
    if unknown := wanted - set(PROVIDERS):
        raise ValueError(f"unknown providers {sorted(unknown)}; there are {', '.join(PROVIDERS)}")
    return [dataclasses.replace(row, shape=(N, C, H, W)) for row in ROWS if row.provider in wanted]
