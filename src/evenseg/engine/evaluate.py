"""Measuring a finished run on any split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from evenseg import metrics
from evenseg.config import ConfigError
from evenseg.data import EvaluationSamples, check_data
from evenseg.engine.files import write_json
from evenseg.engine.module import SegmentationModule
from evenseg.engine.resolve import build_data, build_model, naming_the_file
from evenseg.engine.run_folder import load_run_config
from evenseg.engine.scores import numbers
from evenseg.engine.train import load_best
from evenseg.engine.trainer import ImageByImage, make_loader, make_trainer, quiet
from evenseg.engine.unreadable import UnreadableImages, clear_data_errors

Split = Literal["train", "val", "test"]


def evaluate(run_folder: str | Path, split: Split = "val", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measures the best weights of a run on whole images and writes RUN/evaluation.json.

    The same code measures during training, so on the validation split the numbers are those of the best row.

    Args:
        run_folder: as written by `train`.
        split: which of the configuration's data sets.
        overrides: changes to the run's configuration, like `val_dataset.root=...` for a data set that has moved.

    Returns:
        What evaluation.json holds: the fields of a val row, then per class dice, precision, recall and the confusion
        matrix [target][prediction].

    Raises:
        FileNotFoundError: `run_folder` is no run folder or holds no weights.
        ConfigError: its configuration or the data set cannot be used.
    """
    folder = Path(run_folder)
    config = load_run_config(folder, overrides)
    section = getattr(config, f"{split}_dataset")
    with naming_the_file(config):
        if section is None:
            message = f"the run's configuration has none; add it with --set {split}_dataset='{{type: ..., ...}}'"
            raise ConfigError(message, key_path=f"{split}_dataset")
        data = build_data(section.model_copy(update={"transforms": config.val_dataset.transforms}), f"{split}_dataset")
        check_data(data.dataset, config.on_unreadable)
        classes = data.dataset.classes
        model = build_model(config, classes, pretrained=False)
    load_best(model, folder)
    module = SegmentationModule(model, classes)
    samples = EvaluationSamples(data.dataset, data.pipeline, config.on_unreadable)
    unreadable = UnreadableImages()
    with quiet(), clear_data_errors():
        trainer = make_trainer(config, callbacks=[unreadable])
        trainer.validate(module, make_loader(samples, ImageByImage(len(samples)), 0), verbose=False)
    assert module.matrices_NCC is not None
    total = module.matrices_NCC.sum(0)
    row: dict[str, Any] = {
        "split": split,
        "checkpoint": "best.safetensors",
        "images": len(module.matrices_NCC),
        "unreadable": list(unreadable.counts),
        "classes": list(classes.names),
    }
    row |= module.validation_row()
    row |= {
        "frequency_weighted_iou": float(metrics.frequency_weighted_iou(total)),
        "dice": numbers(metrics.dice(total)),
        "precision": numbers(metrics.precision(total)),
        "recall": numbers(metrics.recall(total)),
        "confusion": total.tolist(),
    }
    write_json(folder / "evaluation.json", row)
    return row
