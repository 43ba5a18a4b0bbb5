"""From the sections of a configuration to the parts that they name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evenseg._collect import one_by_one
from evenseg.config import Config, ConfigError, DatasetSection, Section, check_keywords, construct, join_path, listed, look_up
from evenseg.data import (
    DATASETS,
    SAMPLERS,
    TRANSFORMS,
    Classes,
    DataFacts,
    PairSampler,
    Pipeline,
    SegmentationDataset,
)
from evenseg.engine.class_weights import with_class_weights
from evenseg.engine.kept_files import with_kept_files
from evenseg.engine.optim import OPTIMIZERS, SCHEDULES, Schedule
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


def build_data(section: DatasetSection, key_path: str) -> Data:
    """Builds a data set (listing its files) and its transforms."""
    kind = look_up(DATASETS, section, "data set", key_path, SegmentationDataset)
    root = section.keywords.get("root")
    if isinstance(root, str) and not Path(root).is_dir():
        message = f"the data set folder {root} does not exist (looked in {Path.cwd()}); --set {key_path}.root=FOLDER names another"
        raise ConfigError(message, key_path=key_path)
    with as_config_error(key_path):
        dataset = kind(**check_keywords(kind, section.keywords, key_path=key_path))
    pipeline = build_pipeline(section, key_path, dataset.classes)
    with as_config_error(join_path(key_path, "transforms")):
        pipeline.check_channels(dataset.channels)
        if dataset.has_weights:
            pipeline.check_maps()
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
    kind, keywords = sampler_section(config)
    with as_config_error("sampler"):
        return kind(len(facts.class_counts), config.seed, facts, **keywords)


def build_model(config: Config, classes: Classes, *, pretrained: bool = True) -> nn.Module:
    """Builds the network with as many classes as the data has, and as many channels as the images.

    Args:
        config: with the model's section.
        classes: of the data set.
        pretrained: whether to load the pretrained weights that the section names; not, where all weights are loaded
            from a run folder.
    """
    kind, keywords = model_section(config)
    ours = config.model.type in MODELS
    parameters = inspect.signature(kind).parameters
    if ours or "num_classes" in parameters:
        given = keywords.setdefault("num_classes", classes.num_classes)
        if given != classes.num_classes:
            raise ConfigError(
                f"is {given}, but the data set has {classes.num_classes} ({listed(classes.names)}); leave it out",
                key_path="model.num_classes",
            )
    channels = image_channels(config)
    if "in_channels" in parameters:
        channels = keywords.setdefault("in_channels", channels)
    with as_config_error("model"):
        model: nn.Module = kind(**keywords if pretrained else without_pretrained(kind, keywords))
        return model if ours else OwnModel(model, channels)


def load_init_weights(config: Config, model: nn.Module) -> FittingReport | None:
    """Loads what fits of the weights at `init_weights`, and returns what was loaded and skipped.

    Raises:
        ConfigError: there are none, or they are those of another network.
    """
    if config.init_weights is None:
        return None
    with naming_the_file(config), as_config_error("init_weights"):
        return load_fitting(model, read_weights(config.init_weights), config.init_weights)


def build_loss(
    config: Config,
    section: Mapping[str, Any],
    key_path: str,
    classes: Classes | None,
    *,
    sync: bool | None = None,
    class_counts: NDArray[np.int64] | None = None,
) -> nn.Module:
    """Builds a loss section; without classes only names and keywords are checked.

    Class weights that are given by a rule are those of `class_counts`, see `with_class_weights`.
    """
    import evenseg

    known: dict[str, Any] = {"sync": sync, "iters": config.iters}
    if classes is not None:
        known |= {"num_classes": classes.num_classes, "ignore_index": classes.ignore_index}
    with naming_the_file(config), as_config_error(key_path):
        weighted = with_class_weights(section, key_path, 1 if classes is None else classes.num_classes, class_counts)
        return evenseg.build_loss(with_kept_files(config, weighted), path=key_path, **known)


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
def as_config_error(key_path: str) -> Iterator[None]:
    """Gives errors of constructors and checks a key path; the losses' own errors bring theirs."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigError.together([_with_path(one, key_path) for one in one_by_one(error)]) from error


def _with_path(error: BaseException, key_path: str) -> ConfigError:
    own = getattr(error, "key_path", None)
    message = " ".join(str(error).split())
    if own:
        message = message.removeprefix(f"{own}: ")
    return ConfigError(message, key_path=own or key_path)


def sampler_section(config: Config) -> tuple[type[PairSampler], dict[str, Any]]:
    """Returns the class that the sampler section names, and its keywords, checked."""
    kind = look_up(SAMPLERS, config.sampler, "sampler", "sampler", PairSampler)
    filled = {"length", "seed", "facts"}
    keywords = check_keywords(kind, config.sampler.keywords, key_path="sampler", filled=filled)
    if kind.needs_crop and not any(_takes_aim(section) for section in config.train_dataset.transforms):
        raise ConfigError(
            f"{config.sampler.type} places crops, but train_dataset.transforms has no RandomCrop", key_path="sampler.type"
        )
    return kind, keywords


def _takes_aim(section: Section) -> bool:
    if section.type not in TRANSFORMS and "." not in section.type:
        return True  # a misspelt one, perhaps the crop; it is reported where it stands
    return bool(getattr(look_up(TRANSFORMS, section, "transform", ""), "takes_aim", False))


def model_section(config: Config) -> tuple[Any, dict[str, Any]]:
    """Returns the class that the model section names, and its keywords, checked."""
    section = config.model
    kind = look_up(MODELS, section, "model", "model")
    more = more_parameters(section.type, section.keywords) if section.type in MODELS else None
    return kind, check_keywords(kind, section.keywords, key_path="model", injected={"num_classes"}, more=more)


def image_channels(config: Config) -> int:
    """Returns the number of channels that the configuration says the images have."""
    return int(config.train_dataset.keywords.get("channels", 3))


def loss_sections(config: Config) -> dict[str, dict[str, Any]]:
    """Returns key path -> loss section, one or many."""
    if config.loss is not None:
        return {"loss": config.loss}
    return {f"losses.{name}": section for name, section in (config.losses or {}).items()}
