"""One training run: configuration in, run folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg.config import Config, ConfigError
from evenseg.data import EvaluationSamples, TrainingSamples
from evenseg.engine.checkpoints import latest_checkpoint, list_checkpoints, step_of
from evenseg.engine.files import naming_full_disks, write_json
from evenseg.engine.identity import Identity
from evenseg.engine.inference import Predictor
from evenseg.engine.lock import run_lock
from evenseg.engine.measure import ImageMeter
from evenseg.engine.module import SegmentationModule
from evenseg.engine.overlays import write_overlays
from evenseg.engine.progress import StepProgress
from evenseg.engine.recorder import Recorder
from evenseg.engine.resolve import Experiment, build_optimizer, build_schedule, load_init_weights, resolve
from evenseg.engine.run_folder import RunFolder, check_free, is_finished, load_run_config
from evenseg.engine.trainer import ImageByImage, ResumedBatches, make_loader, make_trainer, quiet, seed_everything
from evenseg.engine.unreadable import UnreadableImages, clear_data_errors
from evenseg.engine.weights import check_weights


def train(config: Config, output: str | Path, *, overwrite: bool = False, title: str | None = None) -> Path:
    """Trains one configuration and returns its run folder, which is made only after every check has passed.

    Args:
        config: with one `loss`.
        output: the run folder.
        overwrite: replace a finished run.
        title: shown beside the progress bar; the loss's name by default.

    Raises:
        ConfigError: the configuration or the data cannot be used.
        RunBusyError: another process is training into `output`.
        ValueError: `output` is taken, or the loss stopped being finite.
    """
    if config.loss is None:
        raise ConfigError("choose one of the losses to train", key_path="losses", file=config.source)
    path = Path(output)
    check_free(path, overwrite=overwrite)
    return run(resolve(config), path, overwrite=overwrite, title=title)


def resume(path: str | Path, overrides: Sequence[str] = (), *, title: str | None = None) -> Path:
    """Goes on with a run that was broken off, from its newest sound checkpoint; a finished run is left as it is.

    The run ends with the weights and the metrics.jsonl of an uninterrupted one, to the last bit on the same machine.

    Args:
        path: the run folder.
        overrides: changes to what does not decide the numbers: `num_workers`, `device`, `train_dataset.root`.
        title: shown beside the progress bar.

    Raises:
        FileNotFoundError: `path` is no run folder.
        ConfigError: its configuration cannot be used, or is not that of the checkpoint.
        ValueError: all checkpoints are damaged, or rows of metrics.jsonl are missing.
    """
    path = Path(path)
    config = load_run_config(path, overrides)
    if is_finished(path):
        return path
    fresh = not list_checkpoints(RunFolder(path).checkpoints)
    return run(resolve(config, fresh=fresh), path, title=title, going_on=True)


def run(
    experiment: Experiment,
    path: Path,
    *,
    overwrite: bool = False,
    title: str | None = None,
    going_on: bool = False,
    callbacks: Sequence[Any] = (),
) -> Path:
    """Trains a resolved experiment; see `train`, and with `going_on` see `resume`.

    Args:
        experiment: checked, with one `loss`.
        path: the run folder; its lock is held meanwhile.
        overwrite: replace a finished run.
        title: shown beside the progress bar.
        going_on: from the newest checkpoint in the folder.
        callbacks: further Lightning callbacks, called after the one that records the metrics.
    """
    with run_lock(path, tidy=True):
        return _run(experiment, path, overwrite, title, going_on, callbacks)


def _run(
    experiment: Experiment,
    path: Path,
    overwrite: bool,
    title: str | None,
    going_on: bool,
    callbacks: Sequence[Any],
) -> Path:
    config, classes = experiment.config, experiment.classes
    assert config.loss is not None
    name = loss_name(config)
    folder = RunFolder(path)
    progress = StepProgress(config.iters, title or name)
    seed_everything(config.seed)
    # where a checkpoint is loaded, the weights that the run began with may be gone
    fresh = not list_checkpoints(folder.checkpoints) if going_on else True
    model = experiment.build_model(pretrained=fresh)
    fitted = load_init_weights(config, model) if fresh else None
    module = SegmentationModule(
        model,
        classes,
        experiment.build_loss(),
        lambda parameters: build_optimizer(config, parameters),
        build_schedule(config),
        config.iters,
        config.seed,
        Identity(config),
        ImageMeter(classes, config.evaluation),
    )
    eval_interval = min(config.evaluate_every, config.iters)
    recorder = Recorder(
        folder,
        progress,
        iters=config.iters,
        log_interval=config.log_interval,
        eval_interval=eval_interval,
        checkpoint_interval=config.checkpoint_interval,
    )
    samples = TrainingSamples(
        experiment.train.dataset,
        experiment.train.pipeline,
        config.iters * config.batch_size,
        config.seed,
        experiment.sampler,
        config.on_unreadable,
    )
    whole_images = EvaluationSamples(experiment.val.dataset, experiment.val.pipeline, config.on_unreadable)
    unreadable = UnreadableImages(path, title or name)
    with naming_full_disks(path):
        checkpoint = latest_checkpoint(folder.checkpoints, progress.say) if going_on else None
        first_step = step_of(checkpoint) if checkpoint else 0
        if going_on:
            folder.reopen(first_step)
            progress.say(f"going on from step {first_step} of {config.iters}")
        else:
            folder.create(config, overwrite=overwrite)
        if fitted is not None:
            progress.say(f"init_weights: {fitted}")
            write_json(path / "init_weights.json", fitted.to_dict())
        try:
            # again: building a loss may draw random numbers, and runs of one seed must differ by the loss alone
            seed_everything(config.seed)
            with quiet(), clear_data_errors():
                trainer = make_trainer(
                    config,
                    max_steps=config.iters,
                    val_check_interval=eval_interval,
                    callbacks=[recorder, unreadable, *callbacks],
                )
                trainer.fit(
                    module,
                    make_loader(
                        samples,
                        ResumedBatches(config.iters, config.batch_size, first_step=first_step),
                        config.num_workers,
                    ),
                    make_loader(whole_images, ImageByImage(len(whole_images)), config.num_workers),
                    ckpt_path=checkpoint,
                    weights_only=True,
                )
        except BaseException as error:
            if recorder.steps == 0 and not going_on:
                folder.remove()
            if isinstance(error, SystemExit):
                # what Lightning makes of Ctrl+C
                raise KeyboardInterrupt from error
            raise
        load_best(model, path)
        write_overlays(path / "overlays", Predictor(model, config.evaluation), whole_images)
        summary = _summary(experiment, recorder, name, module) | {"unreadable": len(unreadable.counts)}
        write_json(path / "summary.json", summary)
    return path


def load_best(model: Any, path: Path) -> None:
    """Loads the weights of the best evaluation of a run folder into its model.

    Raises:
        FileNotFoundError: there are none yet.
        ValueError: they are damaged or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / "checkpoints" / "best.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"{path} has no checkpoints/best.safetensors: the run was never evaluated")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    check_weights(weights, model, file)
    model.load_state_dict(weights)


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
