"""Studies: many runs on one configuration."""

from evenseg.study.compare import compare, failures
from evenseg.study.plan import config_of, run_folder
from evenseg.study.search import search

__all__ = ["compare", "config_of", "failures", "run_folder", "search"]
