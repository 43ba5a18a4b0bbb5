"""Data sets, transforms and samples. Knows neither losses nor the engine."""

from evenseg.data.ade20k import ADE20K
from evenseg.data.base import Classes, SegmentationDataset
from evenseg.data.camvid import CamVid
from evenseg.data.check import DataFacts, check_data
from evenseg.data.cityscapes import Cityscapes
from evenseg.data.classes import known_classes
from evenseg.data.csv_file import CSVDataset
from evenseg.data.deepglobe import DeepGlobeRoad, MiniDeepGlobeRoadExtraction
from evenseg.data.folder import FolderDataset
from evenseg.data.images import UnreadableFileError
from evenseg.data.list_file import ListDataset
from evenseg.data.pairs import FileDataset, FileOptions, UnpairedFilesError
from evenseg.data.rows import ImageRows, open_rows
from evenseg.data.samplers import SAMPLERS, PairSampler, RankBatches
from evenseg.data.samples import EvaluationSamples, MaskSamples, Sample, TrainingSamples, to_image_tensor
from evenseg.data.synthetic import SyntheticRoads
from evenseg.data.synthia import SynthiaRand, SynthiaSeqs
from evenseg.data.transforms import TRANSFORMS, Pipeline
from evenseg.data.voc import PascalVOC, PascalVOCAug

DATASETS: dict[str, type[SegmentationDataset]] = {
    "FolderDataset": FolderDataset,
    "ListDataset": ListDataset,
    "CSVDataset": CSVDataset,
    "Cityscapes": Cityscapes,
    "PascalVOC": PascalVOC,
    "PascalVOCAug": PascalVOCAug,
    "ADE20K": ADE20K,
    "DeepGlobeRoad": DeepGlobeRoad,
    "MiniDeepGlobeRoadExtraction": MiniDeepGlobeRoadExtraction,
    "CamVid": CamVid,
    "SynthiaSeqs": SynthiaSeqs,
    "SynthiaRand": SynthiaRand,
    "SyntheticRoads": SyntheticRoads,
}

__all__ = [
    "ADE20K",
    "DATASETS",
    "SAMPLERS",
    "TRANSFORMS",
    "CSVDataset",
    "CamVid",
    "Cityscapes",
    "Classes",
    "DataFacts",
    "DeepGlobeRoad",
    "EvaluationSamples",
    "FileDataset",
    "FileOptions",
    "FolderDataset",
    "ImageRows",
    "ListDataset",
    "MaskSamples",
    "MiniDeepGlobeRoadExtraction",
    "PairSampler",
    "PascalVOC",
    "PascalVOCAug",
    "Pipeline",
    "RankBatches",
    "Sample",
    "SegmentationDataset",
    "SyntheticRoads",
    "SynthiaRand",
    "SynthiaSeqs",
    "TrainingSamples",
    "UnpairedFilesError",
    "UnreadableFileError",
    "check_data",
    "known_classes",
    "open_rows",
    "to_image_tensor",
]
