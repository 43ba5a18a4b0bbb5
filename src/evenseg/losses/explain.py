"""Why two losses give different numbers: every option in which they differ, switched alone, on one batch.

A loss is taken apart into terms (one, or those of a mix), each a flat mapping of all its options with their defaults. Presets are
configurations of our losses, so they come apart in the same way. Losses of one family (Dice, Jaccard and Tversky; cross-entropy and
focal) are written as the most general of them, so that what differs between them is an option too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from evenseg.losses.build import build_single_loss
from evenseg.losses.explain_terms import Section, align, build_terms, terms_of, without_defaults
from evenseg.losses.presets.adapted import Adapted

EQUAL = 1e-7  # relative difference that counts as none
_MOST_SUBSETS = 220  # that are tried to find the fewest options that matter


@dataclass(frozen=True)
class _Change:
    """One option of one pair of terms, or its coef."""

    pair: int
    key: str


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
    ignore_index = 255 if ignored else None
    # as given, so that a mistake is reported in the words it was made in
    for section in (a, b):
        build_single_loss(section, ignore_index=ignore_index)
    pairs = align(list(terms_of(a, ignored)), list(terms_of(b, ignored)))
    logits = logits.detach().double()

    def measure(options: Sequence[Section], coefs: Sequence[float]) -> Measured:
        leaf = logits.clone().requires_grad_()
        value = build_terms(options, coefs, ignore_index)(leaf, target)
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
        [(p.coef_a, without_defaults(p.given_a)) for p in pairs if p.coef_a],
        [(p.coef_b, without_defaults(p.given_b)) for p in pairs if p.coef_b],
        switches, None, switched(*options) if options else None,
        {p.name(k, len(pairs)): v for p in pairs for k, v in without_defaults(p.a).items() if k not in p.b},
        {p.name(k, len(pairs)): v for p in pairs for k, v in without_defaults(p.b).items() if k not in p.a},
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
