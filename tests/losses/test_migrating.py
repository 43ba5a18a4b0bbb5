"""docs/migrating.md says what the presets say, and what happens where another library fails.

Run as a script it prints the second table: python tests/losses/test_migrating.py
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent)]

from golden_cases import SHARED, As, evaluate, read_golden  # noqa: E402
from golden_conventions import CONVENTIONS  # noqa: E402

from evenseg.losses import PRESETS  # noqa: E402
from evenseg.losses.presets.table import TITLES, preset_tables  # noqa: E402

PAGE = ROOT / "docs" / "migrating.md"
CORE = SHARED / "core"

CASES = {
    "rand": "ignored pixels", "absent": "ignored pixels", "img_ignored": "one of two images wholly ignored",
    "one_valid": "one labelled pixel", "nearperf": "saturated predictions", "ml": "multilabel maps", "ml_noign": "multilabel maps",
}  # fmt: skip
# the case as such is nothing special: it is the call that fails
ALWAYS = {"smp.soft_ce": "always", "smp.focal": None}
FAILURES = {"nonfinite_value": "NaN", "nonfinite_grad": "NaN gradient", "empty_tensor": "a tensor without elements"}


def failures() -> Iterator[tuple[str, str, str, float]]:
    """(preset, input, what theirs does, our value) for every recorded failure that a preset answers."""
    for family, table in CONVENTIONS.items():
        with np.load(CORE / f"{family}.npz") as z:
            index = {entry["id"]: entry for entry in json.loads(str(z["index"]))}
        for g in read_golden(CORE / f"{family}.npz", family):
            convention = table[g.entry]
            if g.status == "ok" or not isinstance(convention, As):
                continue
            info = index[g.entry]["cases"][g.case]
            section = convention.loss(g) if callable(convention.loss) else convention.loss
            name = str(section["type"])
            value, grad = evaluate(convention, g, engine="eager", **({"method": "sort"} if family.startswith("lovasz") else {}))
            assert np.isfinite(value)
            assert np.isfinite(grad).all()
            error = str(info.get("error") or "").partition(":")[0]
            said = FAILURES.get(g.status, f"raises {error}")
            if "class_weight" in section:
                said += " (with class_weight)"
            yield name, ALWAYS.get(name) or CASES[g.case], said, value


def failure_table() -> str:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for name, case, theirs, value in failures():
        found = rows.setdefault((name, case, theirs), [])
        if f"{value:.4g}" not in found:
            found.append(f"{value:.4g}")
    lines = ["| preset | input | theirs | ours |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {case} | {theirs} | {', '.join(values)} |" for (name, case, theirs), values in rows.items()]
    return "\n".join(lines)


def between(mark: str) -> str:
    return re.search(rf"<!-- {mark}:begin[^\n]*\n(.*?)<!-- {mark}:end -->", PAGE.read_text(), re.S)[1].strip()


def test_every_library_has_its_table():
    assert between("presets") == preset_tables().strip(), "run `evenseg losses --presets --markdown`, put its output between the marks"
    assert list(TITLES) == list(dict.fromkeys(name.partition(".")[0] for name in PRESETS))


@pytest.mark.skipif(not CORE.is_dir(), reason=f"the full golden files are not at {CORE}")
def test_where_theirs_fails_ours_gives_what_the_page_says():
    assert between("failures") == failure_table(), "run `python tests/losses/test_migrating.py`, put its output between the marks"


def test_presets_named_on_the_page_exist():
    projects = "|".join(TITLES)
    named = set(re.findall(rf"(?<![\w./-])(?:{projects})\.[a-z_]+\b(?!\.\w)", re.sub(r"```python.*?```", "", PAGE.read_text(), flags=re.S)))
    assert not named - set(PRESETS)
    assert set(PRESETS) <= named


if __name__ == "__main__":
    print(failure_table())
