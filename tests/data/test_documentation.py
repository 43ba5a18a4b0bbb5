"""docs/data.md names every layout, option and transform, and its snippets are valid."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from evenseg.config import check_keywords
from evenseg.data import DATASETS, TRANSFORMS, FileOptions

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SNIPPETS = [yaml.safe_load(text) for text in re.findall(r"^\| `\w+` \| .* \| `(\{type: .*\})` \|$", TEXT, re.MULTILINE)]
SECTIONS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def table(heading):
    return re.findall(r"^\| `(\w+)` \|", TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0], re.MULTILINE)


def test_every_layout_option_and_transform_is_described():
    assert sorted(table("Layouts")) == sorted(DATASETS)
    assert sorted(table("Transforms")) == sorted(TRANSFORMS)
    assert set(table("Options of every layout of files")) == set(get_type_hints(FileOptions))


@pytest.mark.parametrize("section", SNIPPETS + [value for part in SECTIONS for value in part.values()], ids=lambda s: s["type"])
def test_snippets_are_valid(section):
    keywords = {key: value for key, value in section.items() if key not in ("type", "transforms")}
    check_keywords(DATASETS[section["type"]], keywords)
    for transform in section.get("transforms", []):
        check_keywords(TRANSFORMS[transform.pop("type")], transform)


def test_there_is_a_snippet_for_every_layout():
    assert {section["type"] for section in SNIPPETS} == set(DATASETS)
