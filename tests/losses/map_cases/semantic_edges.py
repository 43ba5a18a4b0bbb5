"""Cases of the semantic edge-aware loss."""

from functools import partial

import torch

from evenseg.losses.edge_network import EdgeNetwork
from map_cases.record import MapCase
from oracles import semantic_edges as oracle

HIDDEN = 5


def network(classes):
    """An edge network with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(classes)
        return EdgeNetwork(classes, HIDDEN)


def case(name, channels=4, mode=None, **options):
    edges = network(max(channels, 2))
    layers = [[value.detach().double().numpy() for value in (layer.weight, layer.bias)] for layer in edges.layers]
    moded = {} if mode is None else {"mode": mode}
    return MapCase(
        "SemanticEdgeAwareLoss", partial(oracle.distance, layers=layers, **options), {"edges": edges, **moded, **options},
        channels=channels, perfect=0.0, name=f"SemanticEdgeAware-{name}",
    )  # fmt: skip


CASES = [
    case("plain"),
    case("weights of layers", layer_weights=[0.5, 0.0, 2.0]),
    case("weights of classes", weight=[0.5, 1.0, 2.0, 3.5]),
    case("two channels", channels=2),
    case("binary", channels=1, mode="binary", weight=[0.5, 2.0]),
]
