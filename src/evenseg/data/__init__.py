"""Data sets, transforms and samples. Knows neither losses nor the engine."""

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.check import DataFacts, check_data
from evenseg.data.folder import FolderDataset
from evenseg.data.samplers import SAMPLERS, PairSampler, RankBatches
from evenseg.data.samples import EvaluationSamples, Sample, TrainingSamples
from evenseg.data.synthetic import SyntheticRoads
from evenseg.data.transforms import TRANSFORMS, Pipeline

DATASETS: dict[str, type[SegmentationDataset]] = {
    "FolderDataset": FolderDataset,
    "SyntheticRoads": SyntheticRoads,
}

__all__ = [
    "DATASETS",
    "SAMPLERS",
    "TRANSFORMS",
    "Classes",
    "DataFacts",
    "EvaluationSamples",
    "FolderDataset",
    "PairSampler",
    "Pipeline",
    "RankBatches",
    "Sample",
    "SegmentationDataset",
    "SyntheticRoads",
    "TrainingSamples",
    "check_data",
]
