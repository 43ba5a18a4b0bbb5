"""No speed for a wrong number: the kernels of a device against the definition, in value and gradient."""

from __future__ import annotations

import torch

from evenseg.bench.inputs import LOGITS, make_batch
from evenseg.losses import LOSSES, StatisticLoss
from evenseg.losses.options import MODES

SHAPES = ((2, 5, 48, 40), (2, 2, 48, 40), (2, 1, 48, 40))
VALUE, GRADIENT = 2e-5, 1e-3  # relative; a histogram's gradient may be off by a thousandth of its norm
ROUNDING = {torch.float32: 1.0, torch.float16: 50.0, torch.bfloat16: 400.0}  # how much coarser a gradient may be stored


class GateError(Exception):
    """What would be timed is not what it should be."""


def check_kernels(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[str]:
    """One line for every loss, shape and kind of logits that was compared with the definition in float64.

    Raises:
        GateError: at the first value or gradient that is off.
    """
    lines = []
    for shape in SHAPES:
        for kind in LOGITS:
            batch = make_batch(shape, kind, device=device, dtype=dtype)
            for name, cls in LOSSES.items():
                if not issubclass(cls, StatisticLoss) or not _fits(cls, shape[1]):
                    continue
                lines.append(_compare(name, cls, batch.logits, batch.target, f"{shape}, {kind}-like, {dtype}".replace("torch.", "")))
    return lines


def _fits(cls: type[StatisticLoss], channels: int) -> bool:
    assert set(MODES) >= {cls.default_mode}
    return (cls.default_mode == "binary") == (channels == 1)


def _compare(name: str, cls: type[StatisticLoss], logits: torch.Tensor, target: torch.Tensor, where: str) -> str:
    found = []
    for engine, z in (("auto", logits), ("eager", logits.double())):
        x = z.detach().clone().requires_grad_()
        value = cls(engine=engine)(x, target)
        (gradient,) = torch.autograd.grad(value, x)
        found.append((value.item(), gradient.double()))
    (value, gradient), (truth, true_gradient) = found
    norm = true_gradient.norm().item()
    off, gap = abs(value - truth) / max(1.0, abs(truth)), (gradient - true_gradient).norm().item() / (norm or 1.0)
    text = f"{name} at {where}: value off by {off:.1e}, gradient by {gap:.1e} of its norm"
    coarser = ROUNDING[logits.dtype]
    if not (off <= VALUE and gap <= GRADIENT + 1e-5 * coarser):
        raise GateError(f"{text}; allowed are {VALUE:.0e} and {GRADIENT + 1e-5 * coarser:.0e}")
    return text
