"""Losses taken apart: into terms, each a flat mapping of all its options, and two losses' terms put beside each other."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from evenseg._dotted import import_dotted
from evenseg.losses import LOSSES, MixedLoss
from evenseg.losses.base import StatisticLoss, keywords
from evenseg.losses.build import build_single_loss
from evenseg.losses.presets import PRESETS, preset_section
from evenseg.losses.presets.adapted import Adapted

Section = dict[str, Any]

_ADAPTED = f"{Adapted.__module__}.{Adapted.__name__}"
_ADAPTATIONS: Section = {
    name: p.default for name, p in inspect.signature(Adapted).parameters.items() if p.kind is p.KEYWORD_ONLY
}
_NOT_COMPARED = ("engine", "sync")  # how the numbers are computed, not what they are
_DEFAULTS: Section = {
    "ignore_index": 255, "weight": None, "per_image": False, "reduction": "mean", "memory": None, "empty_image": None,
    "divisor": "weights", "mean_order": "classes_first",
}  # fmt: skip
_TVERSKY = ("DiceLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss")
_SELECTIVE: dict[str, Section] = {
    "OhemCrossEntropyLoss": {"min_kept": 1.0, "min_kept_per_image": False, "selection": "ocnet"},
    "BootstrappedCrossEntropyLoss": {"top_k": 1.0},
}  # that keep hard pixels, and how they keep all
_OF_TVERSKY = ("alpha", "beta", "smooth_num", "smooth_den", "eps")


# -- terms ---------------------------------------------------------------------------------------------------------------


def terms_of(section: Mapping[str, Any], ignored: bool, coef: float = 1.0) -> Iterator[tuple[float, Section]]:
    """(coef, all options) of every term of a loss."""
    options = dict(section)
    name = options.pop("type")
    if name in PRESETS:
        yield from terms_of(preset_section(name, options, ignore_index=255 if ignored else None), ignored, coef)
    elif name == "MixedLoss":
        for part, c in zip(options["losses"], options["coef"]):
            yield from terms_of(part, ignored, coef * c)
    elif name == _ADAPTED:
        for inner, term in terms_of(options.pop("loss"), ignored, coef):
            yield inner, term | _ADAPTATIONS | options
    else:
        yield coef, {"type": name, **_defaults(name), **options}


def _defaults(name: str) -> Section:
    """Every keyword of a loss of ours with its default, but for those that do not change the number."""
    cls: type[nn.Module] = LOSSES.get(name) or import_dotted(name, nn.Module)
    found = _DEFAULTS | {"mode": getattr(cls, "default_mode", None), "classes": getattr(cls, "default_classes", None)}
    for base in reversed(cls.__mro__):
        if "__init__" in base.__dict__ and issubclass(base, nn.Module) and base is not nn.Module:
            found |= {p.name: p.default for p in inspect.signature(base.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY}
    allowed = keywords(cls)
    return {k: v for k, v in found.items() if k in allowed and k not in _NOT_COMPARED}


def without_defaults(term: Section) -> Section:
    """A term without the options that have their default."""
    defaults = _defaults(term["type"]) | _ADAPTATIONS
    return {k: v for k, v in term.items() if k not in defaults or not _same(defaults[k], v)}


def build_terms(terms: Sequence[Section], coefs: Sequence[float], ignore_index: int | None) -> nn.Module:
    """The loss of the terms, on the engine that defines it; `ignore_index` is for losses of someone else."""
    losses: list[nn.Module] = []
    for term in terms:
        own = {k: v for k, v in term.items() if k not in _ADAPTATIONS}
        loss = build_single_loss(own, ignore_index=ignore_index)
        if isinstance(loss, StatisticLoss):
            loss.engine = "eager"
        conventions = {k: v for k, v in term.items() if k in _ADAPTATIONS and v != _ADAPTATIONS[k]}
        losses.append(Adapted(loss, **conventions) if conventions else loss)
    return losses[0] if len(losses) == 1 and coefs[0] == 1 else MixedLoss(losses, list(coefs))


# -- pairs of terms ------------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """A term of A beside the term of B that stands for the same thing; one that only one side has counts 0 on the other."""

    a: Section
    b: Section
    coef_a: float
    coef_b: float
    given_a: Section
    given_b: Section
    label: str

    @property
    def differing(self) -> list[str]:
        return [k for k in self.a if k in self.b and not _same(said(self.a, k), said(self.b, k))]

    def values(self, key: str) -> tuple[Any, Any]:
        """A's and B's value of an option."""
        return (self.coef_a, self.coef_b) if key == "coef" else (said(self.a, key), said(self.b, key))

    def switch(self, *keys: str) -> Section:
        """A's term with these options of B. With B's type come B's options that A's type does not have."""
        if "type" not in keys:
            return self.a | {k: self.b[k] for k in keys}
        return {k: self.b[k] if k in keys or k not in self.a else self.a[k] for k in self.b}

    def name(self, key: str, pairs: int) -> str:
        return key if pairs == 1 else f"{self.label}.{key}"


def align(a: list[tuple[float, Section]], b: list[tuple[float, Section]]) -> list[Pair]:
    """Terms of the same type beside each other, then those of the same family, then what is left in its order."""
    rest_a, rest_b, chosen = list(a), list(b), []

    def match(alike: Any) -> None:
        for x in list(rest_a):
            y = next((y for y in rest_b if alike(x[1], y[1])), None)
            if y is not None:
                chosen.append((a.index(x), x, y))
                rest_a.remove(x)
                rest_b.remove(y)

    match(lambda x, y: x["type"] == y["type"])
    match(lambda x, y: _unified(x, y)[0]["type"] == _unified(x, y)[1]["type"])
    if len(a) == len(b):
        match(lambda x, y: True)
    pairs = [(*_unified(x[1], y[1]), x[0], y[0], x[1], y[1]) for _, x, y in sorted(chosen, key=lambda c: c[0])]
    pairs += [(t, t, c, 0.0, t, t) for c, t in rest_a] + [(t, t, 0.0, c, t, t) for c, t in rest_b]
    labels = [p[0]["type"].rpartition(".")[2] for p in pairs]
    labels = [f"{name}[{i}]" if labels.count(name) > 1 else name for i, name in enumerate(labels)]
    return [Pair(*p, label) for p, label in zip(pairs, labels)]


def _unified(a: Section, b: Section) -> tuple[Section, Section]:
    """Both terms in the words of one type where one is the general case of the other; conventions filled in on both sides."""
    if _ADAPTATIONS.keys() & (a.keys() | b.keys()):
        a, b = _ADAPTATIONS | a, _ADAPTATIONS | b
        # the type first, whichever came first
        a, b = {"type": a["type"]} | a, {"type": b["type"]} | b
    if a["type"] == b["type"]:
        return a, b
    types = {a["type"], b["type"]}
    if types <= set(_TVERSKY):
        focal = "FocalTverskyLoss" in types
        if not (focal and any(x.get("log_loss") or x.get("overlap", "min") != "min" for x in (a, b))):
            return _as_tversky(a, focal), _as_tversky(b, focal)
    if "FocalLoss" in types:
        lifted = [_as_focal(x) for x in (a, b)]
        if lifted[0] and lifted[1]:
            return lifted[0], lifted[1]
    if types & _SELECTIVE.keys():
        return _as_selective(a, b), _as_selective(b, a)
    return a, b


def _as_tversky(term: Section, focal: bool) -> Section:
    """Dice and Jaccard as the Tversky losses that they are; all of them as focal Tversky losses if need be."""
    loss = build_single_loss({k: v for k, v in term.items() if k not in _ADAPTATIONS})
    name = "FocalTverskyLoss" if focal else "TverskyLoss"
    said = _defaults(name) | ({"gamma": 1.0} if focal else {}) | term | {"type": name}
    said |= {k: getattr(loss, k) for k in _OF_TVERSKY}
    allowed = {"type", *_defaults(name), *_ADAPTATIONS}
    return {k: said[k] for k in ("type", *said) if k in allowed}


def _as_focal(term: Section) -> Section | None:
    """Cross-entropy as the focal loss with gamma 0, where it is one."""
    if term["type"] == "FocalLoss":
        return term
    plain = term["type"] == "CrossEntropyLoss" and not term.get("label_smoothing")
    binary = term["type"] == "BinaryCrossEntropyLoss" and term.get("pos_weight") is None and term.get("weight") is None
    if not plain and not binary:
        return None
    kept = {k: v for k, v in term.items() if k in _defaults("FocalLoss") or k in _ADAPTATIONS}
    form = {"activation": "sigmoid"} if binary else {}
    return {"type": "FocalLoss", **_defaults("FocalLoss"), **kept, "gamma": 0.0, **form}


def _as_selective(term: Section, other: Section) -> Section:
    """Cross-entropy as the other loss, which keeps the hard pixels, with all of them kept."""
    plain = term["type"] == "CrossEntropyLoss" and not term.get("label_smoothing") and term.get("divisor") == "weights"
    if not plain or other["type"] not in _SELECTIVE:
        return term
    kept = {k: v for k, v in term.items() if k in other}
    return other | kept | {"type": other["type"], "weight_normalization": True} | _SELECTIVE[other["type"]]


def said(term: Section, key: str) -> Any:
    """The value of an option, a default that depends on another option written out."""
    value = term.get(key)
    if key == "activation" and value is None and "mode" in term:
        return "softmax" if term["mode"] == "multiclass" else "sigmoid"
    return value


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, Tensor):
        x = x.tolist()
    if isinstance(y, Tensor):
        y = y.tolist()
    if isinstance(x, Sequence) and isinstance(y, Sequence) and not isinstance(x, str) and not isinstance(y, str):
        return len(x) == len(y) and all(_same(p, q) for p, q in zip(x, y))
    numbers = isinstance(x, (int, float)) and isinstance(y, (int, float)) and bool not in (type(x), type(y))
    return math.isclose(x, y, rel_tol=1e-12) if numbers else x == y
