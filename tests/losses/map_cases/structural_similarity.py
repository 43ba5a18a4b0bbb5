"""The structural similarity loss: its pixel terms, windows and modes."""

from functools import partial

from map_cases.record import MapCase
from oracles import neighbourhoods as oracle


def ssl(options=None, channels=4, target="labels", **record):
    options = options or {}
    known = {k: v for k, v in options.items() if k not in ("mode", "pixel_term", "detach")}
    kind = options.get("pixel_term", "bce")
    return MapCase(
        "StructuralSimilarityLoss", partial(oracle.structural_similarity, pixel_kind=kind, **known), options, channels=channels,
        target=target, perfect=0.0, **record,
    )  # fmt: skip


CASES = [
    ssl(),
    ssl({"detach": True, "lam": 0.2}, differentiable=False),
    ssl({"window_size": 5, "sigma": 1.0, "c4": 0.05, "weight": [0.5, 1.0, 2.0, 3.5]}),
    ssl({"pixel_term": "none", "beta": 0.3}),
    ssl({"pixel_term": "ce"}),
    ssl({"mode": "binary"}, channels=1),
    ssl({"mode": "multilabel"}, channels=3, target="maps"),
]
