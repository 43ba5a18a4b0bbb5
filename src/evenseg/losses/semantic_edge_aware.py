"""Semantic edge-aware loss (SEMEDA)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from evenseg.losses.edge_network import EdgeNetwork, load_edges
from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import number


class SemanticEdgeAwareLoss(MapLoss):
    """Distance between what a fixed edge network sees in the prediction and in the labels.

    L = sum_l a_l 1/n sum_i w_i mean_k |D_lk(p)_i - D_lk(y)_i|, with p the class probabilities, y the one-hot labels, D_l the
    activations of layer l of the edge network (its edge probabilities last), i the valid pixels, w_i their weights and n the
    sum of these. Ignored pixels are 0 in both inputs. Meant to be added to cross-entropy, with a weight of 0.1 to 1.

    Args:
        edges: file of the edge network, which `evenseg fit-edges CONFIG` fits to the masks of the training set; or an
            :class:`evenseg.losses.edge_network.EdgeNetwork`. It is not trained.
        layer_weights: a_l, one for each of its three layers.
        **common: see :class:`evenseg.losses.maps.MapLoss`; `weight` multiplies w_i by the weight of the pixel's class. Modes
            "multiclass" and "binary" (a network of two classes); two spatial dimensions.

    Range: [0, inf).

    Raises:
        ValueError: no such file, or one that is no edge network or of another number of classes.

    Source: Chen, Dapogny and Cord, SEMEDA: Enhancing segmentation precision with semantic edge aware loss, Pattern Recognition
    2020. No code of theirs is public, and the layers, the L1 distance and the weights are our reading: unverified against their
    results.

    Example:
        >>> import torch
        >>> from evenseg.losses import SemanticEdgeAwareLoss
        >>> from evenseg.losses.edge_network import EdgeNetwork
        >>> loss = SemanticEdgeAwareLoss(edges=EdgeNetwork(3, hidden=8))
        >>> loss(torch.randn(2, 3, 16, 16), torch.randint(0, 3, (2, 16, 16))).item() > 0
        True
    """

    modes = ("multiclass", "binary")
    dimensions = (2,)
    files = ("edges",)

    def __init__(
        self, *, edges: str | EdgeNetwork, layer_weights: Sequence[float] = (1.0, 1.0, 1.0), **common: Unpack[MapOptions]
    ):
        super().__init__(**common)
        if not isinstance(edges, (str, os.PathLike, EdgeNetwork)):
            raise ValueError(f"edges must be the path of an edge network's file, or an EdgeNetwork, got {edges!r}")
        self.source = "the edge network" if isinstance(edges, EdgeNetwork) else str(edges)
        self.edges = edges if isinstance(edges, EdgeNetwork) else load_edges(edges)
        self.edges.requires_grad_(False).eval()
        if isinstance(layer_weights, str) or not isinstance(layer_weights, Sequence) or len(layer_weights) != len(self.edges.layers):
            raise ValueError(f"layer_weights must be {len(self.edges.layers)} numbers, got {layer_weights!r}")
        self.layer_weights = [number("layer_weights", a, 0) for a in layer_weights]

    def check_num_classes(self, num_classes: int) -> None:
        """ValueError if the edge network is one of another number of classes."""
        if self.edges.num_classes != num_classes:
            raise ValueError(f"edges: {self.source} was fitted to {self.edges.num_classes} classes, here there are {num_classes}")

    def weight_length(self, num_classes: int) -> int:
        return max(num_classes, 2)

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        probs, truth = maps.probs(), maps.truth
        if probs.shape[1] == 1:
            probs, truth = torch.cat([1 - probs, probs], 1), torch.cat([1 - truth, truth], 1)
        self.check_num_classes(probs.shape[1])
        probs, truth = torch.where(maps.valid, probs, 0.0), torch.where(maps.valid, truth, 0.0)
        weight = maps.weight[:, 0]
        if self.weight is not None:
            weight = weight * (truth * self.weight.to(truth.dtype)[:, None, None]).sum(1)
        with torch.no_grad():
            wanted = self.edges(truth)
        total = probs.new_zeros((), dtype=torch.float64)
        for a, seen, of_labels in zip(self.layer_weights, self.edges(probs), wanted):
            total = total + a * (weight * (seen - of_labels).abs().mean(1)).sum(dtype=torch.float64)
        return self.mean(total, weight.sum(dtype=torch.float64))


semantic_edge_aware_loss = functional(SemanticEdgeAwareLoss)
