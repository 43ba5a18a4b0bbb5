"""Studies: many runs on one configuration."""

from evenseg.study.compare import compare, config_of, run_folder

__all__ = ["compare", "config_of", "run_folder"]
