"""Samples for training and evaluation as torch data sets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from evenseg.data.base import SegmentationDataset
from evenseg.data.samplers import Draw, PairSampler, Shuffle
from evenseg.data.transforms import Aim, Pipeline


class Sample(NamedTuple):
    """One sample, or a batch of them with a leading dimension.

    Attributes:
        image: (C, H, W) float32.
        mask: (H, W) uint8, int32 where the labels need it; it stays small until the loss reads it.
        pair: its number in the data set.
    """

    image: Tensor
    mask: Tensor
    pair: int | Tensor


class TrainingSamples(Dataset[Sample]):
    """The samples of a whole run, one after the other: item k is slot k mod batch_size of step k div batch_size.

    Every item is a function of (seed, k) alone: neither the number of workers or ranks nor what was read before matters.

    Args:
        dataset: the pairs.
        pipeline: transforms, applied with a seed derived from (seed, k).
        length: number of items, iters * batch_size.
        seed: of the run.
        sampler: which pair each item shows; by default a fresh random order per pass over the data set.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        pipeline: Pipeline,
        length: int,
        seed: int,
        sampler: PairSampler | None = None,
    ) -> None:
        self.dataset, self.pipeline, self.length, self.seed = dataset, pipeline, length, seed
        self.sampler = sampler or Shuffle(len(dataset), seed)

    def __len__(self) -> int:
        return self.length

    def draw(self, item: int) -> Draw:
        """Returns which pair item k shows, and the class its crop is aimed at, if any."""
        return self.sampler.draw(item)

    def __getitem__(self, item: int) -> Sample:
        if not 0 <= item < self.length:
            raise IndexError(f"item {item} is outside 0..{self.length - 1}")
        seed = int(np.random.SeedSequence([self.seed, 1, item]).generate_state(1, np.uint64)[0] >> 1)
        pair, aim = self.draw(item)
        return make_sample(self.dataset, self.pipeline, pair, seed, aim)


class EvaluationSamples(Dataset[Sample]):
    """Every pair once, in order, at full size."""

    def __init__(self, dataset: SegmentationDataset, pipeline: Pipeline) -> None:
        self.dataset, self.pipeline = dataset, pipeline

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(self.dataset, self.pipeline, index, seed=0)


def make_sample(
    dataset: SegmentationDataset, pipeline: Pipeline, index: int, seed: int, aim: Aim | None = None
) -> Sample:
    """Reads one pair and transforms it."""
    image = to_image_tensor(dataset.read_image(index))
    mask = torch.from_numpy(_writable_mask(dataset.read_mask(index), dataset, index))
    return Sample(*pipeline(image, mask, seed, aim), index)


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
