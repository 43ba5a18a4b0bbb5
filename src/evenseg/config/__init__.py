"""Configurations: YAML read safely into frozen models; a wrong key is answered with the nearest right one. No torch."""

from evenseg.config.errors import Collector, ConfigError, is_below, join_path, listed, nearest_name, unknown_name
from evenseg.config.json_schema import file_schema, key_table, keyword_schema
from evenseg.config.load import dump_config, dump_content, load_config, make_config, override_config
from evenseg.config.override import read_key
from evenseg.config.schema import Config, DatasetSection, EvaluationSection, StudySection
from evenseg.config.search import Searched, SearchSection
from evenseg.config.section import Section
from evenseg.config.signature import check_keywords, construct, keyword_model, look_up

__all__ = [
    "Collector",
    "Config",
    "ConfigError",
    "DatasetSection",
    "EvaluationSection",
    "SearchSection",
    "Searched",
    "Section",
    "StudySection",
    "check_keywords",
    "construct",
    "dump_config",
    "dump_content",
    "file_schema",
    "is_below",
    "join_path",
    "key_table",
    "keyword_model",
    "keyword_schema",
    "listed",
    "load_config",
    "look_up",
    "make_config",
    "nearest_name",
    "override_config",
    "read_key",
    "unknown_name",
]
