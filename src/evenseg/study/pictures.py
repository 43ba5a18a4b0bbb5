"""The images that tell most about a comparison, predicted by every loss, for the report."""

from __future__ import annotations

from pathlib import Path

from evenseg.data import EvaluationSamples
from evenseg.engine.build import build_data
from evenseg.engine.loaded_run import load_run
from evenseg.engine.overlays import write_overlays
from evenseg.report.folders import overlay_folder, read_study
from evenseg.report.records import Run
from evenseg.report.tables import runs_to_show, telling_images


def write_pictures(study_folder: Path) -> None:
    """Writes RUN/evaluation/SPLIT_overlays for the runs that the report shows: the images where the losses differ most.

    Does nothing where the runs were not evaluated; pictures that are there already are kept.
    """
    study = read_study(study_folder)
    if not study.evaluated:
        return
    split = study.evaluated[0]
    _, runs = runs_to_show(study)
    names = [image.name for image in telling_images(study)]
    for run in runs.values():
        missing = [] if run is None else [name for name in names if name not in run.evaluations[split].overlays]
        if run is not None and missing:
            _write(run, split, missing)


def _write(run: Run, split: str, names: list[str]) -> None:
    loaded = load_run(run.folder)
    config = loaded.config
    section = getattr(config, f"{split}_dataset")
    data = build_data(section.model_copy(update={"transforms": config.val_dataset.transforms}), f"{split}_dataset")
    samples = EvaluationSamples(data.dataset, data.pipeline, config.on_unreadable)
    with loaded.autocast():
        write_overlays(overlay_folder(run.folder, split), loaded.predictor, samples, names=names)
