"""From a checked configuration to the parts of a run. Everything that can be wrong is found here, before training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evenseg.config import Config, ConfigError, DatasetSection, check_keywords, construct, join_path, look_up, unknown_name
from evenseg.data import (
    DATASETS,
    SAMPLERS,
    TRANSFORMS,
    Classes,
    DataFacts,
    PairSampler,
    Pipeline,
    SegmentationDataset,
    check_data,
    known_classes,
)
from evenseg.engine.optim import OPTIMIZERS, SCHEDULES, Schedule
from evenseg.engine.parameters import freeze, parameter_groups
from evenseg.engine.placement import num_processes
from evenseg.models import (
    MODELS,
    FittingReport,
    OwnModel,
    load_fitting,
    more_parameters,
    read_weights,
    without_pretrained,
)


@dataclass(frozen=True)
class Data:
    """A data set with the transforms of its samples."""

    dataset: SegmentationDataset
    pipeline: Pipeline


@dataclass(frozen=True)
class Experiment:
    """The parts of one run. Model and loss are built on demand, so that the seed can be set first."""

    config: Config
    train: Data
    val: Data
    sampler: PairSampler

    @property
    def classes(self) -> Classes:
        return self.train.dataset.classes

    def build_model(self, *, pretrained: bool = True) -> nn.Module:
        return build_model(self.config, self.classes, pretrained=pretrained)

    def build_loss(self, *, sync: bool | None = None) -> nn.Module:
        assert self.config.loss is not None
        return build_loss(self.config, self.config.loss, "loss", self.classes, sync=sync)


def resolve(config: Config, *, fresh: bool = True) -> Experiment:
    """Checks a configuration to the end and reads every mask once.

    First everything that can be told without data (see `cross_check`), then the lists of files, the masks last.

    Args:
        config: to be checked.
        fresh: whether a run is to start from the weights that the configuration names; if not, they need not be there.

    Raises:
        ConfigError: whatever is wrong, naming the file and the key path.
    """
    with naming_the_file(config):
        known = cross_check(config)
        train = build_data(config.train_dataset, "train_dataset")
        val = build_data(config.val_dataset, "val_dataset")
        classes = train.dataset.classes
        _check_same_classes(val.dataset.classes, classes, "val_dataset")
        model = known.model if known.model is not None and classes == known.classes else check_fit(config, classes)
        _check_channels(config, train, val)
        if fresh:
            _check_first_weights(config, classes, model)
        with _as_config_error("train_dataset"):
            facts = check_data(train.dataset, config.on_unreadable)
        with _as_config_error("val_dataset"):
            check_data(val.dataset, config.on_unreadable)
        fixed = {"RandomCrop", "Resize"} & {transform.type for transform in config.train_dataset.transforms}
        if config.batch_size > 1 and len(facts.sizes) > 1 and not fixed:
            raise ConfigError(
                f"the images have {len(facts.sizes)} different sizes, so batch_size {config.batch_size} needs a "
                "RandomCrop or a Resize",
                key_path="train_dataset.transforms",
            )
        return Experiment(config, train, val, build_sampler(config, facts))


def loss_sections(config: Config) -> dict[str, dict[str, Any]]:
    """Returns key path -> loss section, one or many."""
    if config.loss is not None:
        return {"loss": config.loss}
    return {f"losses.{name}": section for name, section in (config.losses or {}).items()}


def check_signatures(config: Config) -> None:
    """Checks every type and keyword and the number of losses, without reading data."""
    with naming_the_file(config):
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            section = getattr(config, name)
            if section is not None:
                _check_dataset(section, name)
        _check_sampler(config)
        model, _ = _check_model(config)
        build_optimizer(config, [nn.Parameter(torch.zeros(1))])
        build_schedule(config)
        for path, loss in loss_sections(config).items():
            build_loss(config, loss, path, None)
            if hasattr(model, "num_outputs"):
                _check_counts(config, loss, path, int(model.num_outputs))
        if config.loggers:
            from evenseg.engine.loggers import check_loggers

            check_loggers(config)
        _check_device(config)


def _check_device(config: Config) -> None:
    processes = num_processes(config)
    if config.batch_size % (processes * config.accumulate):
        raise ConfigError(
            f"{config.batch_size} does not divide evenly among {processes} processes x {config.accumulate} micro-batches",
            key_path="batch_size",
        )
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    if config.device == "cuda" and not gpus:
        raise ConfigError("'cuda' is asked for but torch sees no GPU here; use auto or cpu", key_path="device")
    if config.precision == "fp16" and not gpus:
        raise ConfigError("fp16 needs a GPU; on a CPU bf16 is the half precision to use", key_path="precision")
    if config.sync_batchnorm and not gpus:
        raise ConfigError("torch.nn.SyncBatchNorm needs GPUs", key_path="sync_batchnorm")
    if gpus and config.devices > gpus:
        raise ConfigError(f"is {config.devices}, but torch sees {gpus} GPU{'s' if gpus > 1 else ''} here", key_path="devices")


@dataclass(frozen=True)
class Fit:
    """What a configuration's parts are, as far as it can be told without data.

    Attributes:
        classes: of the data; None where only the data set's folder, which is not there, could tell.
        model: the network, with random weights; None without classes.
    """

    classes: Classes | None
    model: nn.Module | None


def cross_check(config: Config) -> Fit:
    """Holds the parts of a configuration against each other without reading data, only a classes.json if there is one.

    Classes of the data sets, of the model and of the losses' weights; outputs of the model against the losses; crop against
    stride; ignored labels; a trial of every loss on made-up logits.

    Raises:
        ConfigError: whatever does not fit, naming the file and the key path.
    """
    with naming_the_file(config):
        check_signatures(config)
        classes: Classes | None = None
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            section = getattr(config, name)
            if section is None:
                continue
            kind = look_up(DATASETS, section, "data set", name, SegmentationDataset)
            with _as_config_error(name):
                found = known_classes(kind, section.keywords)
            if name == "train_dataset":
                classes = found
            elif classes is not None and found is not None:
                _check_same_classes(found, classes, name)
        return Fit(classes, None if classes is None else check_fit(config, classes))


def check_fit(config: Config, classes: Classes) -> nn.Module:
    """Holds model, losses and transforms against the classes and each other; returns the model."""
    model = build_model(config, classes, pretrained=False)
    for path, section in loss_sections(config).items():
        loss = build_loss(config, section, path, classes)
        _check_counts(config, section, path, int(model.num_outputs))  # type: ignore[arg-type]
        _check_ignored(section, path, classes)
        _try_loss(loss, model, classes, path)
    _check_crop(config, int(model.stride), classes)  # type: ignore[arg-type]
    for index, name in enumerate(config.sampler.keywords.get("classes") or ()):
        if name not in classes.names:
            raise ConfigError(unknown_name("class", name, classes.names), key_path=join_path("sampler.classes", index))
    freeze(model, config.freeze)
    build_optimizer(config, parameter_groups(config, model.named_parameters()))
    return model


def build_data(section: DatasetSection, key_path: str) -> Data:
    """Builds a data set (listing its files) and its transforms."""
    kind = look_up(DATASETS, section, "data set", key_path, SegmentationDataset)
    with _as_config_error(key_path):
        dataset = kind(**check_keywords(kind, section.keywords, key_path=key_path))
    pipeline = build_pipeline(section, key_path, dataset.classes)
    with _as_config_error(join_path(key_path, "transforms")):
        pipeline.check_channels(dataset.channels)
    return Data(dataset, pipeline)


def build_pipeline(section: DatasetSection, key_path: str, classes: Classes) -> Pipeline:
    """Builds the transforms of a data set's samples."""
    transforms = []
    for index, transform in enumerate(section.transforms):
        path = join_path(key_path, "transforms", index)
        cls = look_up(TRANSFORMS, transform, "transform", path)
        keywords = check_keywords(cls, transform.keywords, key_path=path)
        if cls is TRANSFORMS["RandomCrop"]:
            keywords.setdefault("ignore_index", classes.ignore_index)
        transforms.append(construct(cls, keywords, key_path=path))
    return Pipeline(transforms)


