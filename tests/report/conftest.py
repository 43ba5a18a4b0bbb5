"""A study folder with made-up numbers, written as the trainer writes it."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

CLASSES = ["background", "road", "kerb"]
COLORS = [[30, 30, 40], [240, 200, 60], [60, 180, 220]]
STEPS = list(range(100, 1100, 100))


def png(array):
    """An RGB (H, W, 3) or an index (H, W) picture with COLORS as palette, as PNG bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in array)
    palette = b"" if array.ndim == 3 else chunk(b"PLTE", bytes(v for color in COLORS for v in color))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if array.ndim == 3 else 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def scene(rng, size=(64, 96)):
    """A road that winds through noise: (H, W, 3) image and (H, W) classes."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.abs(y - size[0] / 2 - 14 * np.sin(x / rng.uniform(9, 16) + rng.uniform(0, 6)))
    target = np.where(distance < 3, 1, np.where(distance < 5, 2, 0))
    tone = np.array([[70, 84, 60], [128, 124, 120], [150, 140, 120]])[target]
    return np.clip(tone + rng.normal(0, 14, (*size, 3)), 0, 255).astype(np.uint8), target


def write_run(
    folder: Path, name, seed, level, *, classes=None, iou_missing=(), finished=True, terms=("CrossEntropyLoss",), evaluated=()
):
    """Write one run folder whose scores lie around `level`; return the best validation row."""
    classes = CLASSES if classes is None else classes
    rng = np.random.default_rng([seed, *name.encode()])
    (folder / "overlays").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"loss:\n  types:\n    - type: {name}\nseed: {seed}\n")
    environment = {"versions": {"torch": "2.13.0"}, "python": "3.11", "cpu": "made up", "gpu": None, "seed": seed}
    (folder / "environment.json").write_text(json.dumps(environment))
    rows, validations = [], []
    for step in range(20, STEPS[-1] + 1, 20):
        values = {
            t: float((0.9 * np.exp(-step / 400) + 0.2) / (1 + i) + rng.normal(0, 0.02)) for i, t in enumerate(terms)
        }
        loss = float(sum(values.values()))
        rows.append({"step": step, "time": step / 10, "split": "train", "loss": loss, "terms": values, "lr": 0.01})
        if step in STEPS:
            iou = np.clip(
                level * (1 - np.exp(-step / 250)) * np.array([1.3, 0.95, 0.7]) + rng.normal(0, 0.008, 3), 0, 1
            )
            iou = [None if c in iou_missing else float(v) for c, v in enumerate(iou)]
            known = [v for v in iou if v is not None]
            miou = float(np.mean(known)) if known else None
            scores = {"per_image_miou": -0.02, "accuracy": 0.3, "mean_accuracy": 0.08, "mean_dice": 0.12}
            row = {"step": step, "time": step / 10, "split": "val", "loss": loss, "miou": miou, "iou": iou}
            row |= {key: None if miou is None else min(1.0, miou + v) for key, v in scores.items()}
            rows.append(row)
            validations.append(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture_rng = np.random.default_rng(0)
    for i in range(6):
        image, target = scene(picture_rng)
        wrong = rng.random(target.shape) < (0.25 - 0.2 * level) * (1 + i / 3)
        prediction = np.where(wrong, rng.integers(0, 3, target.shape), target)
        stem = folder / "overlays" / f"image_{i}"
        for kind, array in (("image", image), ("target", target), ("prediction", prediction)):
            stem.with_name(f"{stem.name}_{kind}.png").write_bytes(png(array))
        score = {"name": f"image_{i}", "iou": [None] * len(classes), "miou": float(level + 0.05 - i / 40)}
        stem.with_suffix(".json").write_text(json.dumps(score))
    best = max(validations, key=lambda row: row["miou"] or 0)
    summary = {
        "name": name,
        "seed": seed,
        "classes": classes,
        "colors": COLORS,
        "best": best,
        "last": validations[-1],
        "steps": STEPS[-1],
        "seconds": 100.0 + seed,
        "seconds_per_step": 0.1 + 0.001 * seed,
        "parameters": 123456,
        "peak_memory": 1.2e9 + 1e6 * seed,
    }
    for split in evaluated:
        write_evaluation(folder, split, best, level, rng, classes)
    if finished:
        (folder / "summary.json").write_text(json.dumps(summary))
    return best


def write_evaluation(folder, split, best, level, rng, classes):
    """Write RUN/evaluation/SPLIT.json and its images as `evenseg evaluate` does."""
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    confidence = np.linspace(0.5, 1, 11)[:-1] + 0.025
    row = {key: value for key, value in best.items() if key not in ("step", "time")} | {"split": split, "classes": classes}
    row |= {"mean_boundary_f1": level + 0.1, "mean_boundary_iou": level - 0.1}
    bins = {
        "pixels": [int(v) for v in rng.integers(50, 5000, 10)],
        "confidence": [float(v) for v in confidence],
        "accuracy": [float(v) for v in confidence - 0.05],
    }
    row["calibration"] = {"ece": 0.05, "mce": 0.2, "class_ece": [0.1] * len(classes), "mean_class_ece": 0.1, "bins": bins}
    (target / f"{split}.json").write_text(json.dumps(row))
    names = [f"image_{i}" for i in range(12)]
    scores = np.clip(level + rng.normal(0, 0.06, len(names)), 0, 1)
    lines = ["image,miou,accuracy", *(f"{name},{score},0.9" for name, score in zip(names, scores)), "image_void,,"]
    (target / f"{split}_images.csv").write_text("\n".join(lines) + "\n")
    shutil.copytree(folder / "overlays", target / f"{split}_overlays")


def write_study(folder: Path, levels, seeds=(0, 1, 2), classes=None, **run_options):
    """Write a study; `levels` maps a loss to its mean level. Return the best rows by (loss, seed)."""
    study = {"losses": list(levels), "seeds": list(seeds), "classes": classes or CLASSES, "metric": "miou"}
    study |= {"device": "cpu", "seconds": 754.2}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "config.yaml").write_text("iters: 1000\nlosses:\n" + "".join(f"  {loss}: ...\n" for loss in levels))
    best = {}
    for i, (loss, level) in enumerate(levels.items()):
        terms = ("CrossEntropyLoss", "LovaszSoftmaxLoss")[: 1 + (i > 0)]
        for seed in seeds:
            shift = np.random.default_rng(seed).normal(0, 0.01)
            run = folder / "runs" / loss / f"seed-{seed}"
            best[loss, seed] = write_run(run, loss, seed, level + shift, classes=classes, terms=terms, **run_options)
    return best


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three losses and three seeds: (folder, best rows)."""
    folder = tmp_path_factory.mktemp("study")
    return folder, write_study(folder, {"CE": 0.52, "CE + Lovász hinge": 0.57, "BCE + Dice": 0.521})


@pytest.fixture(scope="module")
def evaluated_study(tmp_path_factory):
    """The same, with every run evaluated on the validation images: (folder, best rows)."""
    folder = tmp_path_factory.mktemp("evaluated")
    losses = {"CE": 0.52, "CE + Lovász hinge": 0.57, "BCE + Dice": 0.521}
    return folder, write_study(folder, losses, evaluated=("val",))
