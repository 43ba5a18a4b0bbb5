"""One record per loss and way to use it. test_battery*.py runs the same checks over every record."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from evenseg.losses import LOSSES
from oracles import segmentation as oracle

INF = math.inf


@dataclass(frozen=True)
class Case:
    """How to build a loss, what it must return, and which general properties hold for it."""

    loss: str
    oracle: Callable  # (z, y, w) -> float
    options: dict = field(default_factory=dict)
    channels: int = 4
    target: str = "labels"  # "labels" or "maps" (one 0/1 map per channel)
    soft: bool = False  # takes soft labels too
    high: float = INF  # the range is [0, high]
    perfect: float | None = 0.0  # value of a saturated right prediction; None: positive
    exact: bool = True  # equals the oracle; False: up to one bin width below it
    weight_repeats: bool = True  # an integer pixel weight is that many copies of the pixel

    @property
    def mode(self):
        parts = self.options.get("losses", [self.options])
        default = LOSSES[parts[0].get("type", self.loss)].default_mode
        return parts[0].get("mode", default)

    @property
    def per_image(self):
        return self.options.get("per_image", False)

    def __str__(self):
        if self.loss == "MixedLoss":
            return "Mixed-" + "+".join(part["type"] for part in self.options["losses"])
        shown = [f"{k}={v}" for k, v in self.options.items()]
        pair = ["two channels"] if self.channels == 2 else []
        return "-".join([self.loss.removesuffix("Loss"), *pair, *shown]).replace(" ", "")

    def build(self, **overrides):
        """The module, with keywords replaced (in every part of a mix)."""
        if self.loss != "MixedLoss":
            return LOSSES[self.loss](**{**self.options, **overrides})
        parts = [{**part, **overrides} for part in self.options["losses"]]
        return LOSSES["MixedLoss"](parts, self.options["coef"])


def mix(*parts, coef, **case):
    """A case of MixedLoss from (loss, options, oracle) triples."""

    def total(z, y, w=None):
        return sum(c * f(z, y, w) for c, (_, _, f) in zip(coef, parts))

    options = {"losses": [{"type": name, **options} for name, options, _ in parts], "coef": list(coef)}
    return Case("MixedLoss", total, options, **case)


def same(function, **options):
    """Oracle keywords for loss keywords that have the same names."""
    return {"oracle": partial(function, **options), "options": options}


def moded(case_mode, function, own=None, **options):
    """As `same`, for a mode that the oracle knows as its activation (and as its own keywords)."""
    return {"oracle": partial(function, act="sigmoid", **(own or {}), **options), "options": {"mode": case_mode, **options}}


W4 = [0.5, 1.0, 2.0, 3.5]
BINARY = {"channels": 1}
PAIR = {"channels": 2}
MAPS = {"channels": 3, "target": "maps"}
UNIT = {"high": 1.0, "soft": True}
HARD_UNIT = {"high": 1.0}
SELECT = {"weight_repeats": False}
LOGCOSH1 = math.log(math.cosh(1))

ce, bce, focal = partial(Case, "CrossEntropyLoss"), partial(Case, "BinaryCrossEntropyLoss"), partial(Case, "FocalLoss")
ohem_case, boot = partial(Case, "OhemCrossEntropyLoss", **SELECT), partial(Case, "BootstrappedCrossEntropyLoss", **SELECT)
softmax_lovasz, hinge = partial(Case, "LovaszSoftmaxLoss", high=1.0), partial(Case, "LovaszHingeLoss")


def lovasz_case(make, mode=None, approximate=True, own=None, **options):
    """The histogram form (or the sorted form) of a Lovász loss."""
    method = "histogram" if approximate else "sort"
    act = {} if mode in (None, "multiclass") else {"act": "sigmoid"}
    extra = {} if mode is None else {"mode": mode}
    channels = BINARY if mode == "binary" else MAPS if mode == "multilabel" else {}
    return make(
        partial(oracle.lovasz, **act, **(own or {}), **options),
        {"method": method, **extra, **options},
        exact=not approximate,
        **channels,
    )


HINGE = {"hinge": True}
CASES = [
    ce(soft=True, **same(oracle.cross_entropy)),
    ce(soft=True, **same(oracle.cross_entropy, weight=W4)),
    ce(soft=True, perfect=None, **same(oracle.cross_entropy, label_smoothing=0.1, weight=W4)),
    ce(soft=True, **same(oracle.cross_entropy, per_image=True)),
    bce(oracle.binary_cross_entropy, soft=True, **BINARY),
    bce(soft=True, **BINARY, **same(oracle.binary_cross_entropy, pos_weight=3.0)),
    bce(soft=True, **BINARY, **same(oracle.binary_cross_entropy, weight=[0.5, 2.0], per_image=True)),
    bce(partial(oracle.binary_cross_entropy, weight=[1, 2, 3]), {"mode": "multilabel", "weight": [1, 2, 3]}, soft=True, **MAPS),
    bce(oracle.binary_cross_entropy, {"mode": "multiclass"}),
    focal(**same(oracle.focal)),
    focal(**same(oracle.focal, gamma=0.5, alpha=W4)),
    focal(**same(oracle.focal, gamma=3.0, weight=W4, per_image=True)),
    focal(**BINARY, **moded("binary", oracle.focal, gamma=2.0, alpha=0.25)),
    focal(**MAPS, **moded("multilabel", oracle.focal, gamma=1.5, weight=[1.0, 2.0, 3.0])),
    focal(partial(oracle.focal, act="sigmoid"), {"activation": "sigmoid"}),
    ohem_case(**same(oracle.ohem, thresh=0.5, min_kept=5)),
    ohem_case(**same(oracle.ohem, thresh=0.05, min_kept=0.3, weight=W4)),
    ohem_case(**same(oracle.ohem, thresh=0.6, min_kept=1000, selection="ocnet", weight=W4, weight_normalization=True)),
    ohem_case(**same(oracle.ohem, thresh=0.1, min_kept=7, per_image=True)),
    ohem_case(**same(oracle.ohem, thresh=0.01, min_kept=4, min_kept_per_image=True)),
    ohem_case(**BINARY, **moded("binary", oracle.ohem, thresh=0.3, min_kept=20, weight=[1.0, 2.0])),
    boot(**same(oracle.bootstrapped)),
    boot(**same(oracle.bootstrapped, top_k=7, per_image=True, weight=W4)),
    boot(**same(oracle.bootstrapped, top_k=5, threshold=1.0, weight=W4, weight_normalization=True)),
    boot(**BINARY, **moded("binary", oracle.bootstrapped, top_k=0.5)),
    Case("RecallLoss", **same(oracle.recall)),
    Case("RecallLoss", **same(oracle.recall, normalize="weights", weight=W4)),
    Case("RecallLoss", **same(oracle.recall, per_image=True)),
    Case("DiceLoss", **UNIT, **same(oracle.dice)),
    Case("DiceLoss", **UNIT, **same(oracle.dice, squared=True, smooth_num=1.0, smooth_den=1.0)),
    Case("DiceLoss", soft=True, **same(oracle.dice, log_loss=True, average="micro")),
    Case("DiceLoss", **UNIT, **same(oracle.dice, per_image=True, classes="all", weight=W4)),
    Case("DiceLoss", **UNIT, **same(oracle.dice, classes=[1, 3], absent_as_zero=True)),
    Case("DiceLoss", soft=True, **same(oracle.dice, weight=W4, weight_normalization=False)),
    Case("DiceLoss", **UNIT, **BINARY, **moded("binary", oracle.dice, smooth_den=2.0, smooth_num=2.0)),
    Case("DiceLoss", **UNIT, **MAPS, **moded("multilabel", oracle.dice)),
    Case("JaccardLoss", **UNIT, **same(oracle.jaccard)),
    Case("JaccardLoss", soft=True, **same(oracle.jaccard, squared=True, log_loss=True)),
    Case("JaccardLoss", **UNIT, **MAPS, **moded("multilabel", oracle.jaccard, per_image=True, smooth_den=1.0, smooth_num=1.0)),
    Case("TverskyLoss", **UNIT, **same(oracle.tversky)),
    Case(
        "TverskyLoss",
        **UNIT,
        **same(oracle.tversky, alpha=0.8, beta=0.1, classes="all", average="micro", smooth_num=0.5, smooth_den=0.5),
    ),
    Case("TverskyLoss", **UNIT, **BINARY, **moded("binary", oracle.tversky, per_image=True)),
    Case("FocalTverskyLoss", partial(oracle.tversky, gamma=0.75), **UNIT),
    Case("FocalTverskyLoss", **UNIT, **same(oracle.tversky, gamma=2.0, power_of_mean=True, alpha=0.5, per_image=True)),
    Case("GeneralizedDiceLoss", **UNIT, **same(oracle.generalized_dice)),
    Case("GeneralizedDiceLoss", **UNIT, **same(oracle.generalized_dice, weight_type="simple", per_image=True)),
    Case("GeneralizedDiceLoss", **UNIT, **same(oracle.generalized_dice, weight_type="uniform", classes="all", weight=W4)),
    Case("GeneralizedDiceLoss", **UNIT, **MAPS, **moded("multilabel", oracle.generalized_dice, smooth_num=1.0, smooth_den=1.0)),
    Case("LogCoshDiceLoss", **same(oracle.log_cosh_dice), high=LOGCOSH1, soft=True),
    Case("LogCoshDiceLoss", **same(oracle.log_cosh_dice, per_image=True, smooth_num=1.0, smooth_den=1.0), high=LOGCOSH1, soft=True),
    Case("MCCLoss", **same(oracle.mcc), high=2.0, soft=True),
    Case("MCCLoss", **moded("binary", oracle.mcc, per_image=True), **BINARY, high=2.0, soft=True),
    Case("ExponentialLogarithmicLoss", **same(oracle.exponential_logarithmic), perfect=None),
    Case(
        "ExponentialLogarithmicLoss",
        perfect=None,
        **same(oracle.exponential_logarithmic, frequencies=[5, 3, 2, 0.5], weight=W4, gamma_cross=1.0, w_dice=0.5, per_image=True),
    ),
    lovasz_case(softmax_lovasz),
    lovasz_case(softmax_lovasz, approximate=False),
    lovasz_case(softmax_lovasz, per_image=True, classes="all"),
    lovasz_case(softmax_lovasz, approximate=False, per_image=True, classes="all"),
    lovasz_case(softmax_lovasz, classes=[0, 2], weight=W4),
    lovasz_case(softmax_lovasz, "binary"),
    lovasz_case(softmax_lovasz, "multilabel"),
    lovasz_case(hinge, "binary", own=HINGE, classes="all"),
    lovasz_case(hinge, "binary", approximate=False, own=HINGE, classes="all"),
    lovasz_case(hinge, "binary", own=HINGE, classes="all", per_image=True),
    lovasz_case(hinge, "multilabel", own=HINGE, classes="present"),
    # two softmax channels have kernels of their own
    ce(**PAIR, soft=True, perfect=None, **same(oracle.cross_entropy, label_smoothing=0.2, weight=[1.0, 3.0])),
    focal(**PAIR, **same(oracle.focal, gamma=1.5, alpha=[0.25, 0.75], per_image=True)),
    ohem_case(**PAIR, **same(oracle.ohem, thresh=0.5, min_kept=5)),
    Case("RecallLoss", **PAIR, **same(oracle.recall, weight=[1.0, 3.0])),
    Case("DiceLoss", **PAIR, **UNIT, **same(oracle.dice, squared=True, per_image=True)),
    Case("JaccardLoss", **PAIR, **UNIT, **same(oracle.jaccard, classes=[1])),
    Case("ExponentialLogarithmicLoss", **PAIR, **same(oracle.exponential_logarithmic), perfect=None),
    lovasz_case(partial(softmax_lovasz, **PAIR)),
    lovasz_case(partial(softmax_lovasz, **PAIR), per_image=True, classes="all"),
    mix(("CrossEntropyLoss", {}, oracle.cross_entropy), ("LovaszSoftmaxLoss", {}, oracle.lovasz), coef=(0.8, 0.2), exact=False),
    mix(("FocalLoss", {}, oracle.focal), ("DiceLoss", {"classes": "all"}, partial(oracle.dice, classes="all")), coef=(1.0, 0.5)),
    mix(
        ("BinaryCrossEntropyLoss", {}, oracle.binary_cross_entropy),
        ("LovaszHingeLoss", {}, partial(oracle.lovasz, hinge=True, classes="all")),
        ("DiceLoss", {"mode": "binary"}, partial(oracle.dice, act="sigmoid")),
        coef=(1.0, 0.3, 0.7),
        exact=False,
        **BINARY,
    ),
    mix(
        ("OhemCrossEntropyLoss", {"min_kept": 10}, partial(oracle.ohem, min_kept=10)),
        ("LovaszSoftmaxLoss", {}, oracle.lovasz),
        ("RecallLoss", {}, oracle.recall),
        coef=(1.0, 2.0, 0.1),
        exact=False,
        **SELECT,
    ),
]

# one case per loss, mode and kernel, for checks that do not depend on the other keywords
BASIC = list({(case.loss, case.mode, case.channels): case for case in reversed(CASES)}.values())[::-1]


@dataclass
class Batch:
    """Logits and targets with a pixel dimension, as the oracle takes them (float64 numpy) and as tensors."""

    z: torch.Tensor  # (N, C, *spatial)
    y: torch.Tensor

    def numpy(self):
        n, c = self.z.shape[:2]
        y = self.y.reshape(n, c, -1) if self.y.dim() == self.z.dim() else self.y.reshape(n, -1)
        return self.z.detach().double().reshape(n, c, -1).numpy().copy(), y.numpy()

    def to(self, dtype):
        return dataclasses.replace(self, z=self.z.to(dtype))


def batch(case, *, seed=0, images=3, spatial=(4, 6), soft=False, ignored=0.15, scale=1.5):
    """Random logits and targets. Every class is present in every image; the last class has two pixels."""
    g = torch.Generator().manual_seed(seed)
    C, P = case.channels, math.prod(spatial)
    z = scale * torch.randn(images, C, P, generator=g, dtype=torch.float64)
    if soft:
        y = torch.rand(images, C, P, generator=g, dtype=torch.float64)
        if case.mode == "multiclass":
            y = (3 * y).softmax(1)
        out = torch.rand(images, 1, P, generator=g) < ignored
        y = torch.where(out, 255.0, y)
        return Batch(z.reshape(images, C, *spatial), y.reshape(images, C, *spatial))
    if case.target == "maps":
        y = (torch.rand(images, C, P, generator=g) < 0.3).long()
        y[:, :, 0] = 1
        out = torch.rand(images, C, P, generator=g) < ignored
        out[:, :, 0] = False
    else:
        classes = max(C, 2)
        y = torch.randint(0, classes - 1, (images, P), generator=g)
        y[:, -2:] = classes - 1
        y[:, : classes - 1] = torch.arange(classes - 1)
        out = torch.rand(images, P, generator=g) < ignored
        out[:, -2:] = out[:, : classes - 1] = False
    y = torch.where(out, 255, y)
    return Batch(z.reshape(images, C, *spatial), y.reshape(*y.shape[:-1], *spatial))


def saturated(case, b, right=True, size=1e4):
    """Logits of ±1e4 that predict every pixel rightly (or wrongly)."""
    if case.target == "maps" or case.channels == 1:
        y = b.y if case.target == "maps" else b.y[:, None]
        on = y == 1
        return torch.where(on if right else ~on, size, -size).double()
    y = b.y.where(b.y != 255, 0)
    y = y if right else (y + 1) % case.channels
    return size * (2 * torch.nn.functional.one_hot(y, case.channels).movedim(-1, 1).double() - 1)


def evaluate(loss, z, y, **call):
    """Value and gradient, with an upstream factor that is not 1."""
    z = z.detach().clone().requires_grad_()
    value = loss(z, y, **call)
    (gradient,) = torch.autograd.grad(value, z, torch.tensor(-1.7, dtype=value.dtype))
    return value.detach(), gradient


def relative(a, b):
    """|a - b| / |b| in the L2 norm; absolute where b is 0."""
    scale = b.double().norm().item()
    return (a.double() - b.double()).norm().item() / (scale if scale > 0 else 1.0)


def close(a, b, tolerance):
    a, b = (x.item() if isinstance(x, torch.Tensor) else float(x) for x in (a, b))
    return abs(a - b) <= tolerance * max(1.0, abs(b)) and np.isfinite(a)
