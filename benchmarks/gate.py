"""No speed is printed for a wrong number: values and gradients of what is timed, checked on small batches first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import registry
from benchmarks.inputs import LOGITS, Batch, make_batch
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


def _compare(what: str, ours: tuple[float, Tensor], theirs: tuple[float, Tensor], below: float, above: float, gradient: float) -> str:
    difference = ours[0] - theirs[0]
    gap = ((ours[1] - theirs[1]).norm() / theirs[1].norm()).item()
    text = f"{what}: value off by {difference:.1e}, gradient by {gap:.1e} of its norm"
    if not (-below <= difference <= above and gap <= gradient):
        raise GateError(f"{text}; allowed are -{below:.1e} to {above:.1e}, and {gradient:.0e}")
    return text


def check() -> list[str]:
    """One line for every comparison; GateError at the first that fails."""
    lines = []
    for shape in SMALL_SHAPES:
        for kind in LOGITS:
            batch = make_batch(shape, kind)
            plain = Batch(batch.logits, batch.without_ignored())  # torch's BCE knows no ignore index
            where = f"{shape}, {kind}-like"
            torch_ce = value_and_gradient(registry.baseline(plain), batch)
            ours = value_and_gradient(registry.cross_entropy(plain), batch)
            lines.append(_compare(f"cross-entropy against torch at {where}", ours, torch_ce, *2 * [VALUE * max(1, torch_ce[0])], GRADIENT))
            exact = value_and_gradient(registry.sorted_lovasz(batch), batch)
            ours = value_and_gradient(registry.lovasz(batch), batch)
            lines.append(_compare(f"Lovász against its sort at {where}", ours, exact, LOVASZ_VALUE, ROUNDING, LOVASZ_GRADIENT))
            terms = [value_and_gradient(lambda t=t: t(batch.logits, batch.target), batch) for t in registry.mix_of(batch.binary).losses]
            apart = sum(v for v, _ in terms), torch.stack([g for _, g in terms]).sum(0)
            ours = value_and_gradient(registry.mix(batch), batch)
            lines.append(_compare(f"mix against its terms at {where}", ours, apart, *2 * [VALUE * max(1, apart[0])], GRADIENT))
    return lines
