"""What each rank of test_sync.py runs: a small network under DistributedDataParallel on its share of a batch.

Run as `python ranks.py RANK WORLD STORE OUT`; results go to OUT as a file of tensors. Nothing here knows what is right.
"""

import datetime
import sys

import torch
import torch.distributed as dist
from torch import nn

from evenseg import losses as L
from evenseg.losses import preset
from evenseg.losses.edge_network import EdgeNetwork

CLASSES = 4


def losses(sync):
    """Every loss to compare, by name; binary ones read the difference of the last two channels."""
    whole = {"sync": sync}
    image = {"sync": sync, "per_image": True}
    return {
        "CE": L.CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0], **whole),
        "CE numba": L.CrossEntropyLoss(engine="numba", **whole),
        "CE per image": L.CrossEntropyLoss(**image),
        "CE sum": L.CrossEntropyLoss(reduction="sum", **whole),
        "CE sum per image": L.CrossEntropyLoss(reduction="sum", **image),
        "Focal": L.FocalLoss(gamma=1.5, **whole),
        "Recall": L.RecallLoss(**whole),
        "OHEM": L.OhemCrossEntropyLoss(thresh=0.3, min_kept=0.25, **whole),
        "OHEM few": L.OhemCrossEntropyLoss(thresh=0.01, min_kept=40, min_kept_per_image=True, **whole),
        "OHEM per image": L.OhemCrossEntropyLoss(thresh=0.2, min_kept=30, **image),
        "TopK": L.BootstrappedCrossEntropyLoss(top_k=0.2, **whole),
        "Dice": L.DiceLoss(**whole),
        "Dice per image": L.DiceLoss(classes="all", **image),
        "Dice sum per image": L.DiceLoss(reduction="sum", **image),
        "GDL": L.GeneralizedDiceLoss(**whole),
        "GDL sum per image": L.GeneralizedDiceLoss(reduction="sum", **image),
        "MCC": L.MCCLoss(**whole),
        "ExpLog": L.ExponentialLogarithmicLoss(**whole),
        "ExpLog per image": L.ExponentialLogarithmicLoss(**image),
        "Lovasz": L.LovaszSoftmaxLoss(**whole),
        "Lovasz absent": L.LovaszSoftmaxLoss(classes="all", **whole),
        "Lovasz per image": L.LovaszSoftmaxLoss(**image),
        "Hinge": L.LovaszHingeLoss(**whole),
        "Hinge per image": L.LovaszHingeLoss(**image),
        "Mixed": L.MixedLoss(
            [L.CrossEntropyLoss(**whole), L.LovaszSoftmaxLoss(**whole), L.DiceLoss(**image), L.OhemCrossEntropyLoss(**whole)],
            [1.0, 0.5, 0.3, 0.2],
        ),
        "Partial Dice": L.DiceLoss(classes="all", **whole),
        "Partial Lovasz": L.LovaszSoftmaxLoss(**whole),
        "Partial CE per image": L.CrossEntropyLoss(**image),
        "Accumulated": L.DiceLoss(memory="accumulate", **whole),
        **map_losses(whole),
    }


