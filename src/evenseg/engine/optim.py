"""Optimisers by name and learning rates per step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}


class Schedule(ABC):
    """The learning rate of every step; the first `warmup_iters` steps rise linearly to the base rate."""

    def __init__(self, warmup_iters: int = 0) -> None:
        if warmup_iters < 0:
            raise ValueError(f"warmup_iters must not be negative, got {warmup_iters}")
        self.warmup_iters = warmup_iters

    def rate(self, step: int, iters: int, base: float) -> float:
        """Returns the rate of step 0, 1, ..., iters - 1 for a base rate."""
        if step < self.warmup_iters:
            return base * (step + 1) / (self.warmup_iters + 1)
        steps = max(1, iters - self.warmup_iters)
        return self._decay(min(step - self.warmup_iters, steps), steps, base)

    @abstractmethod
    def _decay(self, step: int, steps: int, base: float) -> float: ...


class Constant(Schedule):
    """lr = base."""

    def _decay(self, step: int, steps: int, base: float) -> float:
        return base


class Poly(Schedule):
    """lr = end + (base - end) (1 - step / steps)^power."""

    def __init__(self, power: float = 0.9, end_lr: float = 0.0, warmup_iters: int = 0) -> None:
        super().__init__(warmup_iters)
        self.power, self.end_lr = power, end_lr

    def _decay(self, step: int, steps: int, base: float) -> float:
        return self.end_lr + (base - self.end_lr) * (1 - step / steps) ** self.power


class Cosine(Schedule):
    """lr = end + (base - end) (1 + cos(pi step / steps)) / 2."""

    def __init__(self, end_lr: float = 0.0, warmup_iters: int = 0) -> None:
        super().__init__(warmup_iters)
        self.end_lr = end_lr

    def _decay(self, step: int, steps: int, base: float) -> float:
        return self.end_lr + (base - self.end_lr) * (1 + math.cos(math.pi * step / steps)) / 2


class Step(Schedule):
    """lr = base * gamma^(step // step_size)."""

    def __init__(self, step_size: int, gamma: float = 0.1, warmup_iters: int = 0) -> None:
        super().__init__(warmup_iters)
        if step_size < 1:
            raise ValueError(f"step_size must be at least 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma

    def _decay(self, step: int, steps: int, base: float) -> float:
        return base * self.gamma ** (step // self.step_size)


SCHEDULES: dict[str, type[Schedule]] = {"Constant": Constant, "Poly": Poly, "Cosine": Cosine, "Step": Step}
