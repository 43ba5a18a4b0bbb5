"""Region mutual information: every pooling, form and mode."""

import math
from functools import partial

from map_cases.record import MapCase
from oracles import neighbourhoods as oracle


def rmi(options=None, channels=4, target="labels", oracle_options=None, **record):
    """A case whose keywords the oracle knows by the same names, but for the kind of pixel term and the activation."""
    options = options or {}
    known = {k: v for k, v in options.items() if k not in ("mode", "pixel_term", "activation")}
    kind, act = options.get("pixel_term", "bce"), options.get("activation", "sigmoid")
    factor = {"none": 1.0}.get(kind, options.get("lam", 0.5) if options.get("form") == "sum" else 1 - options.get("lam", 0.5))
    weights = sum(options.get("weight", [1] * channels))
    low = factor * weights / 2 * math.log(options.get("alpha", 5e-4))
    return MapCase(
        "RMILoss", partial(oracle.rmi, pixel_kind=kind, act=act, **known), options, channels=channels, target=target, low=low, **record
    )


CASES = [
    rmi(),
    rmi({"stride": 2, "weight": [0.5, 1.0, 2.0, 3.5]}),
    rmi({"pool": "max", "stride": 3, "alpha": 1e-2}),
    rmi({"pool": "interp", "stride": 2}),
    rmi({"pool": "none", "radius": 2, "lam": 0.25, "form": "sum"}),
    rmi({"pixel_term": "ce", "stride": 2, "activation": "softmax"}),
    rmi({"pixel_term": "none", "stride": 2, "eps": 0.0}),
    rmi({"mode": "binary", "stride": 2}, channels=1),
    rmi({"mode": "multilabel", "stride": 2, "weight": [1, 2, 3]}, channels=3, target="maps"),
]
