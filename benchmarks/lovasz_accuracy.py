"""How far the histogram form of the Lovász losses is from the sorted one: `python -m benchmarks.lovasz_accuracy` prints and
writes docs/lovasz_accuracy.md.

The truth is method="sort" in float64; the histogram runs in float32 with its default bins, as in training.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from evenseg.losses import LovaszHingeLoss, LovaszSoftmaxLoss

SEEDS = (0, 1, 2)
SIDE = 256


def blobs(generator: torch.Generator, classes: int) -> Tensor:
    base = torch.randn(2, classes, SIDE // 16, SIDE // 16, generator=generator) - torch.linspace(0, 3, classes).view(1, classes, 1, 1)
    return F.interpolate(base, size=(SIDE, SIDE), mode="bilinear")


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, SIDE, SIDE, generator=generator)


def random(g):
    return noise(g, 2, 19), torch.randint(0, 19, (2, SIDE, SIDE), generator=g)


def untrained(g):
    up = blobs(g, 19)
    return 2 * up + noise(g, 2, 19), up.argmax(1)


def trained(g):
    up = blobs(g, 19)
    return 8 * up + noise(g, 2, 19), up.argmax(1)


def two_pixels(g):
    y = torch.randint(0, 4, (2, SIDE, SIDE), generator=g)
    y[0, 5, 5] = y[1, 7, 7] = 4
    return 2 * noise(g, 2, 5), y


def two_pixels_trained(g):
    z, y = two_pixels(g)
    return z + 4 * F.one_hot(y, 5).movedim(-1, 1), y


def thin(g):
    return 2 * noise(g, 4, 1), (torch.rand(4, SIDE, SIDE, generator=g) < 0.045).long()


def thin_trained(g):
    z, y = thin(g)
    return z + 3 * (2 * y[:, None] - 1), y


def two_pixels_binary(g):
    y = torch.zeros(4, SIDE, SIDE, dtype=torch.long)
    y[0, 3, 3] = y[1, 2, 2] = 1
    return 2 * noise(g, 4, 1), y


def one_bin(g):
    """Every probability in [0.5, 0.5 + 1/8192]: the whole problem lies in one bin."""
    y = (torch.rand(4, SIDE, SIDE, generator=g) < 0.045).long()
    return (torch.rand(4, 1, SIDE, SIDE, generator=g) / 2048) * (1 - 2 * y[:, None]), y


def ties(g):
    z = torch.randint(-2, 3, (2, 5, SIDE, SIDE), generator=g).float()
    return z, torch.randint(0, 5, (2, SIDE, SIDE), generator=g)


Row = tuple[str, type, dict, Callable[[torch.Generator], tuple[Tensor, Tensor]]]
ROWS: list[Row] = [
    ("random logits, 19 classes", LovaszSoftmaxLoss, {}, random),
    ("untrained-like, 19 uneven classes", LovaszSoftmaxLoss, {}, untrained),
    ("trained-like, 19 uneven classes", LovaszSoftmaxLoss, {}, trained),
    ("random logits, a class of 2 pixels", LovaszSoftmaxLoss, {}, two_pixels),
    ("half-trained, a class of 2 pixels", LovaszSoftmaxLoss, {}, two_pixels_trained),
    ("sigmoid, 4.5 % foreground, random", LovaszSoftmaxLoss, {"mode": "binary"}, thin),
    ("sigmoid, 2 foreground pixels, random", LovaszSoftmaxLoss, {"mode": "binary"}, two_pixels_binary),
    ("hinge, 4.5 % foreground, random", LovaszHingeLoss, {}, thin),
    ("hinge, 4.5 % foreground, trained", LovaszHingeLoss, {}, thin_trained),
    ("hinge, 2 foreground pixels, random", LovaszHingeLoss, {}, two_pixels_binary),
    ("all errors in one bin (no order left)", LovaszSoftmaxLoss, {"mode": "binary"}, one_bin),
    ("tied logits (gradient not unique)", LovaszSoftmaxLoss, {}, ties),
]


def compare(cls: type, options: dict, logits: Tensor, target: Tensor) -> dict[str, float]:
    values, gradients = [], []
    for method, dtype in (("sort", torch.float64), ("histogram", torch.float32)):
        z = logits.to(dtype).requires_grad_()
        value = cls(method=method, **options)(z, target)
        value.backward()
        assert z.grad is not None
        values.append(value.item())
        gradients.append(z.grad.double())
    exact, ours = gradients
    return {
        "value": values[0],
        "difference": values[1] - values[0],
        "gradient": float((exact - ours).norm() / exact.norm()),
        "cosine": float((exact * ours).sum() / (exact.norm() * ours.norm())),
    }


def table() -> str:
    lines = [
        "| input | loss (exact) | value: histogram - exact | gradient: relative L2 error | cosine |",
        "|---|---|---|---|---|",
    ]
    for name, cls, options, make in ROWS:
        found = [compare(cls, options, *make(torch.Generator().manual_seed(seed))) for seed in SEEDS]
        worst = max(found, key=lambda r: abs(r["difference"]))
        lines.append(
            f"| {name} | {worst['value']:.4f} | {worst['difference']:+.1e} | {max(r['gradient'] for r in found):.1e} | "
            f"{min(r['cosine'] for r in found):.6f} |"
        )
    return "\n".join(lines)


def main() -> None:
    text = (
        "# How exact is Lovász without a sort?\n\n"
        "Written by `python -m benchmarks.lovasz_accuracy`. The exact loss is `method=\"sort\"` in float64; the histogram is the "
        f"default, in float32. Worst of seeds {', '.join(map(str, SEEDS))}, images of {SIDE}x{SIDE} pixels, torch {torch.__version__}, "
        f"{platform.machine()} CPU.\n\n{table()}\n\n"
        "The last two rows are there on purpose. Where all errors fall into one bin, or are equal, the exact gradient depends on "
        "an order that rounding decides; any order gives a subgradient, and so does their mean, which the histogram takes.\n"
    )
    print(text)
    (Path(__file__).parents[1] / "docs" / "lovasz_accuracy.md").write_text(text)


if __name__ == "__main__":
    main()
