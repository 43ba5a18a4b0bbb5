"""Monotone curves from (0, 0) to (1, 1): what Auto Seg-Loss bends probabilities with.

A curve of K pieces is written as its 2K - 1 inner control points, x1, y1, x2, y2, ...; piece k is the quadratic Bezier curve
of points 2k, 2k + 1 and 2k + 2, the first point of all being (0, 0) and the last (1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from evenseg.losses.options import number

MIN_GAP = 1e-4  # between the x of neighbouring control points: a curve with a vertical tangent has no finite gradient
CODED_GAP = 2 * MIN_GAP  # of decoded curves, so that rounding never brings one below MIN_GAP


class Piece(NamedTuple):
    """The control points of one quadratic Bezier curve."""

    x0: float
    y0: float
    x1: float
    y1: float
    x2: float
    y2: float


Curve = tuple[Piece, ...]


def read_curves(name: str, numbers: Sequence[float], curves: int) -> tuple[Curve, ...]:
    """The curves of a list of numbers, or a ValueError that says what is wrong with it.

    Args:
        name: of the list, for errors.
        numbers: x1, y1, x2, y2, ... of the first curve, then those of the next.
        curves: how many there are, all of one number of pieces.
    """
    values = [number(f"{name}: entry {i}", value, 0, 1) for i, value in enumerate(numbers)]
    per_curve, rest = divmod(len(values), curves)
    if rest or per_curve < 2 or per_curve % 4 != 2:
        allowed = ", ".join(str(curves * (4 * pieces - 2)) for pieces in (1, 2, 3))
        raise ValueError(
            f"{name} needs {allowed}, ... numbers ({curves} curve{'s' if curves > 1 else ''} of 1, 2, 3, ... pieces), got {len(values)}"
        )
    out = []
    for start in range(0, len(values), per_curve):
        own = values[start : start + per_curve]
        x, y = [0.0, *own[::2], 1.0], [0.0, *own[1::2], 1.0]
        which = f"{name}: curve {start // per_curve + 1}"
        if any(after - before < (1 - 1e-9) * MIN_GAP for before, after in pairwise(x)):
            raise ValueError(f"{which}: x must rise by at least {MIN_GAP:g} from 0 over every point to 1, got {x[1:-1]}")
        if any(after < before for before, after in pairwise(y)):
            raise ValueError(f"{which}: y must not fall, got {y[1:-1]}")
        out.append(tuple(Piece(x[k], y[k], x[k + 1], y[k + 1], x[k + 2], y[k + 2]) for k in range(0, len(x) - 2, 2)))
    return tuple(out)


def identity_numbers(curves: int, pieces: int) -> list[float]:
    """The numbers of curves that leave everything as it is: points evenly spaced on the diagonal."""
    one = [k / (2 * pieces) for k in range(1, 2 * pieces) for _ in "xy"]
    return one * curves


def decode(shares: Sequence[float], curves: int) -> list[float]:
    """Control points from shares in [0, 1], of which every choice is a monotone curve: point = previous + share (1 - previous).

    This is the coding in which curves are searched. The x keep a distance that :func:`read_curves` accepts.
    """
    per_curve = len(shares) // curves
    points = per_curve // 2
    out: list[float] = []
    for start in range(0, len(shares), per_curve):
        x = y = 0.0
        for k in range(points):
            share_x, share_y = shares[start + 2 * k], shares[start + 2 * k + 1]
            x = min(max(x + share_x * (1 - x), x + CODED_GAP), 1 - CODED_GAP * (points - k))
            y = y + share_y * (1 - y)
            out += [x, y]
    return out


def encode(numbers: Sequence[float], curves: int) -> list[float]:
    """The shares whose :func:`decode` are these control points."""
    per_curve = len(numbers) // curves
    shares: list[float] = []
    for start in range(0, len(numbers), per_curve):
        before = [0.0, 0.0]
        for k in range(per_curve):
            value = numbers[start + k]
            left = 1 - before[k % 2]
            shares.append((value - before[k % 2]) / left if left > 0 else 0.0)
            before[k % 2] = value
    return shares


def bend(x: Tensor, curve: Curve) -> Tensor:
    """The curve's values at x in [0, 1]; its gradient is computed anew on the way back, so that nothing but x is kept."""
    result: Tensor = _Bend.apply(x, curve)
    return result


class _Bend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, curve: Curve) -> Tensor:
        ctx.save_for_backward(x)
        ctx.curve = curve
        return _over_pieces(_value, x, curve)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * _over_pieces(_slope, x, ctx.curve), None


def _over_pieces(of_piece, x: Tensor, curve: Curve) -> Tensor:
    out = of_piece(x, curve[0])
    for piece in curve[1:]:
        out = torch.where(x < piece.x0, out, of_piece(x, piece))
    return out


def _parameter(x: Tensor, p: Piece) -> Tensor:
    """The t in [0, 1] at which the piece has this x.

    With a = (x1 - x0)/(x2 - x0) and s = (x - x0)/(x2 - x0), s = 2 a t (1 - t) + t². The textbook root (a - r)/(2a - 1),
    r = sqrt(a² + (1 - 2a) s), is 0/0 at a = 1/2, in float32 off by 0.19 near it; s/(a + r) is the same number. And under the
    root stands (a - s)² + s (1 - s), which is never negative, whatever is rounded.
    """
    a = (p.x1 - p.x0) / (p.x2 - p.x0)
    s = ((x - p.x0) / (p.x2 - p.x0)).clamp(0, 1)
    return s / (((a - s) ** 2 + s * (1 - s)).sqrt() + a)


def _value(x: Tensor, p: Piece) -> Tensor:
    t = _parameter(x, p)
    return p.y0 + t * (2 * (p.y1 - p.y0) + t * (p.y2 - 2 * p.y1 + p.y0))


def _slope(x: Tensor, p: Piece) -> Tensor:
    """dy/dx = (dy/dt) / (dx/dt); the lower part is positive because x rises from point to point."""
    t = _parameter(x, p)
    rise = (p.y1 - p.y0) + t * (p.y2 - 2 * p.y1 + p.y0)
    return rise / ((p.x1 - p.x0) + t * (p.x2 - 2 * p.x1 + p.x0))
