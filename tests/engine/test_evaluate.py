"""Evaluation: the numbers of training again, everything else against the metrics themselves, and exact over processes."""

import csv
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from evenseg import metrics
from evenseg.config import EvaluationSection, make_config
from evenseg.data import EvaluationSamples, Sample
from evenseg.engine import evaluate, train
from evenseg.engine.build import build_data
from evenseg.engine.loaded_run import load_run
from evenseg.engine.measure import ImageMeter

# so short a training predicts both classes
BOTH_CLASSES = {
    "loss": {"types": [{"type": "CrossEntropyLoss", "weight": [1, 25]}], "coef": [1]},
    "optimizer": {"type": "AdamW", "lr": 0.05},
    "iters": 5,
    "eval_interval": 5,
}
WINDOWS = {"window": [20, 24], "stride": [12, 16], "scales": [0.75, 1], "flip": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template | BOTH_CLASSES), tmp_path_factory.mktemp("evaluated") / "run")


def read_csv(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_windows_scales_and_flip_in_training_and_afterwards_give_the_same_numbers(tiny, tmp_path):
    run = train(make_config(tiny | BOTH_CLASSES | {"evaluation": WINDOWS}), tmp_path / "run")
    row = evaluate(run)
    best = json.loads((run / "summary.json").read_text())["best"]
    for key in ("miou", "iou", "per_image_miou", "accuracy", "mean_accuracy", "mean_dice"):
        assert row[key] == best[key], key
    assert best["loss"] > 0
    plain = evaluate(run, overrides=["evaluation={}"])
    assert plain["confusion"] != row["confusion"]


def test_everything_comes_from_the_counts_of_all_images(run):
    row = evaluate(run)
    assert all(0 < score < 1 for score in row["iou"]), "numbers at their limits would show little"
    loaded = load_run(run)
    data = build_data(loaded.config.val_dataset, "val_dataset")
    samples = EvaluationSamples(data.dataset, data.pipeline)
    masks = torch.stack([samples[i].mask for i in range(3)])
    probs = torch.cat([loaded.predictor.probabilities(samples[i].image[None]) for i in range(3)])
    cm = metrics.confusion_matrix(probs, masks, 2)
    assert row["confusion"] == cm.tolist()
    assert row["dice"] == metrics.dice(cm).tolist()
    matches, overlap = metrics.boundary_matches(probs, masks, 2), metrics.boundary_overlap(probs, masks, 2)
    assert row["boundary_f1"] == metrics.boundary_f1(matches.sum(0)).tolist()
    assert row["boundary_iou"] == metrics.boundary_iou(overlap.sum(0)).tolist()
    per_image = np.nanmean([np.nanmean(scores) for scores in metrics.boundary_f1(matches).numpy()])
    assert row["per_image_boundary_f1"] == pytest.approx(per_image)
    assert row["calibration"]["ece"] == float(metrics.calibration_error(metrics.calibration_sums(probs, masks).sum(0)))
    classwise = metrics.calibration_error(metrics.calibration_sums(probs, masks, classwise=True).sum(0))
    assert row["calibration"]["class_ece"] == classwise.tolist()
    assert sum(row["calibration"]["bins"]["pixels"]) == masks.numel()


def test_the_files_hold_the_same_numbers(run):
    row = evaluate(run)
    folder = run / "evaluation"
    assert sorted(file.name for file in folder.iterdir()) == ["val.csv", "val.html", "val.json", "val_images.csv"]
    assert json.loads((folder / "val.json").read_text()) == row
    classes = read_csv(folder / "val.csv")
    assert [line["class"] for line in classes] == ["ground", "road"]
    for c, line in enumerate(classes):
        for key in ("iou", "dice", "precision", "recall", "boundary_f1", "boundary_iou"):
            assert float(line[key] or "nan") == pytest.approx(
                row[key][c] if row[key][c] is not None else np.nan, nan_ok=True
            )
        assert int(line["labelled_pixels"]) == sum(row["confusion"][c])
    images = read_csv(folder / "val_images.csv")
    assert [line["image"] for line in images] == ["val_0000", "val_0001", "val_0002"]
    assert np.mean([float(line["miou"]) for line in images]) == pytest.approx(row["per_image_miou"])
    page = (folder / "val.html").read_text()
    assert f"{100 * row['miou']:.2f}" in page
    assert "http://" not in page.split("<script>")[0]


def test_settings_are_those_of_the_run_and_the_overrides(run):
    row = evaluate(run, overrides=["evaluation.boundary_tolerance=3", "evaluation.calibration_bins=4"])
    assert row["settings"]["boundary_tolerance"] == 3
    assert len(row["calibration"]["bins"]["pixels"]) == 4
    assert row["boundary_f1"] != evaluate(run)["boundary_f1"]


def test_loss_over_windows_is_weighted_by_valid_pixels():
    class Zero(torch.nn.Module):
        def forward(self, image):
            return [image[:, :2]]

    image, mask = torch.zeros(1, 3, 4, 12), torch.zeros(1, 4, 12, dtype=torch.uint8)
    mask[..., 3:] = 255
    sample = Sample(image, mask, torch.tensor([7]))
    classes = build_data(make_config_of_roads(), "val_dataset").dataset.classes
    meter = ImageMeter(classes, EvaluationSection(window=(4, 6), stride=(4, 6)))
    counts = meter.measure(Zero(), sample, lambda outputs, window, image: (window != 255).sum().float())
    # windows of 12 and 0 valid pixels
    assert counts[7].loss == 12
    assert counts[7].matrix.sum() == 12
    assert meter.measure(Zero(), sample)[7].loss is None


def make_config_of_roads():
    from evenseg.config import DatasetSection

    return DatasetSection(type="SyntheticRoads", length=1, size=16)


def test_two_processes_and_an_odd_number_of_images_give_the_numbers_of_one(run):
    alone = evaluate(run)
    (run / "evaluation" / "val.json").unlink()
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    found = subprocess.run(
        [*torchrun, "-m", "evenseg", "evaluate", run], env=environment, capture_output=True, text=True, timeout=500
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(str(run / "evaluation" / "val.html")) == 1
    assert json.loads((run / "evaluation" / "val.json").read_text()) == alone
    assert alone["images"] == 3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
