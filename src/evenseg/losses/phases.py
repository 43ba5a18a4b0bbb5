"""Losses that change in the course of training: cross-entropy first, then Lovász, say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


def first_step(start: Any, iters: int | None) -> int:
    """The step at which a phase begins, counted from 0.

    Args:
        start: a step, or a fraction of `iters` between 0 and 1. A fraction gives the nearest step, at least 1 and at most
            iters - 1: 0.6667 of 900 steps is step 600, of 90 steps step 60.
        iters: steps of the training, where known.

    Raises:
        ValueError: neither of the two, or a fraction of an unknown number of steps.
    """
    if isinstance(start, bool) or not isinstance(start, (int, float)):
        raise ValueError(f"must be the step at which the phase begins, or a fraction of iters like 0.5, got {start!r}")
    if isinstance(start, int):
        return start
    if not 0 < start < 1:
        whole = f"; write {start:.0f} for that step" if start.is_integer() and start > 0 else ""
        raise ValueError(f"a step is a whole number, a fraction of iters lies between 0 and 1, got {start!r}{whole}")
    if iters is None:
        raise ValueError(f"{start!r} is a fraction of the steps of the training; give iters= to build_loss, or a whole number")
    return max(1, min(round(start * iters), iters - 1))


class PhasedLoss(nn.Module):
    """The loss of the phase in which the current step lies: what `build_loss` returns for a section with `phases`.

    The training loop says where it stands with `set_step` before every step; the module keeps the number in its
    state_dict. Calls, `terms` and `requires` are those of `OutputsLoss`.

    Args:
        losses: one per phase, in order.
        starts: first step of every phase, counted from 0; begins with 0 and increases.

    Raises:
        ValueError: numbers of losses and starts that differ, or starts that do not increase from 0.

    Example:
        >>> import torch
        >>> from evenseg import build_loss
        >>> later = {"start": 100, "types": [{"type": "LovaszSoftmaxLoss"}]}
        >>> loss = build_loss({"types": [{"type": "CrossEntropyLoss"}], "coef": [1], "phases": [later]})
        >>> logits, target = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
        >>> for step in (99, 100):
        ...     loss.set_step(step)
        ...     print(round(loss(logits, target).item(), 4), list(loss.terms))
        0.6931 ['CrossEntropyLoss']
        0.5 ['LovaszSoftmaxLoss']
    """

    def __init__(self, losses: Sequence[nn.Module], starts: Sequence[int]):
        super().__init__()
        if len(losses) != len(starts) or not losses:
            raise ValueError(f"needs one start per loss, got {len(losses)} losses and {len(starts)} starts")
        if starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
            raise ValueError(f"the starts of the phases must begin with 0 and increase, got {list(starts)}")
        self.losses = nn.ModuleList(losses)
        self.starts = tuple(starts)
        self.requires = tuple(dict.fromkeys(name for loss in losses for name in getattr(loss, "requires", ())))
        self._step = 0

    def set_step(self, step: int) -> None:
        """Say which step, counted from 0, the next calls belong to."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        self._step = int(step)

    @property
    def phase(self) -> int:
        """Number of the phase in force, counted from 0."""
        return bisect_right(self.starts, self._step) - 1

    @property
    def active(self) -> nn.Module:
        """The loss of the phase in force."""
        return self.losses[self.phase]

    @property
    def terms(self) -> dict[str, Tensor]:
        """Detached value of every term of the last call in this phase, by name."""
        return getattr(self.active, "terms", {})

    def forward(self, outputs: Any, target: Tensor, pixel_weight: Tensor | None = None, **context: Any) -> Tensor:
        return self.active(outputs, target, pixel_weight, **context)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self._step)

    def set_extra_state(self, state: Tensor) -> None:
        self._step = int(state)

    def extra_repr(self) -> str:
        return f"starts={list(self.starts)}"
