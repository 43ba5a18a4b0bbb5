"""Which experiments there are: a recipe, the losses beside its own seven, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOVASZ = {"type": "LovaszSoftmaxLoss"}
HINGE = {"type": "LovaszHingeLoss"}


def _mix(second: dict[str, Any], coef: tuple[float, float]) -> dict[str, Any]:
    return {"types": [{"type": "MixedLoss", "losses": [{"type": "CrossEntropyLoss"}, second], "coef": list(coef)}], "coef": [1]}


def _variants(lovasz: dict[str, Any], coef: tuple[float, float]) -> dict[str, Any]:
    """The sorted form, statistics by image, and a memory of earlier batches."""
    return {
        "CE+Lovasz-sorted": _mix(lovasz | {"method": "sort"}, coef),
        "CE+Lovasz-by-image": _mix(lovasz | {"per_image": True}, coef),
        "CE+Lovasz-memory": _mix(lovasz | {"memory": 0.9}, coef),
    }


@dataclass(frozen=True)
class Experiment:
    """One comparison.

    Attributes:
        name: of its folder and of its section in docs/results.md.
        recipe: configuration with the seven losses.
        title: of the section.
        settings: key path -> value, for a GPU: longer, larger.
        losses: more losses than the recipe has.
        seeds: how many.
    """

    name: str
    recipe: str
    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Any] = field(default_factory=dict)
    seeds: int = 5


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment(
            "camvid_gpu", "configs/camvid/compare_2core.yml", "CamVid, one GPU",
            {"iters": 4000, "batch_size": 16, "eval_interval": 1000, "precision": "bf16"}, _variants(LOVASZ, (0.8, 0.2)),
        ),
        Experiment(
            "crackforest_gpu", "configs/crackforest/compare_2core.yml", "CrackForest, one GPU",
            {"iters": 3000, "batch_size": 16, "eval_interval": 500, "precision": "bf16"}, _variants(HINGE, (1.0, 0.5)),
        ),
    )
}  # fmt: skip
