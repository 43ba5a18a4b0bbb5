"""Data sets, transforms and samples. Knows neither losses nor the engine."""

from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.camvid import CamVid
from evenseg.data.check import DataFacts, check_data
from evenseg.data.cityscapes import Cityscapes
from evenseg.data.folder import FolderDataset
from evenseg.data.images import UnreadableFileError
from evenseg.data.list_file import ListDataset
from evenseg.data.pairs import FileDataset, FileOptions
from evenseg.data.samplers import SAMPLERS, PairSampler, RankBatches
from evenseg.data.samples import EvaluationSamples, Sample, TrainingSamples
from evenseg.data.synthetic import SyntheticRoads
from evenseg.data.transforms import TRANSFORMS, Pipeline
from evenseg.data.voc import PascalVOC, PascalVOCAug

DATASETS: dict[str, type[SegmentationDataset]] = {
    "FolderDataset": FolderDataset,
    "ListDataset": ListDataset,
    "Cityscapes": Cityscapes,
    "PascalVOC": PascalVOC,
    "PascalVOCAug": PascalVOCAug,
    "CamVid": CamVid,
    "SyntheticRoads": SyntheticRoads,
}

__all__ = [
    "DATASETS",
    "SAMPLERS",
    "TRANSFORMS",
    "CamVid",
    "Cityscapes",
    "Classes",
    "DataFacts",
    "EvaluationSamples",
    "FileDataset",
    "FileOptions",
    "FolderDataset",
    "ListDataset",
    "PairSampler",
    "PascalVOC",
    "PascalVOCAug",
    "Pipeline",
    "RankBatches",
    "Sample",
    "SegmentationDataset",
    "SyntheticRoads",
    "TrainingSamples",
    "UnreadableFileError",
    "check_data",
]
