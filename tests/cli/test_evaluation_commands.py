"""`evenseg predict` and what it shares with `evenseg evaluate`."""

import numpy as np
import pytest
from PIL import Image
from tests.cli.test_commands import evenseg, fails

from evenseg.cli.inference import as_overrides
from evenseg.config import make_config
from evenseg.data import SyntheticRoads
from evenseg.engine import train


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template), tmp_path_factory.mktemp("commands") / "run")


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(SyntheticRoads("test", length=1, size=40).read_image(0)).save(tmp_path / "road.png")
    return tmp_path / "road.png"


def test_predict(run, picture, tmp_path):
    result = evenseg("predict", run, picture, "-o", tmp_path / "out", "--window", 24, 16, "--scales", 1, 1.5, "--flip")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(tmp_path / "out")]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"road.png", "road_overlay.png"}
    assert set(np.unique(Image.open(tmp_path / "out" / "road.png"))) <= {0, 1}


def test_predict_says_what_it_skips_and_exits_with_1(run, picture, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    result = evenseg("predict", run, tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    first, second = result.stderr.strip().splitlines()
    assert first.startswith(f"skipped: {tmp_path / 'broken.jpg'} cannot be read as an image")
    assert second == "1 of 2 images skipped"
    assert (tmp_path / "out" / "road.png").is_file()


def test_mistakes_are_one_line_and_write_nothing(run, picture, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert "is no run folder" in fails("predict", tmp_path, picture)
    assert "absent.png does not exist" in fails("predict", run, tmp_path / "absent.png")
    line = fails("predict", run, picture, "-o", tmp_path / "out", "--window", 16, 16, "--stride", 17, 8)
    assert "evaluation: stride [17, 8] is larger than the window [16, 16], which would leave gaps" in line
    assert "scales[0]" in fails("predict", run, picture, "--scales", 0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_window_drops_the_stride_of_the_run():
    assert as_overrides((8, 9), None, None, None, None) == ["evaluation.window=[8, 9]", "evaluation.stride=null"]
    assert as_overrides((8, 9), (4, 4), None, None, False)[1:] == [
        "evaluation.stride=null", "evaluation.stride=[4, 4]", "evaluation.flip=false",
    ]  # fmt: skip


def test_export(run, tmp_path):
    result = evenseg("export", run, "--format", "torchscript", "-o", tmp_path / "net.pt")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(tmp_path / "net.pt")]
    assert "largest difference from PyTorch" in result.stderr
    assert "is no run folder" in fails("export", tmp_path)


def test_evaluate_elsewhere_with_windows(run, make_folder):
    root = make_folder({"val": {"a": np.eye(32), "b": np.eye(32)[::-1]}}, classes=("ground", "road"))
    section = "test_dataset={type: FolderDataset, root: nowhere, split: val}"
    options = ("--split", "test", "--data", root, "--set", section, "--window", 16, 16, "--scales", 0.5, 1)
    result = evenseg("evaluate", run, *options)
    assert result.exit_code == 0, result.output
    assert "windows of 16 x 16" in " ".join(result.stdout.split())
    assert result.stdout.splitlines()[-1] == str(run / "evaluation" / "test.html")
    assert (run / "evaluation" / "test.csv").read_text().startswith("class,iou,dice,precision,recall,boundary_f1")
