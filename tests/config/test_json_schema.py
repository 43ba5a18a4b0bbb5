"""What is said about the keys is complete, and the documentation says the same."""

import re
from pathlib import Path

from evenseg.config import key_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_every_key_is_described():
    silent = [row for row in key_table().splitlines()[2:] if re.fullmatch(r".*\|\s*\|", row)]
    assert not silent, "say under `Attributes:` in the docstring what these keys do"


def test_the_page_holds_the_generated_table():
    written = re.search(r"<!-- keys:begin[^\n]*\n(.*?)<!-- keys:end -->", PAGE.read_text(), re.S).group(1).strip()
    assert written == key_table(), "run `evenseg config schema --markdown` and put its output between the marks"
