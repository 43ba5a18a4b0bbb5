"""The active boundary loss."""

from map_cases.record import MapCase
from oracles import boundaries


def case(channels=4, target="labels", differentiable=False, mode="multiclass", oracle=None, **options):
    """The share of boundary pixels is larger than usual, for tiny images."""
    options = {"max_ratio": 0.06, **options}
    known = {"mode": mode, "ratio": options["max_ratio"], **(oracle or {})}
    return MapCase(
        "ActiveBoundaryLoss", lambda z, y, w: boundaries.active_boundary(z, y, w, **known), channels=channels, target=target,
        options=options if mode == "multiclass" else {"mode": mode, **options}, differentiable=differentiable, fullgraph=False,
    )  # fmt: skip


CASES = [
    case(),
    case(detach=False, differentiable=True),
    case(max_clip_dist=2.5, label_smoothing=0.0, oracle={"clip": 2.5, "smoothing": 0.0}),
    case(label_smoothing=0.3, smoothing_classes=8, oracle={"smoothing": 0.3, "divide": 8}),
    case(weight=[1.0, 2.0, 0.5, 3.0], oracle={"class_weight": [1.0, 2.0, 0.5, 3.0]}),
    case(channels=1, mode="binary"),
    case(channels=1, mode="binary", weight=[1.0, 3.0], oracle={"class_weight": [1.0, 3.0]}),
    case(channels=3, target="maps", mode="multilabel", detach=False, differentiable=True),
    case(channels=2, target="maps", mode="multilabel", weight=[1.0, 3.0], oracle={"class_weight": [1.0, 3.0]}),
]
