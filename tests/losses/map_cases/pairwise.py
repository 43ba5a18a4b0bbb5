"""Losses on pairs of pixels."""

from functools import partial

from map_cases.record import MapCase
from oracles import pairwise as oracle

SMALL = {"spatial": (8, 9), "low": 0.0, "high": 1.0}


def case(loss="DenseCRFLoss", act="softmax", mode=None, **more):
    """Keywords that the oracle and the loss share, but for the mode."""
    known = {"channels", "target", "spatial", "low", "high", "perfect", "name", "fullgraph"}
    record = {**SMALL, **{k: v for k, v in more.items() if k in known}}
    options = {k: v for k, v in more.items() if k not in known}
    moded = {} if mode is None else {"mode": mode}
    return MapCase(loss, partial(oracle.energy, act=act, **options), {**moded, **options}, **record)


CASES = [
    case(sigma_rgb=0.3, sigma_xy=5.0),
    case(),
    case(sigma_rgb=0.5, sigma_xy=3.0, cell=2, spatial=(9, 11)),
    case(sigma_rgb=0.5, max_cells=20),
    case(sigma_rgb=0.5, sigma_xy=6.0, window=2),
    case(sigma_rgb=0.5, sigma_xy=6.0, window=1, self_pairs=False, cell=2, spatial=(9, 11)),
    case(sigma_rgb=0.4, normalized=False, low=-float("inf"), high=0.0),
    case(sigma_rgb=0.5, sigma_xy=4.0, channels=1, mode="binary", act="sigmoid"),
    case(sigma_rgb=0.5, sigma_xy=4.0, window=1, channels=3, mode="multilabel", target="maps", act="sigmoid"),
    case("DynamicFeatureLoss", sigma_rgb=0.5, sigma_xy=5.0),
    case(
        "DynamicFeatureLoss", sigma_rgb=0.5, sigma_features=2.0, normalize_features=False, window=1, channels=1, mode="binary",
        act="sigmoid",
    ),
]  # fmt: skip
