"""Losses timed turn by turn with torch's cross-entropy."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from evenseg.bench.inputs import IGNORE, Batch, make_batch
from evenseg.bench.timing import Call, gpu_extra_peak, spread, timed
from evenseg.losses import build_loss

MIX = {
    "type": "MixedLoss", "coef": [1, 1, 1, 1],
    "losses": [{"type": "CrossEntropyLoss"}, {"type": "FocalLoss"}, {"type": "DiceLoss"}, {"type": "LovaszSoftmaxLoss"}],
}  # fmt: skip
BINARY_MIX = {
    "type": "MixedLoss", "coef": [1, 1, 1, 1],
    "losses": [
        {"type": "BinaryCrossEntropyLoss"}, {"type": "FocalLoss", "mode": "binary"}, {"type": "DiceLoss", "mode": "binary"},
        {"type": "LovaszHingeLoss"},
    ],
}  # fmt: skip
DEFAULT_LOSSES: dict[bool, dict[str, Mapping[str, Any]]] = {  # by whether there is one channel
    False: {
        "CrossEntropyLoss": {"type": "CrossEntropyLoss"}, "FocalLoss": {"type": "FocalLoss"}, "DiceLoss": {"type": "DiceLoss"},
        "LovaszSoftmaxLoss": {"type": "LovaszSoftmaxLoss"}, "CE + focal + Dice + Lovász": MIX,
    },
    True: {
        "BinaryCrossEntropyLoss": {"type": "BinaryCrossEntropyLoss"}, "DiceLoss": {"type": "DiceLoss", "mode": "binary"},
        "LovaszHingeLoss": {"type": "LovaszHingeLoss"}, "BCE + focal + Dice + hinge": BINARY_MIX,
    },
}  # fmt: skip
SETS = 3  # batches that take turns on a GPU, so that its cache does not help


@dataclass(frozen=True)
class LossCost:
    """What one loss cost at one shape; times in seconds, sizes in bytes.

    Attributes:
        loss, shape, device, dtype: what was measured.
        ratio: time over the baseline's just before it: median and quartiles.
        seconds, baseline_seconds: of one forward and backward.
        bytes_moved: of the logits' two reads and one write, which no way of computing a gradient can avoid.
        extra_bytes, baseline_extra_bytes: peak memory beyond the inputs (GPU only), None elsewhere.
    """

    loss: str
    shape: tuple[int, ...]
    device: str
    dtype: str
    rounds: int
    ratio: dict[str, float]
    seconds: dict[str, float]
    baseline_seconds: dict[str, float]
    bytes_moved: int
    extra_bytes: int | None
    baseline_extra_bytes: int | None

    @property
    def gigabytes_per_second(self) -> float:
        """Of the bytes that must move."""
        return self.bytes_moved / self.seconds["median"] / 1e9

    @property
    def nanoseconds_per_pixel(self) -> float:
        N, _, *spatial = self.shape
        pixels = N
        for s in spatial:
            pixels *= s
        return self.seconds["median"] / pixels * 1e9

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"gigabytes_per_second": self.gigabytes_per_second, "nanoseconds_per_pixel": self.nanoseconds_per_pixel}


def cross_entropy(batch: Batch) -> Call:
    """Torch's own: F.cross_entropy, or for one channel F.binary_cross_entropy_with_logits on float targets made beforehand."""
    z = batch.logits
    if batch.binary:
        y = batch.as_float().to(z.dtype)
        return lambda: F.binary_cross_entropy_with_logits(z, y)
    return lambda: F.cross_entropy(z, batch.target, ignore_index=IGNORE)


def compiled_cross_entropy(batch: Batch) -> Call:
    """The same through torch.compile."""
    z = batch.logits
    if batch.binary:
        y = batch.as_float().to(z.dtype)
        binary = torch.compile(F.binary_cross_entropy_with_logits)
        return lambda: binary(z, y)
    several = torch.compile(F.cross_entropy)
    return lambda: several(z, batch.target, ignore_index=IGNORE)


def measure_losses(
    shape: tuple[int, ...], losses: Mapping[str, Mapping[str, Any]] | None = None, *, device: str = "cpu",
    dtype: torch.dtype = torch.float32, kind: str = "untrained", rounds: int = 7, compiled: bool = False,
) -> list[LossCost]:  # fmt: skip
    """Forward + backward of every loss, each round next to one of torch's cross-entropy on the same logits.

    Args:
        shape: (N, C, H, W).
        losses: sections of a configuration by the name to show; by default cross-entropy, Dice, Lovász and a mix.
        device: "cpu" or "cuda".
        dtype: of the logits.
        kind: "untrained" or "trained"-like logits.
        rounds: pairs of a baseline and a row.
        compiled: add a row for torch.compile'd cross-entropy.

    Raises:
        ValueError: a section that cannot be built, or a loss that needs more than logits and labels.
    """
    sets = SETS if device != "cpu" else 1
    batches = [make_batch(shape, kind, seed, device, dtype) for seed in range(sets)]
    chosen = DEFAULT_LOSSES[shape[1] == 1] if losses is None else losses
    rows: dict[str, list[Call]] = {}
    if compiled:
        rows["torch.compile(F.cross_entropy)"] = [compiled_cross_entropy(b) for b in batches]
    for name, section in chosen.items():
        loss = build_loss(section).to(device)
        needs = getattr(loss, "requires", ())
        if needs:
            raise ValueError(f"{name} needs {' and '.join(needs)} beside logits and labels, which this measurement does not have")
        rows[name] = [lambda b=b, loss=loss: loss(b.logits, b.target) for b in batches]  # type: ignore[misc]
    references = [cross_entropy(b) for b in batches]
    warm = [timed(references[0], batches[0])]
    for calls in rows.values():
        warm += [timed(calls[0], batches[0]) for _ in range(2)]
    found = []
    for name, calls in rows.items():
        pairs = _pairs(references, calls, batches, rounds)
        found.append(_cost(name, shape, device, dtype, batches[0], pairs, references[0], calls[0]))
        gc.collect(1)
    return found


def _pairs(references: Sequence[Call], calls: Sequence[Call], batches: Sequence[Batch], rounds: int) -> list[tuple[float, float]]:
    pairs = []
    for i in range(rounds):
        k = i % len(batches)
        pairs.append((timed(references[k], batches[k])[0], timed(calls[k], batches[k])[0]))
        batches[k].logits.grad = None
    return pairs


def _cost(
    name: str, shape: tuple[int, ...], device: str, dtype: torch.dtype, batch: Batch, pairs: list[tuple[float, float]],
    reference: Call, call: Call,
) -> LossCost:  # fmt: skip
    on_gpu = batch.logits.device.type == "cuda"
    return LossCost(
        name, tuple(shape), device, str(dtype).removeprefix("torch."), len(pairs), spread(b / a for a, b in pairs),
        spread(b for _, b in pairs), spread(a for a, _ in pairs), 3 * batch.logits.numel() * batch.logits.element_size(),
        gpu_extra_peak(call, batch) if on_gpu else None, gpu_extra_peak(reference, batch) if on_gpu else None,
    )  # fmt: skip
