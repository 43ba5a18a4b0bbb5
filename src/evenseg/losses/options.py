"""The keywords that all losses share, checked once, with errors that teach."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypedDict

import torch
from torch import Tensor

from evenseg._names import listed, nearest_name

MODES = ("multiclass", "binary", "multilabel")


class CommonOptions(TypedDict, total=False):
    """Keywords of every statistic loss; see :class:`evenseg.losses.base.StatisticLoss`."""

    mode: str
    ignore_index: int | None
    weight: Sequence[float] | Tensor | None
    per_image: bool
    classes: str | Sequence[int]
    reduction: str
    sync: bool
    engine: str
    memory: str | float | None
    empty_image: float | None


def nearest(name: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?' for a misspelt name, or the list of what is allowed."""
    allowed = sorted(allowed)
    close = nearest_name(str(name), allowed)
    return f"did you mean {close!r}?" if close else f"allowed: {listed(allowed, str(name))}"


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """The value, or a ValueError naming what is allowed."""
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> float:
    """The value as a float within [low, high] (or (low, high]), or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    checked = float(value)
    if checked < low or checked > high or (open_low and checked == low):
        raise ValueError(f"{name} must lie in {'(' if open_low else '['}{low:g}, {high:g}], got {value!r}")
    return checked


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """The value if it is an integer of at least `low` (and at most `high`), or a ValueError."""
    whole = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if whole is None or whole < low or (high is not None and whole > high):
        raise ValueError(f"{name} must be an integer {f'of at least {low}' if high is None else f'from {low} to {high}'}, got {value!r}")
    return whole


def flag(name: str, value: Any) -> bool:
    """The value if it is a bool, or a ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def label(name: str, value: Any) -> int | None:
    """An integer label or None, or a ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer or None, got {value!r}")
    if not -(2**31) <= int(value) < 2**31:
        raise ValueError(f"{name} must be an integer of at most 32 bits, got {value!r}")
    return int(value)


def class_weights(name: str, value: Any) -> Tensor | None:
    """A float tensor of non-negative finite numbers, one per class, or None."""
    if value is None:
        return None
    try:
        weights = torch.as_tensor(value, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a list of numbers, one per class, got {value!r}") from None
    if weights.dim() != 1 or weights.numel() == 0:
        raise ValueError(f"{name} must be a list of numbers, one per class, got {value!r}")
    if not bool((weights >= 0).all() & weights.isfinite().all()) or float(weights.sum()) == 0:
        raise ValueError(f"{name} must be finite, not negative and not all zero, got {weights.tolist()}")
    return weights


def class_selection(value: Any) -> str | tuple[int, ...]:
    """'present', 'all', 'foreground', or a tuple of distinct class numbers."""
    if isinstance(value, str):
        return one_of("classes", value, ("present", "all", "foreground"))
    integers = isinstance(value, Sequence) and all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in value)
    if not integers or len(value) == 0 or len(set(value)) != len(value):
        raise ValueError(f"classes must be 'present', 'all', 'foreground' or a list of distinct class numbers, got {value!r}")
    return tuple(value)
