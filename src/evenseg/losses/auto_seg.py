"""Auto Seg-Loss: metrics made differentiable by searched curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.curves import Curve, bend, identity_numbers, read_curves
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import flag, nearest, number

EPS = 1e-8


class AutoSegLoss(MapLoss):
    """One minus a metric (mIoU, accuracy, boundary F1) whose AND and OR of probabilities and labels are bent by searched curves.

    L = sum over the metrics of weight (1 - metric), with the metric of hard predictions written in AND(p, y) = h(p) y and
    OR(p, y) = h'(p) + y - h'(p) y, where h and h' are monotone curves from (0, 0) to (1, 1) (:mod:`evenseg.losses.curves`).
    The sums S_c run over the pixels of the batch, weighted by the pixel weights, C is the number of classes:

    mIoU = mean_c S_c(AND) / S_c(OR) over all classes; FWIoU = the same weighted by the pixels of the class; mAcc = mean_c
    S_c(AND) / S_c(y); gAcc = sum_c S_c(AND) / sum_c S_c(y); BIoU = mIoU over the pixels within `tolerance` of a label edge.
    BF1 = mean_c 2 P R / (P + R) over the classes with an edge, P = S_c(E e^) / S_c(E), R = S_c(E^ e) / S_c(e), where e is the
    edge of the labels (a pixel of the class beside one of another), q the smallest p among a pixel and its neighbours, E =
    h3(p) + h4(q) - h3(p) h4(q) - h1(p) h2(q) that of the prediction, and ^ widens by `tolerance` pixels.

    Args:
        metric: to be maximised: one of mIoU, FWIoU, mAcc, gAcc, BIoU, BF1, a list of them (their losses are added), or a mapping of
            metric to weight.
        parameters: of the curves: "published" (found by the authors on Pascal VOC), "identity" (h(p) = p), or the numbers x1, y1,
            x2, y2, ... of the inner control points, first curve first (AND then OR; h1, h2, h3, h4 for BF1). With several
            metrics a mapping of metric to one of these. `evenseg search` finds such numbers.
        tolerance: half-width in pixels of the edge band.
        drop_background: edges of class 0 alone make no band (BIoU).
        edges_in_ignored: BF1 counts edges that are predicted under ignored pixels, as the authors' code does. Logits there then
            have an influence.
        **common: mode ("multiclass", or "binary", which is two classes), ignore_index, weight (of the classes in the means), sync.

    Range: [0, sum of the weights of the metrics].

    Source: Li et al., Auto Seg-Loss, ICLR 2021. The curve is solved stably and keeps no intermediate (the authors' form is off
    by 0.19 in float32 at the identity), E is kept from going below 0, probabilities under ignored pixels are 0 in BF1, and a
    metric without anything to measure (no edge in the batch) costs 0. For gAcc and FWIoU "published" are the numbers in the
    authors' log: their configuration files repeat those of another metric. Confident mistakes get almost no gradient:
    start from a trained network or add cross-entropy.
    """

    modes = ("multiclass", "binary")

    def __init__(
        self,
        *,
        metric: str | Sequence[str] | Mapping[str, float] = "mIoU",
        parameters: str | Sequence[float] | Mapping[str, Any] = "published",
        tolerance: int = 5,
        drop_background: bool = True,
        edges_in_ignored: bool = False,
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.metric = read_metrics(metric)
        self.curves = {name: METRICS[name].read(parameters_of(name, parameters, self.metric)) for name in self.metric}
        if isinstance(tolerance, bool) or not isinstance(tolerance, int) or tolerance < 1:
            raise ValueError(f"tolerance must be a number of pixels, at least 1, got {tolerance!r}")
        self.tolerance = tolerance
        self.drop_background = flag("drop_background", drop_background)
        self.edges_in_ignored = flag("edges_in_ignored", edges_in_ignored)
        self.terms: dict[str, Tensor] = {}

    def weight_length(self, num_classes: int) -> int:
        return 2 if self.mode == "binary" else num_classes

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        assert maps.labels is not None
        pixels = _Pixels(maps, self)
        values = {name: METRICS[name].loss(pixels, self.curves[name]) for name in self.metric}
        if len(values) > 1:
            self.terms = {name: value.detach() for name, value in values.items()}
        total = maps.zero().double()
        for name, value in values.items():
            total = total + self.metric[name] * value
        return total

    def extra_repr(self) -> str:
        return f"metric={self.metric}, {super().extra_repr()}"


class _Pixels:
    """A batch as the metrics need it: probabilities of all classes, that of the label's class, weights, and sums over them."""

    def __init__(self, maps: Maps, loss: AutoSegLoss):
        assert maps.labels is not None
        self.loss, self.maps = loss, maps
        self.probs = self._probabilities(maps.logits)
        self.num_classes = self.probs.shape[1]
        self.labels, self.valid = maps.labels, maps.valid
        self._class = self.labels.clamp(min=0)
        self.weight = maps.weight[:, 0]
        self.own = self.probs.gather(1, self._class[:, None])[:, 0]

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.maps.softmax else torch.cat([-logits, logits], 1).sigmoid()

    def raw_probabilities(self) -> Tensor:
        """The probabilities with those under ignored pixels."""
        return self._probabilities(self.maps.raw_logits)

    def by_label(self, value: Tensor, weight: Tensor) -> Tensor:
        """(C,) weighted sums of (N, *spatial) values over the pixels labelled with each class, in float64."""
        weighted = (value * weight).double().flatten()
        return weighted.new_zeros(self.num_classes).index_add(0, self._class.flatten(), weighted)

    def over_pixels(self, value: Tensor, weight: Tensor) -> Tensor:
        """(C,) weighted sums of (N, C, *spatial) values over all pixels, in float64."""
        return (value * weight[:, None]).sum([0, *range(2, value.dim())], dtype=torch.float64)

    def class_weight(self) -> Tensor:
        return self.probs.new_ones(self.num_classes).double() if self.loss.weight is None else self.loss.weight.double()

    def edges(self, first_class: int = 0) -> Tensor:
        """(N, *spatial) bool: labelled pixels beside one with another label or none, for the classes from `first_class` on."""
        label = self.labels.to(self.probs.dtype)[:, None]
        uniform = (widened(label, 1) == label) & (widened(-label, 1) == -label)
        return (~uniform[:, 0]) & (self.labels >= first_class)

    def band(self) -> Tensor:
        """(N, *spatial) weights of the pixels near an edge, 0 elsewhere."""
        near = widened(self.edges(int(self.loss.drop_background)).to(self.probs.dtype)[:, None], self.loss.tolerance)
        return self.weight * near[:, 0]