def build_sampler(config: Config, facts: DataFacts) -> PairSampler:
    """Builds the sampler over the pairs of the training set."""
    kind, keywords = _check_sampler(config)
    with _as_config_error("sampler"):
        return kind(len(facts.class_counts), config.seed, facts, **keywords)


def build_model(config: Config, classes: Classes, *, pretrained: bool = True) -> nn.Module:
    """Builds the network with as many classes as the data has, and as many channels as the images.

    Args:
        config: with the model's section.
        classes: of the data set.
        pretrained: whether to load the pretrained weights that the section names; not, where all weights are loaded
            from a run folder.
    """
    kind, keywords = _check_model(config)
    ours = config.model.type in MODELS
    parameters = inspect.signature(kind).parameters
    if ours or "num_classes" in parameters:
        given = keywords.setdefault("num_classes", classes.num_classes)
        if given != classes.num_classes:
            raise ConfigError(
                f"is {given}, but the data set has {classes.num_classes} ({', '.join(classes.names)}); leave it out",
                key_path="model.num_classes",
            )
    channels = _image_channels(config)
    if "in_channels" in parameters:
        channels = keywords.setdefault("in_channels", channels)
    with _as_config_error("model"):
        model: nn.Module = kind(**keywords if pretrained else without_pretrained(kind, keywords))
        return model if ours else OwnModel(model, channels)


