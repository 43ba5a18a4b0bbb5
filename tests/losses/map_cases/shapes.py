"""Losses on the shapes of single classes: signed distances, Hausdorff, centrelines."""

from functools import partial

from map_cases.record import MapCase
from oracles.boundaries import hausdorff_loss, signed_distance_loss
from oracles.skeletons import cl_dice

INFINITE = float("inf")
WEIGHT = [1.0, 2.0, 0.5, 3.0]


def cases(loss, oracle, own, **known):
    """The forms that all three have, and `own`: (options, what the oracle is told) of their own keywords."""
    volume = (4, 5, 6)
    forms = [
        ({}, {}, {}),
        ({"per_image": True}, {"per_image": True}, {}),
        ({"classes": "all", "weight": WEIGHT}, {"chosen": range(4), "class_weight": WEIGHT}, {}),
        ({"classes": [1, 3]}, {"chosen": [1, 3]}, {}),
        ({"classes": "present", "per_image": True}, {"chosen": "present", "per_image": True}, {"spatial": volume}),
        ({"mode": "binary"}, {"mode": "binary"}, {"channels": 1}),
        ({"mode": "binary", "per_image": True}, {"mode": "binary", "per_image": True}, {"channels": 1, "spatial": volume}),
        ({"mode": "multilabel"}, {"mode": "multilabel"}, {"channels": 3, "target": "maps"}),
        *((options, said, {}) for options, said in own),
    ]
    return [
        MapCase(loss, partial(oracle, **said), options=options, **{"spatial": (8, 9), **known, **other})
        for options, said, other in forms
    ]


CASES = [
    *cases(
        "SignedDistanceBoundaryLoss", signed_distance_loss,
        [({"nonnegative": True, "weight": WEIGHT}, {"nonnegative": True, "class_weight": WEIGHT})], low=-INFINITE,
    ),
    *cases(
        "HausdorffLoss", hausdorff_loss,
        [
            ({"alpha": 1.5}, {"alpha": 1.5}),
            ({"one_sided": True, "classes": "present"}, {"one_sided": True, "chosen": "present"}),
            ({"classes": "foreground"}, {"chosen": [1, 2, 3]}),
        ], perfect=0.0,
    ),
    *cases(
        "ClDiceLoss", cl_dice,
        [({"iterations": 0, "smooth": 0.1}, {"iterations": 0, "smooth": 0.1}), ({"iterations": 6}, {"iterations": 6})],
        high=1.0, perfect=0.0,
    ),
]  # fmt: skip
