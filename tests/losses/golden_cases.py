"""Reads golden values (other people's numbers on fixed inputs) and computes ours on the same inputs.

Golden values lie in tests/golden/losses.npz (a small selection) and, where present, in ../shared/golden next to the
repository (all of them).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evenseg import build_loss
from evenseg.losses import LOSSES, MapLoss, StatisticLoss

REPO = Path(__file__).parents[2]
SMALL = REPO / "tests" / "golden" / "losses.npz"
SHARED = REPO.parent / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """What one peer (`entry`) gave for one input (`case`)."""

    family: str
    entry: str
    case: str
    inputs: Mapping[str, np.ndarray]
    status: str = "ok"
    value: float | None = None
    value64: float | None = None  # the peer run in float64
    grad: np.ndarray | None = None  # of the float32 run
    grad_rounding: float = 0.0  # largest difference between the peer's float32 and float64 gradients
    keywords: Mapping[str, Any] = field(default_factory=dict)  # of the peer's call

    @property
    def logits(self) -> Tensor:
        return torch.from_numpy(self.inputs["logits"])

    @property
    def labels(self) -> Tensor:
        return torch.from_numpy(self.inputs["labels"])

    @property
    def channels(self) -> int:
        return self.inputs["logits"].shape[1]

    @property
    def images(self) -> int:
        return self.inputs["labels"].shape[0]

    @property
    def images_with_labels(self) -> int:
        return int((self.inputs["labels"].reshape(self.images, -1) != 255).any(1).sum())


def read_golden(archive: Path, family: str) -> Iterator[Golden]:
    """The goldens of a family in a file; in the small file of this repository, keys carry the family."""
    with np.load(archive) as z:
        arrays = {name: z[name] for name in z.files}
    prefix = f"{family}|" if f"{family}|index" in arrays else ""
    if f"{prefix}index" not in arrays:
        return
    inputs: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        if name.startswith("in|"):
            _, case, what = name.split("|")
            # the small file names an equal array instead of repeating it
            inputs.setdefault(case, {})[what] = arrays[str(array)] if array.dtype.kind == "U" else array
    for entry in json.loads(str(arrays[f"{prefix}index"])):
        for case, info in entry["cases"].items():
            value = info.get("value")
            usable = isinstance(value, float) and math.isfinite(value)
            yield Golden(
                family, entry["id"], case, inputs[case], info["status"], value if usable else None, info.get("value64"),
                arrays.get(f"{prefix}out|{entry['id']}|{case}|grad"), info.get("grad_f32_vs_f64_maxdiff") or 0.0,
                entry.get("kwargs", {}),
            )  # fmt: skip


def unchanged(value: Tensor, g: Golden) -> Tensor:
    return value


def logits_and_labels(g: Golden, leaves: Mapping[str, Tensor]) -> tuple[Any, Tensor]:
    return leaves["logits"], g.labels


@dataclass(frozen=True)
class As:
    """How a peer's loss is said with ours.

    Attributes:
        loss: a loss section, of presets mostly; callables in it are called with the golden case.
        after: from our value to the peer's, where theirs is a plain function of ours (another sign, another divisor).
        inputs: from the golden case to (outputs, target).
        soft: whether the loss sees probabilities for labels, which are for the eager engine only.
        leaf: the input whose gradient was recorded.
        differs: {case: why it is not compared}.
        differs_in_float32: {case: why it is compared in float64 only}.
    """

    loss: Mapping[str, Any] | Callable[[Golden], Mapping[str, Any]]
    after: Callable[[Tensor, Golden], Tensor] = unchanged
    inputs: Callable[[Golden, Mapping[str, Tensor]], tuple[Any, Tensor]] = logits_and_labels
    leaf: str = "logits"
    soft: bool = False
    differs: Mapping[str, str] = field(default_factory=dict)
    differs_in_float32: Mapping[str, str] = field(default_factory=dict)

    def target(self, g: Golden) -> Tensor:
        return self.inputs(g, {name: torch.from_numpy(array) for name, array in g.inputs.items()})[1]

    def probabilities(self, g: Golden) -> bool:
        """Whether the labels are probabilities."""
        return self.soft or self.target(g).is_floating_point()


def section_for(loss: Any, g: Golden, common: Mapping[str, Any]) -> Any:
    """The loss section with its callables called, and keywords added to every statistic loss in it."""
    if callable(loss):
        return section_for(loss(g), g, common)
    if isinstance(loss, Mapping):
        filled = {key: section_for(value, g, common) for key, value in loss.items()}
        if "type" not in filled or filled["type"] == "MixedLoss" or issubclass(LOSSES.get(filled["type"], StatisticLoss), MapLoss):
            return filled
        lovasz = "lovasz" in str(filled["type"]).lower()
        return {**filled, **{k: v for k, v in common.items() if k != "method" or lovasz}}
    if isinstance(loss, list):
        return [section_for(value, g, common) for value in loss]
    return loss


def evaluate(convention: As, g: Golden, dtype: torch.dtype = torch.float32, **common: Any) -> tuple[float, np.ndarray]:
    """Our value and gradient in the peer's convention."""
    leaves = {
        name: torch.from_numpy(array).to(dtype).requires_grad_()
        for name, array in g.inputs.items()
        if name.endswith("logits")
    }
    loss = build_loss(section_for(convention.loss, g, common))
    outputs, target = convention.inputs(g, leaves)
    value = convention.after(loss(outputs, target), g)
    assert value.dim() == 0
    (grad,) = torch.autograd.grad(value, leaves[convention.leaf])
    return value.item(), grad.numpy()
