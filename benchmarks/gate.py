"""No speed is printed for a wrong number: values and gradients of what is timed, checked on small batches first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import registry
from evenseg.bench.inputs import LOGITS, Batch, make_batch
from evenseg.statistics import DEFAULT_BINS

SMALL_SHAPES = ((2, 5, 96, 64), (2, 2, 96, 64), (2, 1, 96, 64))
VALUE = 1e-5  # cross-entropy and mix, relative
GRADIENT = 1e-5
LOVASZ_VALUE = 1 / DEFAULT_BINS  # the histogram is never above the sort, and less than a bin below
LOVASZ_GRADIENT = 1e-3
ROUNDING = 1e-6


class GateError(Exception):
    """What is timed is not what it should be."""


def value_and_gradient(call: Callable[[], Tensor], batch: Batch) -> tuple[float, Tensor]:
    batch.logits.grad = None
    value = call()
    value.backward()
    gradient = batch.logits.grad
    assert gradient is not None
    return value.item(), gradient


Result = tuple[float, Tensor]


def compare(what: str, ours: Result, theirs: Result, below: float, above: float, gradient: float) -> str:
    """A line about values and gradients; GateError if ours leaves [theirs - below, theirs + above] or the gradient is off."""
    difference = ours[0] - theirs[0]
    gap = ((ours[1] - theirs[1]).norm() / theirs[1].norm()).item()
    text = f"{what}: value off by {difference:.1e}, gradient by {gap:.1e} of its norm"
    if not (-below <= difference <= above and gap <= gradient):
        raise GateError(f"{text}; allowed are -{below:.1e} to {above:.1e}, and {gradient:.0e}")
    return text


def check() -> list[str]:
    """One line for every comparison; GateError at the first that fails."""
    return [
        line for shape in SMALL_SHAPES for kind in LOGITS for line in check_batch(make_batch(shape, kind), f"{shape}, {kind}-like")
    ]


def check_batch(batch: Batch, where: str) -> list[str]:
    """The three comparisons on one batch."""
    plain = Batch(batch.logits, batch.without_ignored())  # torch's BCE knows no ignore index
    torch_ce = value_and_gradient(registry.baseline(plain), batch)
    ours = value_and_gradient(registry.cross_entropy(plain), batch)
    slack = VALUE * max(1.0, torch_ce[0])
    lines = [compare(f"cross-entropy against torch at {where}", ours, torch_ce, slack, slack, GRADIENT)]

    exact = value_and_gradient(registry.sorted_lovasz(batch), batch)
    ours = value_and_gradient(registry.lovasz(batch), batch)
    lines.append(compare(f"Lovász against its sort at {where}", ours, exact, LOVASZ_VALUE, ROUNDING, LOVASZ_GRADIENT))

    terms = [value_and_gradient(partial(t, batch.logits, batch.target), batch) for t in registry.mix_of(batch.binary).losses]
    apart = sum(v for v, _ in terms), torch.stack([g for _, g in terms]).sum(0)
    ours = value_and_gradient(registry.mix(batch), batch)
    slack = VALUE * max(1.0, apart[0])
    return [*lines, compare(f"mix against its terms at {where}", ours, apart, slack, slack, GRADIENT)]