def widened(x: Tensor, pixels: int) -> Tensor:
    """(N, C, *spatial) largest value in the square of this half-width; one pass per axis."""
    axes = x.dim() - 2
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[axes]
    for axis in range(axes):
        size = [2 * pixels + 1 if k == axis else 1 for k in range(axes)]
        x = pool(x, size, 1, [k // 2 for k in size])
    return x


def _weighted_mean(value_C: Tensor, weight_C: Tensor) -> Tensor:
    """The mean, or 1 (a loss of 0) where nothing has a weight."""
    total = weight_C.sum()
    return torch.where(total > 0, (weight_C * value_C).sum() / torch.where(total > 0, total, 1.0), 1.0)


def _iou(pixels: _Pixels, curves: Sequence[Curve], weight: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) IoU, and weighted number of pixels, of every class."""
    both, either = curves
    # only the label's own class has an AND; the OR of the label's class is 1 whatever the probability
    intersection = pixels.by_label(bend(pixels.own, both), weight)
    outside = pixels.over_pixels(bend(pixels.probs, either), weight) - pixels.by_label(bend(pixels.own, either), weight)
    size = pixels.by_label(torch.ones_like(pixels.own), weight)
    intersection, outside, size = pixels.loss.over_ranks(intersection, outside, size)
    return intersection / (size + outside + EPS), size


def _miou(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    iou, size = _iou(pixels, curves, pixels.weight)
    return 1 - _weighted_mean(iou, pixels.class_weight() * (size.sum() > 0))


def _fwiou(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    iou, size = _iou(pixels, curves, pixels.weight)
    return 1 - _weighted_mean(iou, pixels.class_weight() * size)


def _biou(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    iou, size = _iou(pixels, curves, pixels.band())
    return 1 - _weighted_mean(iou, pixels.class_weight() * (size.sum() > 0))


def _recall(pixels: _Pixels, curves: Sequence[Curve]) -> tuple[Tensor, Tensor]:
    correct = pixels.by_label(bend(pixels.own, curves[0]), pixels.weight)
    correct, size = pixels.loss.over_ranks(correct, pixels.by_label(torch.ones_like(pixels.own), pixels.weight))
    return correct / (size + EPS), size


def _macc(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    recall, size = _recall(pixels, curves)
    return 1 - _weighted_mean(recall, pixels.class_weight() * (size.sum() > 0))


def _gacc(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    recall, size = _recall(pixels, curves)
    return 1 - _weighted_mean(recall, pixels.class_weight() * size)


def _bf1(pixels: _Pixels, curves: Sequence[Curve]) -> Tensor:
    tolerance = pixels.loss.tolerance
    if pixels.loss.edges_in_ignored:
        p, weight = pixels.raw_probabilities(), torch.where(pixels.valid[:, 0], pixels.weight, 1.0)
    else:
        # an ignored pixel is of no class, for the labels and for the prediction alike
        p, weight = torch.where(pixels.valid, pixels.probs, 0.0), pixels.weight
    q = -widened(-p, 1)
    h1, h2, h3, h4 = curves
    third, fourth = bend(p, h3), bend(q, h4)
    predicted = (third + fourth - third * fourth - bend(p, h1) * bend(q, h2)).clamp(min=0)
    classes = torch.arange(pixels.num_classes, device=p.device).view(-1, *[1] * (p.dim() - 2))
    labelled = ((pixels.labels[:, None] == classes) & pixels.edges()[:, None]).to(p.dtype)
    met, found, predicted_size, size = pixels.loss.over_ranks(
        pixels.over_pixels(predicted * widened(labelled, tolerance), weight),
        pixels.over_pixels(widened(predicted, tolerance) * labelled, weight),
        pixels.over_pixels(predicted, weight),
        pixels.over_pixels(labelled, weight),
    )
    precision, recall = met / (predicted_size + EPS), found / (size + EPS)
    f1 = 2 * precision * recall / (precision + recall + EPS)
    return 1 - _weighted_mean(f1, pixels.class_weight() * (size > 0))


@dataclass(frozen=True)
class Metric:
    """A metric with curves in it.

    Attributes:
        name: of the metric.
        loss: (pixels, curves) -> one minus the metric.
        curves: how many it has.
        published: the numbers of their control points, as found by the authors.
    """

    name: str
    loss: Callable[[_Pixels, Sequence[Curve]], Tensor]
    curves: int
    published: tuple[float, ...]

    @property
    def pieces(self) -> int:
        """Pieces per curve of the published numbers, and of the identity."""
        return (len(self.published) // self.curves + 2) // 4

    def numbers(self, parameters: Any) -> list[float]:
        """The numbers of "published", "identity", or the list itself."""
        if parameters == "published":
            return list(self.published)
        if parameters == "identity":
            return identity_numbers(self.curves, self.pieces)
        if isinstance(parameters, str) or not isinstance(parameters, Sequence):
            raise ValueError(f"parameters of {self.name} must be 'published', 'identity' or a list of numbers, got {parameters!r}")
        return list(parameters)

    def read(self, parameters: Any) -> tuple[Curve, ...]:
        """The curves; ValueError for numbers that are none."""
        return read_curves(f"parameters of {self.name}", self.numbers(parameters), self.curves)


_IN_BIOU = (
    0.000365390355, 0.984171689, 0.969491959, 0.992340326, 0.988328516, 0.995552719,
    0.354609758, 0.267221928, 0.560551465, 0.435290039, 0.565432191, 0.601448298,
)  # fmt: skip

METRICS = {
    metric.name: metric
    for metric in (
        Metric("mIoU", _miou, 2, (
            0.00056972844, 0.64372045, 0.338589169, 0.70554336, 0.625281252, 0.779551927,
            0.69037557, 0.01306289, 0.834170515, 0.962431815, 0.942998269, 0.980038125,
        )),
        Metric("FWIoU", _fwiou, 2, (
            0.11907931, 0.669945, 0.19315827, 0.71179134, 0.46337387, 0.79494196,
            0.5266451, 0.29869753, 0.706645, 0.4485701, 0.86858255, 0.7261703,
        )),
        Metric("mAcc", _macc, 1, (0.021453928, 0.73905742, 0.41163361, 0.79865617, 0.91986191, 0.95041156)),
        Metric("gAcc", _gacc, 1, (0.221453928, 0.73905742, 0.41163361, 0.79865617, 0.91986191, 0.95041156)),
        Metric("BIoU", _biou, 2, _IN_BIOU),
        Metric("BF1", _bf1, 4, (
            0.8113003373146057, 0.8526162505149841, 0.17164576053619385, 0.03164796531200409,
            0.20997394621372223, 0.44903290271759033, 0.07847517728805542, 0.8753038048744202,
        )),
    )
}  # fmt: skip


def read_metrics(metric: Any) -> dict[str, float]:
    """Metric -> weight from a name, a list of names or a mapping; ValueError with the nearest name otherwise."""
    if isinstance(metric, str):
        weights: dict[Any, Any] = {metric: 1.0}
    elif isinstance(metric, Mapping):
        weights = dict(metric)
    elif isinstance(metric, Sequence) and all(isinstance(name, str) for name in metric) and len(set(metric)) == len(metric):
        weights = dict.fromkeys(metric, 1.0)
    else:
        raise ValueError(f"metric must be a name, a list of different ones or a mapping of name to weight, got {metric!r}")
    if not weights:
        raise ValueError(f"metric is empty; allowed: {', '.join(METRICS)}")
    for name in weights:
        if name not in METRICS:
            raise ValueError(f"metric: unknown name {name!r}; {nearest(str(name), METRICS)}")
    return {name: number(f"metric: the weight of {name}", weight, 0, open_low=True) for name, weight in weights.items()}


def parameters_of(name: str, parameters: Any, metrics: Mapping[str, float]) -> Any:
    """What the `parameters` of the loss say about one metric."""
    if isinstance(parameters, Mapping):
        for key in parameters:
            if key not in metrics:
                raise ValueError(f"parameters: {key!r} is no metric of this loss; {nearest(str(key), metrics)}")
        return parameters.get(name, "published")
    if len(metrics) > 1 and not isinstance(parameters, str):
        form = ", ".join(f"{metric}: [...]" for metric in metrics)
        raise ValueError(f"parameters of several metrics are a mapping, {{{form}}}, got {parameters!r}")
    return parameters


auto_seg_loss = functional(AutoSegLoss)
