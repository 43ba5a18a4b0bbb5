"""The files inside the package; those under configs/ have tests/configs."""

from pathlib import Path

import pytest

import evenseg
from evenseg.config import load_config

SOURCE = Path(evenseg.__file__).parent
FILES = sorted(SOURCE.rglob("*.y*ml"))


def test_there_are_files_to_check():
    assert {"demo.yml"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_shipped_file_is_valid(file):
    from evenseg.engine import cross_check

    assert cross_check(load_config(file)).classes is not None
    assert file.read_text(encoding="utf-8").startswith("# evenseg "), "the first line states the command"
