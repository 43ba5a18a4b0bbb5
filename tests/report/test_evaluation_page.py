"""The page of an evaluation: its numbers, its charts, and what it refuses."""

import json

import pytest
from test_report import Page

from evenseg.report import write_evaluation_report

ROW = {
    "split": "test", "checkpoint": "best.safetensors", "images": 2, "classes": ["ground", "a<b"],
    "colors": [[10, 20, 30], [200, 0, 0]],
    "settings": {
        "window": [64, 96], "stride": None, "blend": "gaussian", "scales": [0.75, 1.0], "flip": True,
        "boundary_tolerance": 3.0, "boundary_width": 0.02,
    },
    "miou": 0.5, "iou": [0.9, None], "per_image_miou": 0.4, "accuracy": 0.8, "mean_accuracy": 0.7, "mean_dice": 0.6,
    "frequency_weighted_iou": 0.85, "dice": [0.95, None], "precision": [0.9, None], "recall": [1.0, None],
    "boundary_f1": [0.123456, None], "mean_boundary_f1": 0.123456, "per_image_boundary_f1": 0.2,
    "boundary_iou": [0.3, None], "mean_boundary_iou": 0.3, "per_image_boundary_iou": 0.31,
    "calibration": {
        "ece": 0.0321, "mce": 0.2, "class_ece": [0.02, 0.04], "mean_class_ece": 0.03,
        "bins": {"pixels": [0, 30, 70], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.6, 0.8]},
    },
    "confusion": [[90, 10], [0, 0]],
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    file = tmp_path / "run" / "evaluation" / "test.json"
    file.write_text(json.dumps(ROW))
    return file


def test_numbers_and_charts(file):
    path = write_evaluation_report(file)
    assert path == file.with_suffix(".html")
    page = Page(path)
    classes, means = page.tables
    assert classes[1] == ["ground", "90.00", "95.00", "90.00", "100.00", "12.35", "30.00", "2.00"]
    assert classes[2] == ["a<b", *["not labelled"] * 6, "4.00"]
    assert ["mIoU per image", "40.00"] in means
    text = " ".join(" ".join(page.texts).split())
    assert "windows of 96 x 64, gaussian blending, scales 0.75, 1, mirrored too" in text
    assert "within 3 px" in text
    assert "2 % of the image's diagonal" in text
    charts = [json.loads(script) for script in page.scripts if script.startswith("{")]
    confusion, reliability, shares = charts
    assert confusion["data"][0]["z"] == [[90, 10], [None, None]]
    assert reliability["data"][1]["x"] == [50, 90]
    assert reliability["data"][1]["y"] == [60, 80]
    assert shares["data"][0]["y"] == [0, 30, 70]


@pytest.mark.parametrize(
    ("confusion", "word"),
    [
        ([[90, 0], [0, 0]], "absent"),
        ([[90, 0], [10, 0]], "never predicted"),
        ([[80, 10], [0, 0]], "not labelled"),
        ([[80, 10], [5, 5]], "undefined"),
    ],
)
def test_why_a_class_has_no_score(file, confusion, word):
    file.write_text(json.dumps(ROW | {"confusion": confusion, "iou": [0.9, 0.0]}))
    page = Page(write_evaluation_report(file))
    assert page.tables[0][2] == ["a<b", "0.00", *[word] * 5, "4.00"]
    text = " ".join(" ".join(page.texts).split())
    explained = [one for one in ("absent", "never predicted", "not labelled", "undefined") if f"“{one}”: " in text]
    assert explained == [word]


def test_nothing_comes_from_elsewhere(file):
    page = Page(write_evaluation_report(file))
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)


def test_other_files_are_refused(file):
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"test\.json: no evaluation of this version \(KeyError: 'calibration'\)"):
        write_evaluation_report(file)
    file.write_text("no json")
    with pytest.raises(ValueError, match="no evaluation of this version"):
        write_evaluation_report(file)
