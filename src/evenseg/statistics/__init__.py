"""Sums over pixels: the one pass that every statistic loss is a formula on. README.md derives both directions."""

from evenseg.statistics.api import explain, segment_statistics
from evenseg.statistics.memory import StatisticsMemory
from evenseg.statistics.partial import PartialLabels
from evenseg.statistics.types import BACKGROUND, DEFAULT_BINS, FOREGROUND, Members, SegmentStatistics

__all__ = [
    "BACKGROUND",
    "DEFAULT_BINS",
    "FOREGROUND",
    "Members",
    "PartialLabels",
    "SegmentStatistics",
    "StatisticsMemory",
    "explain",
    "segment_statistics",
]
