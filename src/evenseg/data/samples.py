"""Samples for training and evaluation as torch data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from evenseg.data.base import SegmentationDataset
from evenseg.data.images import UnreadableFileError
from evenseg.data.samplers import Draw, PairSampler, Shuffle
from evenseg.data.transforms import Aim, Pipeline

OnUnreadable: TypeAlias = Literal["stop", "skip"]

_ATTEMPTS = 20


_NO_WEIGHTS = torch.empty(0)


class Sample(NamedTuple):
    """One sample, or a batch of them with a leading dimension.

    Attributes:
        image: (C, H, W) float32.
        mask: (H, W) uint8, int32 where the labels need it; it stays small until the loss reads it.
        pair: its number in the data set.
        unreadable: one line about each pair that was skipped in its place; "" for none.
        weight: (H, W) float32 weights of the pixels; empty where the data set has none, and in evaluations.
    """

    image: Tensor
    mask: Tensor
    pair: int | Tensor
    unreadable: str | Sequence[str] = ""
    weight: Tensor = _NO_WEIGHTS


class TrainingSamples(Dataset[Sample]):
    """The samples of a whole run, one after the other: item k is slot k mod batch_size of step k div batch_size.

    Every item is a function of (seed, k) alone: neither the number of workers or ranks nor what was read before matters.

    Args:
        dataset: the pairs.
        pipeline: transforms, applied with a seed derived from (seed, k).
        length: number of items, iters * batch_size.
        seed: of the run.
        sampler: which pair each item shows; by default a fresh random order per pass over the data set.
        on_unreadable: "stop" at a file that cannot be read, or "skip" its pair: another one is drawn by a rule of
            (seed, k), so the samples are still the same whenever the same files are readable.

    Raises:
        UnreadableFileError: on reading an item, by `on_unreadable`; with "skip" after twenty pairs in a row.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        pipeline: Pipeline,
        length: int,
        seed: int,
        sampler: PairSampler | None = None,
        on_unreadable: OnUnreadable = "stop",
    ) -> None:
        self.dataset, self.pipeline, self.length, self.seed = dataset, pipeline, length, seed
        self.sampler = sampler or Shuffle(len(dataset), seed)
        self.on_unreadable = on_unreadable

    def __len__(self) -> int:
        return self.length

    def draw(self, item: int) -> Draw:
        """Returns which pair item k shows, and the class its crop is aimed at, if any."""
        return self.sampler.draw(item)

    def __getitem__(self, item: int) -> Sample:
        if not 0 <= item < self.length:
            raise IndexError(f"item {item} is outside 0..{self.length - 1}")
        seed = _seed_of(self.seed, item)
        skipped: list[str] = []
        for attempt in range(_ATTEMPTS):
            # far enough ahead to be no neighbour of this item, and of its class where the sampler deals out classes
            pair, aim = self.draw(item + attempt * self.length * self.sampler.period)
            try:
                sample = make_sample(self.dataset, self.pipeline, pair, seed, aim, weighted=self.dataset.has_weights)
            except UnreadableFileError as error:
                if self.on_unreadable == "stop":
                    raise
                skipped.append(str(error))
            else:
                return sample._replace(unreadable="\n".join(skipped))
        raise UnreadableFileError(f"{_ATTEMPTS} pairs drawn one after the other cannot be read, the last one because {skipped[-1]}")


class MaskSamples(Dataset[Tensor]):
    """The masks that `TrainingSamples` would show, without reading an image.

    Args:
        dataset: the pairs.
        pipeline: of which the transforms that move pixels are applied.
        length: number of items.
        seed: of the run.
    """

    def __init__(self, dataset: SegmentationDataset, pipeline: Pipeline, length: int, seed: int) -> None:
        self.dataset, self.pipeline, self.length, self.seed = dataset, pipeline.geometric(), length, seed
        self.sampler = Shuffle(len(dataset), seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Tensor:
        pair, _ = self.sampler.draw(item)
        mask = torch.from_numpy(_writable_mask(self.dataset.read_mask(pair), self.dataset, pair))
        blank = torch.zeros(1, *mask.shape, dtype=torch.uint8)
        return self.pipeline(blank, mask, _seed_of(self.seed, item))[1]


def _seed_of(seed: int, item: int) -> int:
    return int(np.random.SeedSequence([seed, 1, item]).generate_state(1, np.uint64)[0] >> 1)


class EvaluationSamples(Dataset[Sample]):
    """Every pair once, in order, at full size.

    Args:
        dataset: the pairs.
        pipeline: transforms.
        on_unreadable: "stop" at a file that cannot be read, or "skip": its sample then is one ignored pixel, marked
            `unreadable`, for the reader to leave out.
    """

    def __init__(self, dataset: SegmentationDataset, pipeline: Pipeline, on_unreadable: OnUnreadable = "stop") -> None:
        self.dataset, self.pipeline, self.on_unreadable = dataset, pipeline, on_unreadable

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        try:
            return make_sample(self.dataset, self.pipeline, index, seed=0)
        except UnreadableFileError as error:
            if self.on_unreadable == "stop":
                raise
            mask = _writable_mask(np.full((1, 1), self.dataset.classes.ignore_index, np.uint16), self.dataset, index)
            return Sample(torch.zeros(self.dataset.channels, 1, 1), torch.from_numpy(mask), index, str(error))


def make_sample(
    dataset: SegmentationDataset,
    pipeline: Pipeline,
    index: int,
    seed: int,
    aim: Aim | None = None,
    *,
    weighted: bool = False,
) -> Sample:
    """Reads one pair, maybe with the weights of its pixels, and transforms it."""
    image = to_image_tensor(dataset.read_image(index))
    mask = torch.from_numpy(_writable_mask(dataset.read_mask(index), dataset, index))
    if not weighted:
        image, mask = pipeline(image, mask, seed, aim)
        return Sample(image, mask, index)
    weight = torch.from_numpy(np.array(dataset.read_weight(index)))
    if weight.shape != mask.shape:
        sizes = f"{tuple(weight.shape)}, its mask of {tuple(mask.shape)}"
        raise ValueError(f"{dataset.where}: the weights of {dataset.name(index)} are of size {sizes}")
    image, mask, weight = pipeline(image, mask, seed, aim, [weight])
    return Sample(image, mask, index, weight=weight)


def to_image_tensor(image: NDArray[Any]) -> Tensor:
    """Returns a copy of (H, W, C) pixels as (C, H, W); 16 bits become floats in 0..1, for which torch has every operation."""
    pixels = image.astype(np.float32) / 65535 if image.dtype == np.uint16 else np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _writable_mask(mask: NDArray[Any], dataset: SegmentationDataset, index: int) -> NDArray[Any]:
    """Returns a copy as bytes, or as int32 where the labels need more: one type for the whole data set."""
    largest = max(dataset.classes.num_classes - 1, dataset.classes.ignore_index)
    if largest > 255:
        return mask.astype(np.int32)
    if mask.dtype != np.uint8 and mask.size and mask.max() > 255:
        raise ValueError(f"{dataset.where}: the mask of {dataset.name(index)} holds the label {mask.max()}, beyond 8 bits")
    return mask.astype(np.uint8)
