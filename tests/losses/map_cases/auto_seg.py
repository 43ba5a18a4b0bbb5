"""Auto Seg-Loss: every metric, published, identity and given curves, both modes."""

from functools import partial

from evenseg.losses.auto_seg import METRICS
from map_cases.record import MapCase
from oracles.auto_seg import auto_seg, summed

W4 = [0.5, 1.0, 2.0, 3.5]
BENT = [0.2, 0.7, 0.45, 0.6]  # one piece per curve


def case(metric, parameters="published", channels=4, weight=None, **options):
    mode = {"mode": "binary"} if channels == 1 else {}
    weights = {} if weight is None else {"weight": weight}
    given = {} if parameters == "published" else {"parameters": parameters}
    numbers = METRICS[metric].numbers(parameters)
    oracle = partial(auto_seg, metric=metric, numbers=numbers, binary=channels == 1, weight=weight, **options)
    return MapCase("AutoSegLoss", oracle, {"metric": metric, **given, **mode, **weights, **options}, channels, high=1.0, perfect=0.0)


CASES = [
    case("mIoU"),
    case("mIoU", "identity", weight=W4),
    case("mIoU", BENT),
    case("mIoU", channels=1, weight=[1.0, 3.0]),
    case("FWIoU"),
    case("mAcc", weight=W4),
    case("gAcc"),
    case("BIoU", tolerance=2),
    case("BIoU", "identity", channels=1, drop_background=False, tolerance=1),
    case("BF1", tolerance=2),
    case("BF1", "identity", channels=1, tolerance=1),
    MapCase(
        "AutoSegLoss",
        partial(
            summed,
            parts=[
                (1.0, {"metric": "mIoU", "numbers": BENT, "tolerance": 2}),
                (0.5, {"metric": "BIoU", "numbers": METRICS["BIoU"].numbers("published"), "tolerance": 2}),
            ],
        ),
        {"metric": {"mIoU": 1.0, "BIoU": 0.5}, "parameters": {"mIoU": BENT}, "tolerance": 2},
        high=1.5,
        perfect=0.0,
        name="AutoSeg-mIoU+BIoU",
    ),
]
