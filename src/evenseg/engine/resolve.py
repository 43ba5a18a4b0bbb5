"""From a checked configuration to the parts of a run. Everything that can be wrong is found here, before training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evenseg.config import Collector, Config, ConfigError
from evenseg.data import Classes, DataFacts, PairSampler, check_data
from evenseg.engine.build import (
    Data,
    as_config_error,
    build_data,
    build_loss,
    build_model,
    build_sampler,
    image_channels,
    load_init_weights,
    model_section,
    naming_the_file,
)
from evenseg.engine.checks import check_fit, check_same_classes, cross_check
from evenseg.models import without_pretrained


@dataclass(frozen=True)
class Experiment:
    """The parts of one run. Model and loss are built on demand, so that the seed can be set first.

    Attributes:
        config: of the run.
        train, val: the data sets.
        sampler: of the training pairs.
        class_counts: pixels of every class in every training mask, (masks, classes).
    """

    config: Config
    train: Data
    val: Data
    sampler: PairSampler
    class_counts: NDArray[np.int64]

    @property
    def classes(self) -> Classes:
        return self.train.dataset.classes

    def build_model(self, *, pretrained: bool = True) -> nn.Module:
        return build_model(self.config, self.classes, pretrained=pretrained)

    def build_loss(self, *, sync: bool | None = None) -> nn.Module:
        assert self.config.loss is not None
        return build_loss(self.config, self.config.loss, "loss", self.classes, sync=sync, class_counts=self.class_counts)


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
        data = _build_all(config)
        train, val = data["train_dataset"], data["val_dataset"]
        classes = train.dataset.classes
        model = known.model if known.model is not None and classes == known.classes else check_fit(config, classes)
        _check_channels(config, train, val)
        if fresh:
            _check_first_weights(config, classes, model)
        facts = check_all_data(config, data)["train_dataset"]
        fixed = {"RandomCrop", "Resize"} & {transform.type for transform in config.train_dataset.transforms}
        if config.batch_size > 1 and len(facts.sizes) > 1 and not fixed:
            raise ConfigError(
                f"the images have {len(facts.sizes)} different sizes, so batch_size {config.batch_size} needs a "
                "RandomCrop or a Resize",
                key_path="train_dataset.transforms",
            )
        return Experiment(config, train, val, build_sampler(config, facts), facts.class_counts)


def _build_all(config: Config) -> dict[str, Data]:
    """Builds all data sets, that for testing too: what is wrong with it must not come out after the training."""
    sections = {"train_dataset": config.train_dataset, "val_dataset": config.val_dataset}
    if config.test_dataset is not None:
        sections["test_dataset"] = config.test_dataset.model_copy(update={"transforms": config.val_dataset.transforms})
    data: dict[str, Data] = {}
    # by message: a root that is wrong mostly is that of all data sets, and is said once
    wrong: dict[str, list[ConfigError]] = {}
    for name, section in sections.items():
        try:
            data[name] = build_data(section, name)
        except ConfigError as error:
            for one in error.errors:
                wrong.setdefault(one.message.replace(name, ""), []).append(one)
    found = Collector(ConfigError)
    for first, *others in wrong.values():
        message = first.message
        if others:
            message += f" (so it is for {' and '.join(other.key_path for other in others)})"
        elif first.key_path.startswith("test_dataset"):
            message += "; --set test_dataset=null trains without it"
        found.add(ConfigError(message, key_path=first.key_path, file=first.file))
    found.finish()
    for name, built in list(data.items())[1:]:
        with found:
            check_same_classes(built.dataset.classes, data["train_dataset"].dataset.classes, name)
    found.finish()
    return data


def check_all_data(config: Config, data: Mapping[str, Data]) -> dict[str, DataFacts]:
    """Reads every mask of the data sets; the ConfigError names all findings in all of them, and what to type."""
    facts: dict[str, DataFacts] = {}
    found = Collector(ConfigError)
    for name, one in data.items():
        with found, as_config_error(name):
            facts[name] = check_data(one.dataset, config.on_unreadable, name)
    found.finish()
    return facts


def _check_channels(config: Config, train: Data, val: Data) -> None:
    """Holds the channels of the images against those that the model takes."""
    kind, keywords = model_section(config)
    taken = keywords.get("in_channels", image_channels(config))
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
    kind, keywords = model_section(config)
    if without_pretrained(kind, keywords) != keywords:
        model = build_model(config, classes)
    load_init_weights(config, model)
