"""One training run: configuration in, run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenseg.config import Config, ConfigError
from evenseg.data import EvaluationSamples, TrainingSamples
from evenseg.engine.module import SegmentationModule
from evenseg.engine.overlays import write_overlays
from evenseg.engine.recorder import Recorder
from evenseg.engine.resolve import Experiment, build_optimizer, build_schedule, resolve
from evenseg.engine.run_folder import RunFolder, check_free, write_json
from evenseg.engine.trainer import make_loader, make_trainer, quiet, seed_everything


def train(config: Config, output: str | Path, *, overwrite: bool = False, title: str | None = None) -> Path:
    """Trains one configuration and returns its run folder, which is made only after every check has passed.

    Args:
        config: with one `loss`.
        output: the run folder.
        overwrite: replace a finished run.
        title: shown beside the progress bar; the loss's name by default.

    Raises:
        ConfigError: the configuration or the data cannot be used.
        ValueError: `output` is taken, or the loss stopped being finite.
    """
    if config.loss is None:
        raise ConfigError("choose one of the losses to train", key_path="losses", file=config.source)
    path = Path(output)
    check_free(path, overwrite=overwrite)
    return run(resolve(config), path, overwrite=overwrite, title=title)


def run(experiment: Experiment, path: Path, *, overwrite: bool = False, title: str | None = None) -> Path:
    """Trains a resolved experiment; see `train`."""
    config, classes = experiment.config, experiment.classes
    assert config.loss is not None
    name = loss_name(config)
    folder = RunFolder(path)
    seed_everything(config.seed)
    model = experiment.build_model()
    module = SegmentationModule(
        model,
        classes,
        experiment.build_loss(),
        lambda parameters: build_optimizer(config, parameters),
        build_schedule(config),
        config.iters,
    )
    recorder = Recorder(folder, config.iters, config.log_interval, title or name)
    samples = TrainingSamples(
        experiment.train.dataset,
        experiment.train.pipeline,
        config.iters * config.batch_size,
        config.seed,
        experiment.sampler,
    )
    whole_images = EvaluationSamples(experiment.val.dataset, experiment.val.pipeline)
    folder.create(config, overwrite=overwrite)
    try:
        # again: building a loss may draw random numbers, and runs of one seed must differ by the loss alone
        seed_everything(config.seed)
        with quiet():
            trainer = make_trainer(
                config,
                max_steps=config.iters,
                val_check_interval=min(config.evaluate_every, config.iters),
                callbacks=[recorder],
            )
            trainer.fit(
                module,
                make_loader(samples, config.batch_size, config.num_workers),
                # one at a time: whole images may differ in size
                make_loader(whole_images, 1, config.num_workers),
            )
    except BaseException as error:
        if recorder.steps == 0:
            folder.remove()
        if isinstance(error, SystemExit):
            # what Lightning makes of Ctrl+C
            raise KeyboardInterrupt from error
        raise
    load_best(model, path)
    write_overlays(path / "overlays", model, whole_images)
    write_json(path / "summary.json", _summary(experiment, recorder, name, module))
    return path


def load_best(model: Any, path: Path) -> None:
    """Loads the weights of the best evaluation of a run folder into its model."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path / "checkpoints" / "best.safetensors"))


def loss_name(config: Config) -> str:
    """Returns the configured name, or one made of the loss's types."""
    if config.name:
        return config.name
    section = config.loss or {}
    return ", then ".join(_main_types(part) for part in (section, *(section.get("phases") or ())))


def _main_types(section: Mapping[str, Any]) -> str:
    """Returns the types of the main output's loss, like `CrossEntropy+LovaszSoftmax`."""
    first = section["types"][0] if "types" in section else section
    parts = first.get("losses", [first])
    return "+".join(str(part["type"]).rpartition(".")[2].removesuffix("Loss") for part in parts)


def _summary(experiment: Experiment, recorder: Recorder, name: str, module: SegmentationModule) -> dict[str, Any]:
    classes = experiment.classes
    return {
        "name": name,
        "seed": experiment.config.seed,
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "best": recorder.best,
        "last": recorder.last,
        "steps": recorder.steps,
        "seconds": recorder.seconds,
        "seconds_per_step": (recorder.seconds - recorder.validation_seconds) / recorder.steps,
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
    }
