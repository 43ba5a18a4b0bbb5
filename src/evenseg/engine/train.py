"""One training run: configuration in, run folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from evenseg._paths import check_run_folder
from evenseg.config import Config, ConfigError
from evenseg.data import EvaluationSamples, TrainingSamples
from evenseg.engine.build import load_init_weights
from evenseg.engine.checkpoints import latest_checkpoint, list_checkpoints, step_of
from evenseg.engine.class_weights import RULES, named_rules
from evenseg.engine.early_stop import Patience
from evenseg.engine.files import naming_full_disks, write_json
from evenseg.engine.identity import Identity
from evenseg.engine.inference import Predictor
from evenseg.engine.lock import run_lock
from evenseg.engine.loggers import build_loggers
from evenseg.engine.measure import ImageMeter
from evenseg.engine.memory import PeakMemory
from evenseg.engine.module import SegmentationModule
from evenseg.engine.out_of_memory import less_for_training, naming_lack_of_memory
from evenseg.engine.overlays import write_overlays
from evenseg.engine.placement import is_first_process, num_processes
from evenseg.engine.progress import StepProgress
from evenseg.engine.recorder import Recorder
from evenseg.engine.resolve import Experiment, resolve
from evenseg.engine.run_folder import RunFolder, check_free, is_finished, is_resumable, load_run_config
from evenseg.engine.trainer import (
    ImageByImage,
    ResumedBatches,
    make_fitting_trainer,
    make_loader,
    quiet,
    seed_everything,
)
from evenseg.engine.unreadable import UnreadableImages, clear_data_errors
from evenseg.losses import PRESETS
from evenseg.models import check_weights


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
    if is_first_process():
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
    # before anything is said or written; a finished run would otherwise seem to have taken the change
    Identity(config).check(Identity(load_run_config(path)).as_dict())
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
    # of several processes one stands for the run
    with run_lock(path, tidy=True) if is_first_process() else nullcontext():
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
    first = is_first_process()
    progress = StepProgress(config.iters, title or name, silent=not first)
    memory = PeakMemory()
    memory.start()
    seed_everything(config.seed)
    # where a checkpoint is loaded, the weights that the run began with may be gone
    fresh = not list_checkpoints(folder.checkpoints) if going_on else True
    model = experiment.build_model(pretrained=fresh)
    fitted = load_init_weights(config, model) if fresh else None
    loss = experiment.build_loss(sync=num_processes(config) > 1 or None)
    module = SegmentationModule(model, classes, loss, config, ImageMeter(classes, config.evaluation))
    whole_images = EvaluationSamples(experiment.val.dataset, experiment.val.pipeline, config.on_unreadable)
    unreadable = UnreadableImages(path, title or name)
    with naming_full_disks(path):
        checkpoint = latest_checkpoint(folder.checkpoints, progress.say) if going_on else None
        first_step = step_of(checkpoint) if checkpoint else 0
        if going_on:
            progress.say(f"going on from step {first_step} of {config.iters}")
        if first:
            _prepare(folder, config, first_step if going_on else None, overwrite=overwrite)
        if fitted is not None:
            progress.say(f"init_weights: {fitted}")
            if first:
                write_json(path / "init_weights.json", fitted.to_dict())
        recorder = _recorder(config, folder, progress)
        try:
            recorder.loggers = build_loggers(config, path, name, first_step) if first else []
            # again: building a loss may draw random numbers, and runs of one seed must differ by the loss alone
            seed_everything(config.seed)
            memory_error = naming_lack_of_memory(lambda: less_for_training(config, path, recorder.steps))
            with quiet(), clear_data_errors(), memory_error:
                _fit(experiment, module, recorder, [unreadable, *callbacks], whole_images, checkpoint, first_step)
        except BaseException as error:
            if recorder.steps == 0 and first and not going_on:
                folder.remove()
            if first and isinstance(error, SystemExit | KeyboardInterrupt) and is_resumable(path):
                progress.say(f"broken off at step {recorder.steps}; `evenseg train --resume {path}` goes on")
            if isinstance(error, SystemExit):
                # what Lightning makes of Ctrl+C
                raise KeyboardInterrupt from error
            raise
        if first:
            peak_memory = memory.read()
            load_best(model, path)
            write_overlays(path / "overlays", Predictor(model, config.evaluation), whole_images)
            summary = _summary(experiment, recorder, name, module)
            summary |= {"peak_memory": peak_memory, "unreadable": len(unreadable.counts)}
            if rules := named_rules(config.loss):
                summary["class_weights"] = {rule: RULES[rule](experiment.class_counts) for rule in sorted(rules)}
            write_json(path / "summary.json", summary)
    return path


def _prepare(folder: RunFolder, config: Config, first_step: int | None, *, overwrite: bool) -> None:
    """Makes the run folder, or readies that of a run which goes on from `first_step`."""
    if first_step is None:
        folder.create(config, overwrite=overwrite)
    else:
        folder.reopen(first_step)


def _recorder(config: Config, folder: RunFolder, progress: StepProgress) -> Recorder:
    return Recorder(
        folder,
        progress,
        iters=config.iters,
        log_interval=config.log_interval,
        eval_interval=min(config.evaluate_every, config.iters),
        checkpoint_interval=config.checkpoint_interval,
    )


def _fit(
    experiment: Experiment,
    module: SegmentationModule,
    recorder: Recorder,
    callbacks: Sequence[Any],
    whole_images: EvaluationSamples,
    checkpoint: Path | None,
    first_step: int,
) -> None:
    config = experiment.config
    # early stopping first: its state belongs into the checkpoint that follows the evaluation
    early_stop = [] if config.early_stop is None else [Patience(config.early_stop)]
    trainer = make_fitting_trainer(config, list(recorder.loggers), [*early_stop, recorder, *callbacks])
    samples = TrainingSamples(
        experiment.train.dataset,
        experiment.train.pipeline,
        config.iters * config.batch_size,
        config.seed,
        experiment.sampler,
        config.on_unreadable,
    )
    place = (trainer.global_rank, trainer.world_size)
    trainer.fit(
        module,
        make_loader(samples, ResumedBatches(config.iters, config.batch_size, *place, first_step), config.num_workers),
        make_loader(whole_images, ImageByImage(len(whole_images), *place), config.num_workers),
        ckpt_path=checkpoint,
        weights_only=True,
    )


def load_best(model: Any, path: Path) -> None:
    """Loads the weights of the best evaluation of a run folder into its model.

    Raises:
        FileNotFoundError: there are none yet.
        ValueError: they are damaged or of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_run_folder(path, weights=True)
    file = path / "checkpoints" / "best.safetensors"
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
    return "+".join(_short(str(part["type"])) for part in parts)


def _short(loss: str) -> str:
    """Returns the name of a loss without the path of its module; a preset's name is whole."""
    return loss if loss in PRESETS else loss.rpartition(".")[2].removesuffix("Loss")


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
        "stopped_early": recorder.stopped_early,
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
    }
