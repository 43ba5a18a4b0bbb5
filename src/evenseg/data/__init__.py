"""Data sets, transforms and samples. Knows neither losses nor the engine."""

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.check import DataFacts, check_data
from evenseg.data.folder import FolderDataset
from evenseg.data.samples import EvaluationSamples, Sample, TrainingSamples
from evenseg.data.synthetic import SyntheticRoads
from evenseg.data.transforms import TRANSFORMS, Pipeline

DATASETS: dict[str, type[SegmentationDataset]] = {
    "FolderDataset": FolderDataset,
    "SyntheticRoads": SyntheticRoads,
}

__all__ = [
    "DATASETS",
    "TRANSFORMS",
    "Classes",
    "DataFacts",
    "EvaluationSamples",
    "FolderDataset",
    "Pipeline",
    "Sample",
    "SegmentationDataset",
    "SyntheticRoads",
    "TrainingSamples",
    "check_data",
]
