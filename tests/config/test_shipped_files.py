from pathlib import Path

import pytest

from evenseg.config import load_config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("configs", "src") for path in (ROOT / folder).rglob("*.y*ml"))


def test_there_are_files_to_check():
    assert {"demo.yml", "compare_2core.yml"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_shipped_file_is_valid(file):
    from evenseg.engine import check_signatures

    config = load_config(file)
    check_signatures(config)
    assert file.read_text(encoding="utf-8").startswith("# evenseg "), "the first line states the command"


def test_crackforest_configuration_fits_the_data(shared_data):
    from evenseg.engine import resolve

    file = ROOT / "configs" / "crackforest" / "compare_2core.yml"
    experiment = resolve(load_config(file, [f"train_dataset.root={shared_data / 'crackforest'}"]))
    assert len(experiment.train.dataset) == 82
    assert experiment.classes.names == ("background", "crack")