def load_init_weights(config: Config, model: nn.Module) -> FittingReport | None:
    """Loads what fits of the weights at `init_weights`, and returns what was loaded and skipped.

    Raises:
        ConfigError: there are none, or they are those of another network.
    """
    if config.init_weights is None:
        return None
    with naming_the_file(config), _as_config_error("init_weights"):
        return load_fitting(model, read_weights(config.init_weights), config.init_weights)


def build_loss(
    config: Config, section: Mapping[str, Any], key_path: str, classes: Classes | None, *, sync: bool | None = None
) -> nn.Module:
    """Builds a loss section; without classes only names and keywords are checked."""
    import evenseg

    known: dict[str, Any] = {"sync": sync}
    if classes is not None:
        known |= {"num_classes": classes.num_classes, "ignore_index": classes.ignore_index}
    with naming_the_file(config), _as_config_error(key_path):
        return evenseg.build_loss(section, path=key_path, **known)


def build_optimizer(config: Config, parameters: Any) -> torch.optim.Optimizer:
    kind = look_up(OPTIMIZERS, config.optimizer, "optimizer", "optimizer", torch.optim.Optimizer)
    keywords = check_keywords(kind, config.optimizer.keywords, key_path="optimizer", filled={"params"})
    optimizer: torch.optim.Optimizer = construct(kind, keywords, parameters, key_path="optimizer")
    return optimizer


def build_schedule(config: Config) -> Schedule:
    kind = look_up(SCHEDULES, config.lr_scheduler, "schedule", "lr_scheduler", Schedule)
    keywords = check_keywords(kind, config.lr_scheduler.keywords, key_path="lr_scheduler")
    schedule: Schedule = construct(kind, keywords, key_path="lr_scheduler")
    return schedule


@contextmanager
def naming_the_file(config: Config) -> Iterator[None]:
    """Adds the configuration's file to a ConfigError that names none."""
    try:
        yield
    except ConfigError as error:
        raise config.locate(error) from error


