"""Which pair a slot of a training batch shows, and which class its crop is aimed at.

A sampler is a pure function of (seed, item), where item = step * batch_size + slot counts through the whole run. It
keeps no state: any worker, any rank and any resumed run asks for an item and gets the same answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler as TorchSampler

from evenseg.config import unknown_name
from evenseg.data.check import DataFacts
from evenseg.data.transforms import Aim

# streams of random numbers of a run's seed; TrainingSamples takes 1 for the transforms
_PAIRS, _CLASS_ORDER, _CLASS_PAIRS, _CLASS_DRAWS = 0, 2, 3, 4


class Draw(NamedTuple):
    """What one slot shows.

    Attributes:
        pair: number of the pair in the data set.
        aim: the class that the crop must hold; None lets the crop fall anywhere.
    """

    pair: int
    aim: Aim | None = None


class PairSampler(ABC):
    """Chooses the pairs of a run.

    Args:
        length: number of pairs in the data set.
        seed: of the run.
        facts: what the scan of the masks found.
    """

    needs_crop = False
    period = 1  # items this far apart are drawn from the same pairs

    def __init__(self, length: int, seed: int, facts: DataFacts | None = None) -> None:
        self.length, self.seed = length, seed
        self._permutations: dict[tuple[int, ...], tuple[int, NDArray[np.int64]]] = {}

    @abstractmethod
    def draw(self, item: int) -> Draw:
        """Returns what item k of the run shows."""

    def _shuffled(self, position: int, length: int, *stream: int) -> int:
        """Entry `position` of an endless sequence of fresh permutations of range(length)."""
        turn, place = divmod(position, length)
        kept = self._permutations.get(stream)  # the last permutation only: items come nearly in order
        if kept is None or kept[0] != turn:
            kept = (turn, np.random.default_rng([self.seed, *stream, turn]).permutation(length))
            self._permutations[stream] = kept
        return int(kept[1][place])


class Shuffle(PairSampler):
    """Every pair once per pass over the data set, in a fresh random order each time."""

    def draw(self, item: int) -> Draw:
        return Draw(self._shuffled(item, self.length, _PAIRS))


class Equibatch(PairSampler):
    """Cycles through the classes, so that a batch-wise Lovász or Dice loss meets every class regularly.

    Item k is given the class k mod C of a random order of the C classes; the pair is the next one, in a shuffled pass of
    that class's own, of those that hold the class, and the crop is placed so that it does, too. Any C consecutive
    slots, so any ceil(C / batch_size) batches, show every class (as long as scaling down loses no object).

    Args:
        length, seed, facts: see `PairSampler`.
        classes: names of the classes to cycle through; by default all that occur in the training masks.
        aim_crops: place crops so that they hold the class; False chooses pairs only.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, section 3 (no code was published).
    """

    def __init__(
        self,
        length: int,
        seed: int,
        facts: DataFacts,
        classes: tuple[str, ...] | None = None,
        aim_crops: bool = True,
    ) -> None:
        super().__init__(length, seed)
        self.aim_crops = aim_crops
        labels = _labels(classes, facts)
        order = np.random.default_rng([seed, _CLASS_ORDER]).permutation(len(labels))
        # one fixed order: any other sequence leaves a class out of some C consecutive slots
        self.labels = [labels[i] for i in order]
        self.period = len(self.labels)
        self._pairs = _pairs_by_label(facts, self.labels)

    def draw(self, item: int) -> Draw:
        turn, place = divmod(item, len(self.labels))
        label = self.labels[place]
        pairs = self._pairs[label]
        pair = int(pairs[self._shuffled(turn, len(pairs), _CLASS_PAIRS, label)])
        return Draw(pair, Aim(label) if self.aim_crops else None)


class ClassBalancedCrop(PairSampler):
    """Centres the crop on a pixel of a class that is drawn at random, each class as likely as any other.

    Class, pair (evenly among those that hold the class) and pixel (evenly among its pixels of the class) are drawn anew
    for every slot. Slots that are not drawn for this go on as with `Shuffle`.

    Args:
        length, seed, facts: see `PairSampler`.
        classes: names of the classes to draw from; by default all that occur in the training masks.
        weights: relative probability of each of them; equal by default.
        share: part of the slots that are aimed at a class, in 0..1.
    """

    needs_crop = True

    def __init__(
        self,
        length: int,
        seed: int,
        facts: DataFacts,
        classes: tuple[str, ...] | None = None,
        weights: tuple[float, ...] | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__(length, seed)
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in 0..1, got {share}")
        self.share = share
        self.labels = _labels(classes, facts)
        if weights is not None and len(weights) != len(self.labels):
            listed = ", ".join(facts.classes.names[label] for label in self.labels)
            raise ValueError(f"weights has {len(weights)} entries for {len(self.labels)} classes ({listed})")
        values = np.ones(len(self.labels)) if weights is None else np.asarray(weights, float)
        if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ValueError(f"weights must be finite, at least 0 and not all 0, got {list(values)}")
        self._probabilities = values / values.sum()
        self._pairs = _pairs_by_label(facts, self.labels)

    def draw(self, item: int) -> Draw:
        rng = np.random.default_rng([self.seed, _CLASS_DRAWS, item])
        if rng.random() >= self.share:
            return Draw(self._shuffled(item, self.length, _PAIRS))
        label = self.labels[rng.choice(len(self.labels), p=self._probabilities)]
        pairs = self._pairs[label]
        return Draw(int(pairs[rng.integers(len(pairs))]), Aim(label, centered=True))


SAMPLERS: dict[str, type[PairSampler]] = {
    "Shuffle": Shuffle,
    "Equibatch": Equibatch,
    "ClassBalancedCrop": ClassBalancedCrop,
}


class RankBatches(TorchSampler[list[int]]):
    """The items of one rank, batch by batch: of every global batch, rank r of R takes the slots r, r + R, r + 2R, ...

    The global batches are the same whatever the number of ranks, and those of a resumed run go on where the run stopped.

    Args:
        steps: number of steps of the whole run.
        batch_size: of the global batch; the ranks must divide it.
        rank: of this process, from 0.
        num_ranks: of the run.
        first_step: the step to begin with.
    """

    def __init__(self, steps: int, batch_size: int, rank: int = 0, num_ranks: int = 1, first_step: int = 0) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank must be in 0..{num_ranks - 1}, got {rank}")
        if batch_size % num_ranks:
            raise ValueError(f"batch_size {batch_size} does not divide evenly among {num_ranks} processes")
        if not 0 <= first_step <= steps:
            raise ValueError(f"first_step must be in 0..{steps}, got {first_step}")
        self.steps, self.batch_size, self.rank, self.num_ranks = steps, batch_size, rank, num_ranks
        self.first_step = first_step

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            first = step * self.batch_size
            yield list(range(first + self.rank, first + self.batch_size, self.num_ranks))

    def __len__(self) -> int:
        return self.steps - self.first_step


def _labels(wanted: Sequence[str] | None, facts: DataFacts) -> list[int]:
    names = facts.classes.names
    present = np.flatnonzero(facts.class_counts.any(axis=0)).tolist()
    if not present:
        raise ValueError("no training mask holds a pixel of any class")
    if wanted is None:
        return present
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"classes must name at least one class, each once, got {list(wanted)}")
    for name in wanted:
        if name not in names:
            raise ValueError(unknown_name("class", name, names))
        if names.index(name) not in present:
            raise ValueError(f"no training mask holds a pixel of {name!r}, so it cannot be sampled; take it out of `classes`")
    return [names.index(name) for name in wanted]


def _pairs_by_label(facts: DataFacts, labels: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    return {label: np.flatnonzero(facts.class_counts[:, label]) for label in labels}
