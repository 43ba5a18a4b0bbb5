"""Fitting the edge network of `SemanticEdgeAwareLoss` to the masks of a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from evenseg.config import Config, ConfigError
from evenseg.data import MaskSamples
from evenseg.engine.build import as_config_error, build_data, naming_the_file
from evenseg.engine.files import replacing_path
from evenseg.engine.trainer import seed_everything
from evenseg.losses.edge_network import EdgeNetwork, edge_maps

MOST_WEIGHT = 100.0  # of an edge pixel against one that is none
HELD_OUT = 50  # masks of val_dataset that the result is measured on


@dataclass(frozen=True)
class FittedEdges:
    """What came of a fit.

    Attributes:
        file: of the network.
        classes: their names.
        first_loss, last_loss: means over the first and the last tenth of the steps.
        f1: of each class's edge pixels on masks of the validation set; None for a class without edges there.
    """

    file: Path
    classes: tuple[str, ...]
    first_loss: float
    last_loss: float
    f1: tuple[float | None, ...]

    @property
    def mean_f1(self) -> float | None:
        """Over the classes that have edges."""
        known = [value for value in self.f1 if value is not None]
        return sum(known) / len(known) if known else None


def fit_edges(
    config: Config,
    file: str | Path,
    *,
    iters: int = 500,
    hidden: int = 64,
    learning_rate: float = 1e-3,
    overwrite: bool = False,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> FittedEdges:
    """Fits an edge network to the masks of `train_dataset` and writes its file.

    The network learns to say where the edges of every class are in a one-hot mask: binary cross-entropy of each class, an edge
    pixel weighted by the ratio of the others to the edges in the batch (at most 100). Pixels beside ignored ones do not count.
    Every second mask is given as probabilities, softened and with noise, since that is what the network will be asked about.

    Args:
        config: whose data sets, transforms (those that move pixels), batch size, seed and device are used.
        file: to write.
        iters: steps of Adam.
        hidden: channels of the two layers within; the loss costs about as much as hidden (2 C + hidden) 9 additions a pixel.
        learning_rate: of Adam.
        overwrite: replace a file that is there.
        progress: told the step and the loss.

    Raises:
        ConfigError: the data cannot be used.
        ValueError: `file` is there already.
    """
    path = Path(file)
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another --output or pass --overwrite")
    with naming_the_file(config):
        train, val = (build_data(getattr(config, name), name) for name in ("train_dataset", "val_dataset"))
        classes = train.dataset.classes
        device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
        seed_everything(config.seed)
        settings = {"iters": iters, "learning_rate": learning_rate, "seed": config.seed, "classes": list(classes.names)}
        with as_config_error("train_dataset"):
            network = EdgeNetwork(classes.num_classes, hidden, settings).to(device)
        samples = MaskSamples(train.dataset, train.pipeline, iters * config.batch_size, config.seed)
        optimizer = torch.optim.Adam(network.parameters(), learning_rate)
        losses = []
        for step, masks in enumerate(_batches(samples, config.batch_size)):
            labels = _labels(masks.to(device), classes.num_classes, classes.ignore_index)
            loss = edge_loss(network, labels, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            progress(step + 1, losses[-1])
        held_out = MaskSamples(val.dataset, val.pipeline, min(len(val.dataset), HELD_OUT), config.seed)
        whole = (_labels(held_out[i][None].to(device), classes.num_classes, classes.ignore_index) for i in range(len(held_out)))
        f1 = edge_f1(network, whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(path) as unfinished:
        network.save(unfinished)
    tenth = max(1, iters // 10)
    return FittedEdges(path, classes.names, sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth, f1)


def edge_loss(network: EdgeNetwork, labels_NHW: Tensor, generator: torch.Generator) -> Tensor:
    """The weighted binary cross-entropy of the edges of a batch of masks, every second one softened."""
    edges, known = edge_maps(labels_NHW, network.num_classes)
    logits = network.last(network.hidden_layers(soften(labels_NHW, network.num_classes, generator))[-1])
    known = known.expand_as(edges)
    positive = (edges & known).sum((0, 2, 3))
    weight = ((known.sum((0, 2, 3)) - positive) / positive.clamp(min=1)).clamp(1.0, MOST_WEIGHT)
    each = F.binary_cross_entropy_with_logits(logits, edges.float(), pos_weight=weight[:, None, None], reduction="none")
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def soften(labels_NHW: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) one-hot labels, in every second image as the softmax of s (2 y - 1) + noise, s between 0.5 and 5.

    0 at ignored pixels, as the loss has it.
    """
    valid = (labels_NHW >= 0)[:, None]
    hot = F.one_hot(labels_NHW.clamp(min=0), num_classes).movedim(-1, 1).float()
    scale = 0.5 + 4.5 * torch.rand(len(hot), 1, 1, 1, generator=generator)
    noise = torch.randn(hot.shape, generator=generator)
    soft = (scale.to(hot.device) * (2 * hot - 1) + noise.to(hot.device)).softmax(1)
    every_second = (torch.arange(len(hot), device=hot.device) + int(torch.randint(2, (), generator=generator))) % 2 == 1
    return torch.where(valid, torch.where(every_second[:, None, None, None], soft, hot), 0.0)


@torch.no_grad()
def edge_f1(network: EdgeNetwork, masks: Iterator[Tensor]) -> tuple[float | None, ...]:
    """F1 of the pixels called edges (probability above 1/2) by class; None for a class without edges."""
    hits = found = there = torch.zeros(network.num_classes, dtype=torch.int64)
    for labels in masks:
        edges, known = edge_maps(labels, network.num_classes)
        hot = F.one_hot(labels.clamp(min=0), network.num_classes).movedim(-1, 1).float()
        called = (network(torch.where((labels >= 0)[:, None], hot, 0.0))[-1] > 0.5) & known
        edges = edges & known
        hits, found, there = (
            total + maps.sum((0, 2, 3)).cpu() for total, maps in ((hits, called & edges), (found, called), (there, edges))
        )
    return tuple(2 * h / (f + t) if t else None for h, f, t in zip(hits.tolist(), found.tolist(), there.tolist(), strict=True))


def _batches(samples: MaskSamples, batch_size: int) -> Iterator[Tensor]:
    for first in range(0, len(samples), batch_size):
        masks = [samples[i] for i in range(first, first + batch_size)]
        sizes = sorted({tuple(mask.shape) for mask in masks})
        if len(sizes) > 1:
            raise ConfigError(
                f"the masks have different sizes ({sizes[0]}, {sizes[1]}), so batch_size {batch_size} needs a RandomCrop or a Resize",
                key_path="train_dataset.transforms",
            )
        yield torch.stack(masks)


def _labels(masks: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """int64 labels, -1 where ignored; ConfigError for labels that are no class."""
    labels = masks.long()
    ignored = labels == ignore_index
    wrong = (labels >= num_classes) & ~ignored
    if bool(wrong.any()):
        raise ConfigError(
            f"a mask holds the label {int(labels[wrong][0])}, classes are 0..{num_classes - 1} and {ignore_index} is ignored; "
            "`evenseg check CONFIG` says more",
            key_path="train_dataset",
        )
    return torch.where(ignored, -1, labels)