@contextmanager
def _as_config_error(key_path: str) -> Iterator[None]:
    """Gives errors of constructors and checks a key path; the losses' own errors bring theirs."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        own = getattr(error, "key_path", None)
        message = " ".join(str(error).split())
        if own:
            message = message.removeprefix(f"{own}: ")
        raise ConfigError(message, key_path=own or key_path) from error


def _check_dataset(section: DatasetSection, key_path: str) -> None:
    kind = look_up(DATASETS, section, "data set", key_path, SegmentationDataset)
    check_keywords(kind, section.keywords, key_path=key_path)
    names = [transform.type for transform in section.transforms]
    for index, transform in enumerate(section.transforms):
        path = join_path(key_path, "transforms", index)
        cls = look_up(TRANSFORMS, transform, "transform", path)
        construct(cls, check_keywords(cls, transform.keywords, key_path=path), key_path=path)
        if key_path != "train_dataset" and transform.type != "Normalize":
            raise ConfigError(
                f"{transform.type} is for training; evaluation is at full image size and takes Normalize only",
                key_path=path,
            )
    if "Normalize" in names[:-1]:
        raise ConfigError(
            "Normalize must come last", key_path=join_path(key_path, "transforms", names.index("Normalize"))
        )


def _check_sampler(config: Config) -> tuple[type[PairSampler], dict[str, Any]]:
    """Returns the class that the sampler section names, and its keywords, checked."""
    kind = look_up(SAMPLERS, config.sampler, "sampler", "sampler", PairSampler)
    filled = {"length", "seed", "facts"}
    keywords = check_keywords(kind, config.sampler.keywords, key_path="sampler", filled=filled)
    transforms = [look_up(TRANSFORMS, section, "transform", "") for section in config.train_dataset.transforms]
    if kind.needs_crop and not any(getattr(transform, "takes_aim", False) for transform in transforms):
        raise ConfigError(
            f"{config.sampler.type} places crops, but train_dataset.transforms has no RandomCrop", key_path="sampler.type"
        )
    return kind, keywords


def _check_model(config: Config) -> tuple[Any, dict[str, Any]]:
    """Returns the class that the model section names, and its keywords, checked."""
    section = config.model
    kind = look_up(MODELS, section, "model", "model")
    more = more_parameters(section.type, section.keywords) if section.type in MODELS else None
    return kind, check_keywords(kind, section.keywords, key_path="model", injected={"num_classes"}, more=more)


def _image_channels(config: Config) -> int:
    """Returns the number of channels that the configuration says the images have."""
    return int(config.train_dataset.keywords.get("channels", 3))


def _check_channels(config: Config, train: Data, val: Data) -> None:
    """Holds the channels of the images against those that the model takes."""
    kind, keywords = _check_model(config)
    taken = keywords.get("in_channels", _image_channels(config))
    if "in_channels" in inspect.signature(kind).parameters and taken != train.dataset.channels:
        raise ConfigError(
            f"is {taken}, but the images of train_dataset have {train.dataset.channels} channels",
            key_path="model.in_channels",
        )
    if val.dataset.channels != train.dataset.channels:
        raise ConfigError(
            f"its images have {val.dataset.channels} channels, those of train_dataset {train.dataset.channels}",
            key_path="val_dataset",
        )


def _check_first_weights(config: Config, classes: Classes, model: nn.Module) -> None:
    """Loads the weights that a run is to start from, into `model` where no network has to be built for it."""
    kind, keywords = _check_model(config)
    if without_pretrained(kind, keywords) != keywords:
        model = build_model(config, classes)
    load_init_weights(config, model)


def _check_outputs(section: Mapping[str, Any], key_path: str, model: str, num_outputs: int) -> None:
    types, coef = section.get("types"), section.get("coef")
    outputs = f"the model {model} has {num_outputs} output" + ("s" if num_outputs != 1 else "")
    if isinstance(types, list) and len(types) not in (1, num_outputs):
        raise ConfigError(
            f"{len(types)} entries, but {outputs}; give one per output, or a single one for all",
            key_path=join_path(key_path, "types"),
        )
    if isinstance(coef, list) and len(coef) != num_outputs:
        raise ConfigError(
            f"{len(coef)} weights, but {outputs}; give one per output", key_path=join_path(key_path, "coef")
        )


def _check_counts(config: Config, section: Mapping[str, Any], key_path: str, num_outputs: int) -> None:
    """Holds every phase of a loss section against the number of outputs and the length of the run."""
    _check_outputs(section, key_path, config.model.type, num_outputs)
    for index, phase in enumerate(section.get("phases") or ()):
        path = join_path(key_path, "phases", index)
        _check_outputs(phase, path, config.model.type, num_outputs)
        if phase["start"] >= config.iters:
            raise ConfigError(
                f"is {phase['start']}, but the run ends after {config.iters} steps (iters)",
                key_path=join_path(path, "start"),
            )


def _check_same_classes(given: Classes, train: Classes, key_path: str) -> None:
    if given.names != train.names or given.ignore_index != train.ignore_index:
        raise ConfigError(
            f"its classes {list(given.names)} (ignore {given.ignore_index}) are not those of train_dataset, "
            f"{list(train.names)} (ignore {train.ignore_index})",
            key_path=key_path,
        )


def _check_ignored(section: Any, key_path: str, classes: Classes) -> None:
    """Goes through a loss section for ignored labels that are not those of the data."""
    if isinstance(section, Mapping):
        if section.get("ignore_index", classes.ignore_index) != classes.ignore_index:
            raise ConfigError(
                f"is {section['ignore_index']}, but train_dataset marks ignored pixels with {classes.ignore_index}; leave it "
                "out, and ignore further labels with the data sets' label_map, like {0: ignore}",
                key_path=join_path(key_path, "ignore_index"),
            )
        for key, value in section.items():
            _check_ignored(value, join_path(key_path, str(key)), classes)
    elif isinstance(section, list):
        for index, value in enumerate(section):
            _check_ignored(value, join_path(key_path, index), classes)


def _check_crop(config: Config, stride: int, classes: Classes) -> None:
    window = config.evaluation.window
    if window is not None and min(window) < stride:
        raise ConfigError(
            f"{list(window)} is smaller than the {stride} pixels that one cell of {config.model.type}'s deepest features covers",
            key_path="evaluation.window",
        )
    for index, transform in enumerate(config.train_dataset.transforms):
        ignored = transform.keywords.get("ignore_index", classes.ignore_index)
        if transform.type in TRANSFORMS and ignored != classes.ignore_index:
            raise ConfigError(
                f"is {ignored}, but train_dataset marks ignored pixels with {classes.ignore_index}; leave it out",
                key_path=join_path("train_dataset.transforms", index, "ignore_index"),
            )
        size = transform.keywords.get("size")
        if transform.type in ("RandomCrop", "Resize") and size is not None and min(size) < stride:
            raise ConfigError(
                f"{list(size)} is smaller than the {stride} pixels that one cell of {config.model.type}'s deepest "
                "features covers",
                key_path=join_path("train_dataset.transforms", index, "size"),
            )


def _try_loss(loss: nn.Module, model: Any, classes: Classes, key_path: str) -> None:
    """Calls the loss once on made-up logits, so that a loss that cannot take them is found before training."""
    outputs = [torch.linspace(-1, 1, 2 * classes.num_classes * 64).view(2, -1, 8, 8) for _ in range(model.num_outputs)]
    target = (torch.arange(128).view(2, 8, 8) % classes.num_classes).to(torch.uint8 if classes.ignore_index < 256 else torch.int32)
    target[:, 0] = classes.ignore_index
    if any(getattr(module, "keep", None) == "accumulate" for module in loss.modules()):
        raise ConfigError(
            "memory: accumulate sums up until reset() is called, which this trainer never does; use a decay such as 0.9, or "
            "for micro-batches the top-level key accumulate",
            key_path=key_path,
        )
    with _as_config_error(key_path), torch.no_grad():
        for start in getattr(loss, "starts", (None,)):
            if start is not None:
                loss.set_step(start)  # type: ignore[operator]
            loss(outputs, target)
