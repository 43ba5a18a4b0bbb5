"""Configurations: YAML read safely into frozen models; a wrong key is answered with the nearest right one. No torch."""

from evenseg.config.errors import ConfigError, join_path, nearest_name, unknown_name
from evenseg.config.load import dump_config, load_config, make_config
from evenseg.config.schema import Config, DatasetSection, EvaluationSection, Section
from evenseg.config.signature import check_keywords, construct, look_up

__all__ = [
    "Config",
    "ConfigError",
    "DatasetSection",
    "EvaluationSection",
    "Section",
    "check_keywords",
    "construct",
    "dump_config",
    "join_path",
    "load_config",
    "look_up",
    "make_config",
    "nearest_name",
    "unknown_name",
]