def map_losses(whole):
    """The losses on whole maps, every divisor and mean that they have."""
    image = {**whole, "per_image": True}
    crf = {"sigma_rgb": 0.3, "sigma_xy": 4.0, **whole}
    published = {"convention": "published", "max_ratio": 0.5}
    torch.manual_seed(2)
    edges = EdgeNetwork(CLASSES, hidden=4)
    return {
        "RMI": L.RMILoss(stride=2, weight=[1.0, 2.0, 3.0, 4.0], **whole),
        "RMI ce sum": L.RMILoss(stride=2, pixel_term="ce", form="sum", **whole),
        "RMI alone": L.RMILoss(stride=2, pixel_term="none", **whole),
        "SSL": L.StructuralSimilarityLoss(**whole),
        "SSL ce few": L.StructuralSimilarityLoss(pixel_term="ce", beta=0.9, **whole),
        "SEMEDA": L.SemanticEdgeAwareLoss(edges=edges, weight=[1.0, 2.0, 3.0, 4.0], **whole),
        "ABL": L.ActiveBoundaryLoss(max_ratio=0.1, **whole),
        "ABL published": L.ActiveBoundaryLoss(**published, **whole),
        "SignedDistance": L.SignedDistanceBoundaryLoss(**whole),
        "SignedDistance per image": L.SignedDistanceBoundaryLoss(**image),
        "Hausdorff": L.HausdorffLoss(weight=[1.0, 2.0, 3.0, 4.0], **whole),
        "Hausdorff per image": L.HausdorffLoss(**image),
        "ClDice": L.ClDiceLoss(**whole),
        "ClDice per image": L.ClDiceLoss(classes="present", **image),
        "CRF": L.DenseCRFLoss(**crf),
        "CRF window": L.DenseCRFLoss(window=2, **crf),
        "CRF sum": L.DenseCRFLoss(normalized=False, **crf),
        "DynamicFeature": L.DynamicFeatureLoss(**crf),
        "AutoSeg": L.AutoSegLoss(metric=["mIoU", "FWIoU", "mAcc", "gAcc", "BIoU", "BF1"], tolerance=1, **whole),
        "SMP focal": preset("smp.focal", mode="multiclass", alpha=0.3, ignore_index=255, **whole),
        "SMP focal normalized": preset("smp.focal", mode="multiclass", normalized=True, ignore_index=255, **whole),
        "Mixed maps": L.MixedLoss(
            [L.CrossEntropyLoss(**whole), L.RMILoss(stride=2, **whole), L.ActiveBoundaryLoss(**whole)], [1.0, 0.5, 1.0]
        ),
    }


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1)).double()


def data():
    """Four images; the ranks' halves have very different numbers of valid pixels; class 3 is in the second half alone."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 10, 10, generator=g, dtype=torch.float64)
    y = torch.randint(0, 3, (4, 10, 10), generator=g)
    y[2:, :3, :2] = 3
    y[0, :, 1:] = 255
    y[1] = 255
    y[3, 9] = 255
    return x, y


# the first rank's images are annotated for all classes
ANNOTATED = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1], [2, 3]]


def result(name, loss, model, x, y, images=slice(0, 4)):
    """Loss and parameter gradients; `images` says which of the four these are."""
    model.zero_grad()
    z = model(x)
    if "Hinge" in name:
        z, y = z[:, 2:], torch.where(y == 255, 255, (y > 1).long())
    if name == "ABL published":  # which counts no pixel beside a boundary, so the regions must be larger
        y = torch.where(y == 255, 255, (torch.arange(y.shape[2]) > 6).long())
    if name == "Lovasz absent":
        y = torch.where(y == 3, 0, y)
    more = {"annotated": ANNOTATED[images]} if "Partial" in name else {}
    if "image" in getattr(loss, "requires", ()):  # where labels are not used, weights say what counts
        more |= {"image": x.sigmoid(), "pixel_weight": (y != 255).to(x.dtype)}
    if "features" in getattr(loss, "requires", ()):
        more |= {"features": x.roll(1, 1).tanh()}
    value = loss(z, y, **more)
    value.backward()
    return value.detach(), [p.grad.clone() for p in model.parameters()]


def main(rank, world, store, out):
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=datetime.timedelta(seconds=60)
    )
    model = nn.parallel.DistributedDataParallel(network())
    x, y = data()
    part = slice(rank * len(x) // world, (rank + 1) * len(x) // world)
    results = {name: result(name, loss, model, x[part], y[part], part) for name, loss in losses(True).items()}
    for name in ("CE", "Lovasz"):  # one rank without a valid pixel; then all
        empty = y[part] if rank else torch.full_like(y[part], 255)
        results[f"{name} rank without pixels"] = result(name, losses(True)[name], model, x[part], empty)
        results[f"{name} without pixels"] = result(name, losses(True)[name], model, x[part], torch.full_like(empty, 255))
    results["Lovasz absent twice"] = result("Lovasz absent", losses(True)["Lovasz absent"], model, x[2:], y[2:])
    torch.save(results, f"{out}.{rank}")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
