"""Measuring a finished run on any split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

from evenseg.config import ConfigError
from evenseg.data import EvaluationSamples
from evenseg.engine.build import build_data, build_model, naming_the_file
from evenseg.engine.files import write_json, write_text
from evenseg.engine.measure import ImageCounts, ImageMeter
from evenseg.engine.module import SegmentationModule
from evenseg.engine.out_of_memory import less_for_images, naming_lack_of_memory
from evenseg.engine.placement import is_first_process, is_torchrun, placement
from evenseg.engine.resolve import check_all_data
from evenseg.engine.run_folder import load_run_config
from evenseg.engine.scores import full_row, image_row
from evenseg.engine.train import load_best
from evenseg.engine.trainer import ImageByImage, make_loader, make_trainer, quiet
from evenseg.engine.unreadable import UnreadableImages, clear_data_errors

Split = Literal["train", "val", "test"]

# of the table of classes, in the order of its columns
CLASS_SCORES = ("iou", "dice", "precision", "recall", "boundary_f1", "boundary_iou")


def evaluate(run_folder: str | Path, split: Split = "val", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measures the best weights of a run on whole images and writes RUN/evaluation/SPLIT.json, .csv, _images.csv and .html.

    The same code measures during training, so with the same `evaluation` section the numbers on the validation split are
    those of the best row. Processes started by torchrun share the images, and every image counts once.

    Args:
        run_folder: as written by `train`.
        split: which of the configuration's data sets.
        overrides: changes to the run's configuration, like `val_dataset.root=...` for a data set that has moved, or
            `evaluation.flip=true`.

    Returns:
        What SPLIT.json holds: see docs/evaluation.md.

    Raises:
        FileNotFoundError: `run_folder` is no run folder or holds no weights.
        ConfigError: its configuration or the data set cannot be used.
    """
    folder = Path(run_folder)
    config = load_run_config(folder, overrides)
    section = getattr(config, f"{split}_dataset")
    with naming_the_file(config):
        if section is None:
            have = " and ".join(name for name in get_args(Split) if getattr(config, f"{name}_dataset") is not None)
            message = f"the run's configuration has none, only {have}; add it with --set {split}_dataset='{{type: ..., ...}}'"
            raise ConfigError(message, key_path=f"{split}_dataset")
        data = build_data(section.model_copy(update={"transforms": config.val_dataset.transforms}), f"{split}_dataset")
        check_all_data(config, {f"{split}_dataset": data})
        classes = data.dataset.classes
        model = build_model(config, classes, pretrained=False)
    load_best(model, folder)
    module = SegmentationModule(model, classes, meter=ImageMeter(classes, config.evaluation, in_full=True))
    samples = EvaluationSamples(data.dataset, data.pipeline, config.on_unreadable)
    unreadable = UnreadableImages()
    with quiet(), clear_data_errors(), naming_lack_of_memory(lambda: less_for_images(config)):
        # a run's own number of devices need not be that of the machine where it is measured
        trainer = make_trainer(config, callbacks=[unreadable], **(placement(config) if is_torchrun() else {}))
        place = ImageByImage(len(samples), trainer.global_rank, trainer.world_size)
        trainer.validate(module, make_loader(samples, place, config.num_workers), verbose=False)
    row: dict[str, Any] = {
        "split": split,
        "checkpoint": "best.safetensors",
        "images": len(module.images),
        "unreadable": list(unreadable.counts),
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "settings": config.evaluation.model_dump(mode="json"),
    }
    row |= full_row(list(module.images.values()))
    if not is_first_process():
        return row
    target = folder / "evaluation"
    target.mkdir(exist_ok=True)
    write_json(target / f"{split}.json", row)
    write_text(target / f"{split}.csv", _class_table(row))
    images = {data.dataset.name(pair): counts for pair, counts in module.images.items()}
    write_text(target / f"{split}_images.csv", _image_table(images, classes.names))
    from evenseg.report import write_evaluation_report

    write_evaluation_report(target / f"{split}.json")
    return row


def _class_table(row: dict[str, Any]) -> str:
    """Returns one line per class, empty where a class is absent."""
    columns = {name: row[name] for name in CLASS_SCORES} | {"ece": row["calibration"]["class_ece"]}
    confusion = row["confusion"]
    labelled = [sum(counts) for counts in confusion]
    predicted = [sum(counts) for counts in zip(*confusion, strict=True)]
    table = zip(row["classes"], *columns.values(), labelled, predicted, strict=True)
    return _csv([["class", *columns, "labelled_pixels", "predicted_pixels"], *table])


def _image_table(images: Mapping[str, ImageCounts], class_names: Sequence[str]) -> str:
    """Returns one line per image."""
    table: list[Sequence[Any]] = [
        ["image", "miou", "accuracy", "boundary_f1", *(f"IoU {name}" for name in class_names)]
    ]
    for name, image in images.items():
        row = image_row(image)
        table.append([name, row["miou"], row["accuracy"], row["boundary_f1"], *row["iou"]])
    return _csv(table)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
