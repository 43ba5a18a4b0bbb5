"""Weighted sums of losses that share one pass over the pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evenseg.losses.base import Annotated, StatisticLoss, channels, result_dtype
from evenseg.losses.maps import MapLoss, context_for
from evenseg.losses.options import number
from evenseg.losses.own import loss_name
from evenseg.statistics import DEFAULT_BINS, Members, SegmentStatistics, segment_statistics
from evenseg.statistics.types import require


@dataclasses.dataclass
class _Pass:
    """One call of segment_statistics and the losses that read it."""

    mode: str
    activation: str
    options: dict[str, Any]
    members: Members
    num_bins: int | None
    losses: list[int]


def _options(loss: StatisticLoss) -> dict[str, Any]:
    return {"ignore_index": loss.ignore_index, "sync": loss.sync, "engine": loss.engine}


def two_classes(stats: SegmentStatistics) -> SegmentStatistics:
    """Statistics of sigmoid(z1 - z0) read as those of a softmax over (z0, z1): the same function, class 0 being the rest."""

    def pair(of_zero: Tensor, of_one: Tensor) -> Tensor:
        return torch.cat([of_zero, of_one], 1)

    valid, n1 = stats.valid, stats.labels
    changed: dict[str, Any] = {
        "pixels": stats.pixels.expand(-1, 2), "valid": valid.expand(-1, 2), "labels": pair(valid - n1, n1),
        "labels_sq": pair(valid - n1, n1), "errors": None, "error_counts": None, "peak": None,
    }  # fmt: skip
    prob, overlap = stats.prob, stats.overlap if stats.overlap is not None else stats.product
    if prob is not None:
        changed["prob"] = pair(valid - prob, prob)
        if overlap is not None:
            both = pair(valid - n1 - prob + overlap, overlap)
            changed |= {"overlap": both, "product": both}
        if stats.prob_sq is not None:
            changed["prob_sq"] = pair(valid - 2 * prob + stats.prob_sq, stats.prob_sq)
    if stats.nll is not None:
        changed["nll"] = pair(require(stats.nll_rest, "nll_rest"), stats.nll)
        changed["nll_rest"] = None
    changed["focal"] = {g: pair(stats.focal_rest[g], f) for g, f in stats.focal.items()}
    changed["focal_rest"] = {}
    if stats.hits is not None and stats.predicted is not None:
        # right on class 0: neither labelled nor predicted as 1
        changed["hits"] = pair(valid - n1 - stats.predicted + stats.hits, stats.hits)
        changed["predicted"] = pair(valid - stats.predicted, stats.predicted)
    for name in ("pixel_nll", "pixel_labels", "pixel_weight"):
        value = getattr(stats, name)
        changed[name] = None if value is None else value[:, 0]
    return dataclasses.replace(stats, **changed)


def _two_class_reader(loss: StatisticLoss) -> Members | None:
    """The members of a sigmoid pass from which a two-class softmax loss can be read, or None if it cannot."""
    m = loss.members
    if loss.mode != "multiclass" or loss.activation != "softmax" or m.errors or m.nll_all or m.power:
        return None
    return m | Members(prob=m.overlap or m.product or m.prob_sq)


def refuse_annotated(loss: nn.Module, name: str) -> None:
    """ValueError if a loss cannot take partial labels."""
    if not isinstance(loss, (StatisticLoss, MixedLoss)):
        raise ValueError(
            f"{name} takes no annotated: partial labels need the losses on sums over pixels of this package (cross-entropy, Dice, "
            "Lovász ...)"
        )


class MixedLoss(nn.Module):
    """sum_k coef_k loss_k(logits, target), for about the price of one loss.

    Statistic losses with the same mode, ignore_index, sync and engine read one pass over the pixels, which computes the union
    of what they need; BCE or two-class CE with Lovász hinge, OHEM with Lovász, focal with Dice are such mixes. Other losses
    are called as they are.

    Args:
        losses: modules, or mappings {"type": name, **keywords} as in a config.
        coef: one finite number per loss. They are not normalised.

    After a call, `terms` holds the detached, unweighted value of every loss by name (equal names are numbered).

    Raises:
        ValueError: if the numbers of losses and coefs differ, or a loss is unknown.

    Example:
        >>> import torch
        >>> from evenseg.losses import CrossEntropyLoss, LovaszSoftmaxLoss, MixedLoss
        >>> mix = MixedLoss([CrossEntropyLoss(), LovaszSoftmaxLoss()], coef=[0.8, 0.2])
        >>> value = mix(torch.randn(2, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (2, 8, 8)))
        >>> list(mix.terms)
        ['CrossEntropyLoss', 'LovaszSoftmaxLoss']
    """

    def __init__(self, losses: Sequence[nn.Module | Mapping[str, Any]], coef: Sequence[float]):
        super().__init__()
        if isinstance(losses, (str, Mapping)) or not isinstance(losses, Sequence) or len(losses) == 0:
            raise ValueError(f"losses must be a non-empty list, got {losses!r}")
        if isinstance(coef, str) or not isinstance(coef, Sequence) or len(coef) != len(losses):
            given = f"{len(coef)}" if isinstance(coef, Sequence) and not isinstance(coef, str) else repr(coef)
            raise ValueError(f"MixedLoss needs one coef per loss: {len(losses)} losses, coef has {given}")
        self.coef = [number(f"coef[{i}]", c) for i, c in enumerate(coef)]
        if any(not isinstance(loss, nn.Module) for loss in losses):
            from evenseg.losses.build import build_single_loss  # build reads the table of losses, which holds this class

            losses = [
                loss if isinstance(loss, nn.Module) else build_single_loss(loss, path=f"losses[{i}]") for i, loss in enumerate(losses)
            ]
        self.losses = nn.ModuleList(losses)  # type: ignore[arg-type]
        self.names = unique_names([loss_name(loss) for loss in self.losses])
        self.terms: dict[str, Tensor] = {}
        self.requires = tuple(dict.fromkeys(name for loss in self.losses for name in getattr(loss, "requires", ())))

    def passes(self, two_channels: bool) -> list[_Pass]:
        """The passes that the losses need; `two_channels`: the logits have two channels, so binary and softmax can meet."""
        passes: list[_Pass] = []
        hinge = two_channels and any(isinstance(x, StatisticLoss) and x.mode == "binary" for x in self.losses)
        for i, loss in enumerate(self.losses):
            if not isinstance(loss, StatisticLoss) or getattr(loss, "method", None) == "sort" or loss.reduction == "none":
                continue
            members, mode, activation = loss.members, loss.mode, loss.activation
            readable = _two_class_reader(loss) if hinge else None
            if readable is not None:
                members, mode, activation = readable, "binary", "sigmoid"
            own = _Pass(mode, activation, _options(loss), members, loss.num_bins if members.errors else None, [i])
            for other in passes:
                if _join(other, own):
                    break
            else:
                passes.append(own)
        return passes

    def forward(
        self, logits: Tensor, target: Tensor, pixel_weight: Tensor | None = None, *, annotated: Annotated = None, **context: Any
    ) -> Tensor:
        for name, value in (("logits", logits), ("target", target)):
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")
        values: dict[int, Tensor] = {}
        two_channels = logits.dim() > 1 and logits.shape[1] == 2 and not target.is_floating_point()
        for p in self.passes(two_channels):
            losses = {i: self.losses[i] for i in p.losses}
            per_image = any(loss.per_image for loss in losses.values())
            if per_image and not all(loss.per_image for loss in losses.values()):
                p.members |= Members(absent=True)  # a class that one image lacks may be in another
            stats = segment_statistics(
                channels(logits, target, p.mode), target, p.members, activation=p.activation, per_image=per_image,
                num_bins=p.num_bins or DEFAULT_BINS, pixel_weight=pixel_weight, annotated=annotated, **p.options,
            )  # fmt: skip
            pooled = stats.pooled() if per_image else stats
            if per_image and p.options["sync"]:
                from evenseg.statistics.sync import sum_over_ranks

                pooled = sum_over_ranks(pooled)
            for i, loss in losses.items():
                view = stats if loss.per_image else pooled
                values[i] = loss.evaluate(two_classes(view) if loss.mode != p.mode else view)  # type: ignore[operator, union-attr]
        for i, loss in enumerate(self.losses):
            if i not in values:
                extra = context_for(loss, context)
                if annotated is not None:
                    refuse_annotated(loss, self.names[i])
                    extra["annotated"] = annotated
                # losses from elsewhere need not know pixel weights
                weights = () if pixel_weight is None and not isinstance(loss, (StatisticLoss, MapLoss, MixedLoss)) else (pixel_weight,)
                values[i] = loss(logits, target, *weights, **extra)
                if values[i].dim():
                    raise ValueError(f"{self.names[i]} in a mix must give a scalar; its reduction is {getattr(loss, 'reduction', None)!r}")
        self.terms = {}
        for i, (name, loss) in enumerate(zip(self.names, self.losses)):
            inner = getattr(loss, "terms", None)
            self.terms |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: values[i].detach()}
        total = sum(c * values[i].double() for i, c in enumerate(self.coef))
        assert isinstance(total, Tensor)
        return total.to(result_dtype(logits))

    def extra_repr(self) -> str:
        return f"coef={self.coef}"


def _join(p: _Pass, q: _Pass) -> bool:
    """Let pass p also serve q's loss if it can."""
    if p.options != q.options or p.mode != q.mode:
        return False
    if None not in (p.num_bins, q.num_bins) and p.num_bins != q.num_bins:
        return False
    if p.activation != q.activation:
        # a hinge pass is a sigmoid pass with other errors in its histogram
        sigmoid = p if p.activation == "sigmoid" else q
        if {p.activation, q.activation} != {"sigmoid", "hinge"} or sigmoid.members.errors:
            return False
        p.activation = "hinge"
    p.members |= q.members
    p.num_bins = p.num_bins or q.num_bins
    p.losses += q.losses
    return True


def unique_names(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that occur more than once."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if names.count(name) == 1 else f"{name}_{seen[name]}")
    return out
