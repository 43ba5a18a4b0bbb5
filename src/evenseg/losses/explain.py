"""Why two losses give different numbers: every option in which they differ, switched alone, on one batch.

A loss is taken apart into terms (one, or those of a mix), each a flat mapping of all its options with their defaults. Presets are
configurations of our losses, so they come apart in the same way. Losses of one family (Dice, Jaccard and Tversky; cross-entropy and
focal) are written as the most general of them, so that what differs between them is an option too.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from evenseg.losses import LOSSES, MixedLoss
from evenseg.losses.base import StatisticLoss, keywords
from evenseg.losses.build import build_single_loss
from evenseg.losses.presets import PRESETS, preset_section
from evenseg.losses.presets.adapted import Adapted

Section = dict[str, Any]

EQUAL = 1e-7  # relative difference that counts as none

_ADAPTED = f"{Adapted.__module__}.{Adapted.__name__}"
_ADAPTATIONS: Section = {
    name: p.default for name, p in inspect.signature(Adapted).parameters.items() if p.kind is p.KEYWORD_ONLY
}
_MOST_SUBSETS = 220  # that are tried to find the fewest options that matter
_NOT_COMPARED = ("engine", "sync")  # how the numbers are computed, not what they are
_DEFAULTS: Section = {
    "ignore_index": 255, "weight": None, "per_image": False, "reduction": "mean", "memory": None, "empty_image": None,
    "divisor": "weights", "mean_order": "classes_first",
}  # fmt: skip
_TVERSKY = ("DiceLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss")
_OF_TVERSKY = ("alpha", "beta", "smooth_num", "smooth_den", "eps")


@dataclass(frozen=True)
class Measured:
    """Value and gradient of a loss on the batch."""

    value: float
    gradient: Tensor

    @property
    def norm(self) -> float:
        return self.gradient.norm().item()


@dataclass(frozen=True)
class Switch:
    """What one option does when it alone is set from A's value to B's.

    Attributes:
        option: its name, with the term's in front of it in a mix.
        a, b: its values.
        measured: A with that option of B; None if the two do not go together.
        value_closed, gradient_closed: share of the gap to B that it closes, 1 for all of it, negative where it widens it; None
            where there is no gap.
        refusal: why it could not be switched.
    """

    option: str
    a: Any
    b: Any
    measured: Measured | None
    value_closed: float | None = None
    gradient_closed: float | None = None
    refusal: str = ""

    @property
    def effect(self) -> float:
        """By how much of the larger gap it moves value or gradient, -1 where it cannot be switched."""
        moved = [abs(closed) for closed in (self.value_closed, self.gradient_closed) if closed is not None]
        return -1.0 if self.measured is None else max(moved, default=0.0)

    def closes(self, share: float) -> bool:
        """Whether it closes this share of every gap there is."""
        shares = (self.value_closed, self.gradient_closed)
        return self.measured is not None and all(closed is None or closed >= share for closed in shares)


@dataclass(frozen=True)
class Explanation:
    """Two losses on one batch.

    Attributes:
        a, b: what they give.
        terms_a, terms_b: what they are: (coef, options that are no defaults) of every term.
        switches: one per option that differs, the most effective first.
        needed: the fewest options (at most three) that together close 99 % of both gaps; None if there are none.
        together: all options that both have, switched at once; None if there is none.
        only_a, only_b: options that the other's terms do not have and that are not at their default.
        same_terms: whether both are made of the same losses, so that options are all that can differ.
    """

    a: Measured
    b: Measured
    terms_a: list[tuple[float, Section]]
    terms_b: list[tuple[float, Section]]
    switches: list[Switch]
    needed: Switch | None
    together: Switch | None
    only_a: Section
    only_b: Section
    same_terms: bool

    @property
    def value_difference(self) -> float:
        """|A - B| / max(|A|, |B|), 0 for two zeros."""
        return _relative(abs(self.a.value - self.b.value), abs(self.a.value), abs(self.b.value))

    @property
    def gradient_difference(self) -> float:
        """The same of the gradients, in the L2 norm."""
        return _relative((self.a.gradient - self.b.gradient).norm().item(), self.a.norm, self.b.norm)

    @property
    def equal(self) -> bool:
        return self.value_difference <= EQUAL and self.gradient_difference <= EQUAL

    @property
    def explained(self) -> bool:
        """Whether the options that both have, all switched, give B."""
        return self.together is not None and self.together.closes(1 - 1e-6)


def explain_losses(a: Mapping[str, Any], b: Mapping[str, Any], logits: Tensor, target: Tensor) -> Explanation:
    """Both losses on one batch, and what every option that differs does on its own.

    Args:
        a: {"type": name, **keywords}, of a loss, a mix or a preset.
        b: likewise.
        logits: (N, C, *spatial), evaluated in float64 by the definition (engine "eager").
        target: labels or maps; 255 is ignored by both losses unless they say otherwise.

    Raises:
        ValueError: a loss that cannot be built or cannot take the batch.

    Example:
        >>> import torch
        >>> from evenseg.losses.explain import explain_losses
        >>> logits = torch.randn(2, 3, 8, 8)
        >>> target = torch.randint(0, 2, (2, 8, 8))
        >>> found = explain_losses({"type": "DiceLoss"}, {"type": "DiceLoss", "classes": "all"}, logits, target)
        >>> [(s.option, s.a, s.b, s.value_closed) for s in found.switches]
        [('classes', 'present', 'all', 1.0)]
    """
    ignored = bool((target == 255).any())
    # as given, so that a mistake is reported in the words it was made in
    for section in (a, b):
        build_single_loss(section, ignore_index=255 if ignored else None)
    pairs = _align(list(_terms(a, ignored)), list(_terms(b, ignored)))
    logits = logits.detach().double()

    def measure(options: Sequence[Section], coefs: Sequence[float]) -> Measured:
        leaf = logits.clone().requires_grad_()
        value = _build(options, coefs)(leaf, target)
        if value.dim():
            raise ValueError("reduction='none' gives no single number; compare losses with reduction='mean' or 'sum'")
        (gradient,) = torch.autograd.grad(value, leaf)
        return Measured(value.item(), gradient)

    coef_a, coef_b = [p.coef_a for p in pairs], [p.coef_b for p in pairs]
    first, last = measure([p.a for p in pairs], coef_a), measure([p.b for p in pairs], coef_b)
    changes = [_Change(i, k) for i, p in enumerate(pairs) for k in p.differing]
    changes += [_Change(i, "coef") for i, p in enumerate(pairs) if p.coef_a != p.coef_b]

    def switched(*chosen: _Change) -> Switch:
        keys = [[c.key for c in chosen if c.pair == i] for i in range(len(pairs))]
        coefs = [p.coef_b if "coef" in k else p.coef_a for p, k in zip(pairs, keys)]
        names = [pairs[c.pair].name(c.key, len(pairs)) for c in chosen]
        name = "all of these" if len(names) > 3 else " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        before, after = (pairs[chosen[0].pair].values(chosen[0].key) if len(chosen) == 1 else (None, None))
        try:
            found = measure([p.switch(*(key for key in k if key != "coef")) for p, k in zip(pairs, keys)], coefs)
        except ValueError as error:
            message = getattr(error, "errors", [error])[0]
            return Switch(name, before, after, None, refusal=re.sub(r"^loss[.\w]*: ", "", " ".join(str(message).split())))
        value = _closed(abs(first.value - last.value), abs(found.value - last.value), max(abs(first.value), abs(last.value)))
        gap, left = (first.gradient - last.gradient).norm().item(), (found.gradient - last.gradient).norm().item()
        return Switch(name, before, after, found, value, _closed(gap, left, max(first.norm, last.norm)))

    switches = sorted((switched(c) for c in changes), key=lambda s: -s.effect)
    options = [c for c in changes if c.key != "type"]
    explanation = Explanation(
        first, last,
        [(p.coef_a, _short(p.given_a)) for p in pairs if p.coef_a], [(p.coef_b, _short(p.given_b)) for p in pairs if p.coef_b],
        switches, None, switched(*options) if options else None,
        {p.name(k, len(pairs)): v for p in pairs for k, v in _short(p.a).items() if k not in p.b},
        {p.name(k, len(pairs)): v for p in pairs for k, v in _short(p.b).items() if k not in p.a},
        all(p.a["type"] == p.b["type"] for p in pairs),
    )  # fmt: skip
    if explanation.equal or not options:
        return explanation
    subsets = (subset for size in (1, 2, 3) if math.comb(len(options), size) <= _MOST_SUBSETS for subset in combinations(options, size))
    return replace(explanation, needed=next((found for found in (switched(*x) for x in subsets) if found.closes(0.99)), None))


def modes_and_classes(*sections: Mapping[str, Any]) -> tuple[set[str], int | None]:
    """The modes of the losses' terms, and how many classes their weights or class lists are for (None if any number)."""
    modes, needed = set(), []
    for section in sections:
        whole = build_single_loss(section)
        together = {m.loss for m in whole.modules() if isinstance(m, Adapted) and m.channels == "together"}
        for loss in whole.modules():
            if not hasattr(loss, "mode"):
                continue
            modes.add("multilabel" if loss in together else str(loss.mode))
            classes = getattr(loss, "classes", "all")
            needed += [] if isinstance(classes, str) else [max(classes) + 1]
            if loss.mode != "binary":
                tensors = [getattr(loss, name, None) for name in ("weight", "alpha", "pos_weight", "frequencies")]
                needed += [t.numel() for t in tensors if isinstance(t, Tensor) and t.numel() > 1]
    return modes, max(needed) if needed else None


def _relative(difference: float, *sizes: float) -> float:
    return difference / max(sizes) if max(sizes) > 0 else 0.0


def _closed(gap: float, left: float, scale: float) -> float | None:
    """Share of the gap that is gone, None where there was none."""
    if gap <= EQUAL * scale or gap == 0:
        return None
    return 1.0 if left <= 1e-9 * scale else 1 - left / gap


# -- terms ---------------------------------------------------------------------------------------------------------------


def _terms(section: Mapping[str, Any], ignored: bool, coef: float = 1.0) -> Iterator[tuple[float, Section]]:
    """(coef, all options) of every term of a loss."""
    options = dict(section)
    name = options.pop("type")
    if name in PRESETS:
        yield from _terms(preset_section(name, options, ignore_index=255 if ignored else None), ignored, coef)
    elif name == "MixedLoss":
        for part, c in zip(options["losses"], options["coef"]):
            yield from _terms(part, ignored, coef * c)
    elif name == _ADAPTED:
        for inner, term in _terms(options.pop("loss"), ignored, coef):
            yield inner, term | _ADAPTATIONS | options
    else:
        yield coef, {"type": name, **_defaults(name), **options}


def _defaults(name: str) -> Section:
    """Every keyword of a loss of ours with its default, but for those that do not change the number."""
    cls = LOSSES.get(name) or _imported(name)
    if cls is None:
        return {}
    found = _DEFAULTS | {"mode": getattr(cls, "default_mode", None), "classes": getattr(cls, "default_classes", None)}
    for base in reversed(cls.__mro__):
        if "__init__" in base.__dict__ and issubclass(base, nn.Module) and base is not nn.Module:
            found |= {p.name: p.default for p in inspect.signature(base.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY}
    allowed = keywords(cls)
    return {k: v for k, v in found.items() if k in allowed and k not in _NOT_COMPARED}


def _imported(name: str) -> type[nn.Module] | None:
    from evenseg._dotted import import_dotted

    return import_dotted(name, nn.Module) if "." in name else None  # type: ignore[no-any-return]


def _short(term: Section) -> Section:
    """A term without the options that have their default."""
    defaults = _defaults(term["type"]) | _ADAPTATIONS
    return {k: v for k, v in term.items() if k not in defaults or not _same(defaults[k], v)}


def _build(terms: Sequence[Section], coefs: Sequence[float]) -> nn.Module:
    losses: list[nn.Module] = []
    for term in terms:
        own = {k: v for k, v in term.items() if k not in _ADAPTATIONS}
        loss = build_single_loss(own)
        if isinstance(loss, StatisticLoss):
            loss.engine = "eager"
        conventions = {k: v for k, v in term.items() if k in _ADAPTATIONS and v != _ADAPTATIONS[k]}
        losses.append(Adapted(loss, **conventions) if conventions else loss)
    return losses[0] if len(losses) == 1 and coefs[0] == 1 else MixedLoss(losses, list(coefs))


@dataclass(frozen=True)
class _Change:
    """One option of one pair, or its coef."""

    pair: int
    key: str


# -- pairs of terms ------------------------------------------------------------------------------------------------------


@dataclass
class _Pair:
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
        return [k for k in self.a if k in self.b and not _same(_said(self.a, k), _said(self.b, k))]

    def values(self, key: str) -> tuple[Any, Any]:
        """A's and B's value of an option."""
        return (self.coef_a, self.coef_b) if key == "coef" else (_said(self.a, key), _said(self.b, key))

    def switch(self, *keys: str) -> Section:
        """A's term with these options of B. With B's type come B's options that A's type does not have."""
        if "type" not in keys:
            return self.a | {k: self.b[k] for k in keys}
        return {k: self.b[k] if k in keys or k not in self.a else self.a[k] for k in self.b}

    def name(self, key: str, pairs: int) -> str:
        return key if pairs == 1 else f"{self.label}.{key}"


def _align(a: list[tuple[float, Section]], b: list[tuple[float, Section]]) -> list[_Pair]:
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
    return [_Pair(*p, label) for p, label in zip(pairs, labels)]


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


def _said(term: Section, key: str) -> Any:
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
