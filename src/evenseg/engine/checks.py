"""Holding the parts of a configuration against each other, without reading data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from evenseg.config import (
    Collector,
    Config,
    ConfigError,
    DatasetSection,
    check_keywords,
    construct,
    is_below,
    join_path,
    listed,
    look_up,
    unknown_name,
)
from evenseg.data import DATASETS, TRANSFORMS, Classes, SegmentationDataset, known_classes
from evenseg.engine.build import (
    as_config_error,
    build_loss,
    build_model,
    build_optimizer,
    build_schedule,
    image_channels,
    loss_sections,
    model_section,
    naming_the_file,
    sampler_section,
)
from evenseg.engine.loss_inputs import KNOWN, padding_index
from evenseg.engine.parameters import freeze, parameter_groups
from evenseg.engine.placement import num_processes
from evenseg.models import feature_head


def check_signatures(config: Config) -> None:
    """Checks every type and keyword and the number of losses, without reading data; the ConfigError names all mistakes."""
    with naming_the_file(config):
        found = Collector(ConfigError)
        for name, section in _datasets(config):
            with found:
                _check_dataset(section, name)
        with found:
            sampler_section(config)
        model: Any = None
        with found:
            model, _ = model_section(config)
        with found:
            build_optimizer(config, [nn.Parameter(torch.zeros(1))])
        with found:
            build_schedule(config)
        for path, loss in loss_sections(config).items():
            with found:
                build_loss(config, loss, path, None)
                if hasattr(model, "num_outputs"):
                    _check_counts(config, loss, path, int(model.num_outputs))
        if config.loggers:
            from evenseg.engine.loggers import check_loggers

            with found:
                check_loggers(config)
        _check_device(config, found)
        found.finish()


def _check_device(config: Config, found: Collector) -> None:
    processes = num_processes(config)
    if config.batch_size % (processes * config.accumulate):
        message = f"{config.batch_size} does not divide evenly among {processes} processes x {config.accumulate} micro-batches"
        found.add(ConfigError(message, key_path="batch_size"))
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    if config.device == "cuda" and not gpus:
        found.add(ConfigError("'cuda' is asked for but torch sees no GPU here; use auto or cpu", key_path="device"))
    if config.precision == "fp16" and not gpus:
        found.add(ConfigError("fp16 needs a GPU; on a CPU bf16 is the half precision to use", key_path="precision"))
    if config.sync_batchnorm and not gpus:
        found.add(ConfigError("torch.nn.SyncBatchNorm needs GPUs", key_path="sync_batchnorm"))
    if gpus and config.devices > gpus:
        message = f"is {config.devices}, but torch sees {gpus} GPU{'s' if gpus > 1 else ''} here"
        found.add(ConfigError(message, key_path="devices"))


def _datasets(config: Config) -> list[tuple[str, DatasetSection]]:
    """Returns name and section of every data set."""
    sections = [(name, getattr(config, name)) for name in ("train_dataset", "val_dataset", "test_dataset")]
    return [(name, section) for name, section in sections if section is not None]


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
        ConfigError: whatever does not fit, all of it, naming the file and the key paths.
    """
    with naming_the_file(config):
        found = Collector(ConfigError)
        with found:
            check_signatures(config)
        classes, model = None, None
        # what is wrong by itself cannot be held against anything
        if not _wrong(found, "train_dataset"):
            classes = _known_classes(config, found)
        if classes is not None and not _wrong(found, "model"):
            with found:
                model = check_fit(config, classes, found)
        found.finish()
        return Fit(classes, model)


def _wrong(found: Collector, key_path: str) -> bool:
    return any(is_below(error.key_path, key_path) for error in found.errors)


def _known_classes(config: Config, found: Collector) -> Classes | None:
    """Returns the classes of the training data, where they are known, with those of the other data sets held against them."""
    classes: Classes | None = None
    for name, section in _datasets(config):
        if _wrong(found, name):
            continue
        with found:
            kind = look_up(DATASETS, section, "data set", name, SegmentationDataset)
            with as_config_error(name):
                known = known_classes(kind, section.keywords)
            if name == "train_dataset":
                classes = known
            elif classes is not None and known is not None:
                check_same_classes(known, classes, name)
    return classes


def check_fit(config: Config, classes: Classes, before: Collector | None = None) -> nn.Module:
    """Holds model, losses and transforms against the classes and each other; returns the model.

    Args:
        config: whose parts are right by themselves, but for those in `before`.
        classes: of the data.
        before: errors that were found already; what they concern is left out.
    """
    found = Collector(ConfigError)
    before = before or Collector(ConfigError)
    model = build_model(config, classes, pretrained=False)
    for path, section in loss_sections(config).items():
        if not _wrong(before, path):
            with found:
                loss = build_loss(config, section, path, classes)
                _check_counts(config, section, path, int(model.num_outputs))  # type: ignore[arg-type]
                _check_ignored(section, path, classes)
                _try_loss(loss, model, config, classes, path)
    if not _wrong(before, "train_dataset.transforms"):
        _check_crop(config, int(model.stride), classes, found)  # type: ignore[arg-type]
    if not _wrong(before, "sampler"):
        for index, name in enumerate(config.sampler.keywords.get("classes") or ()):
            if name not in classes.names:
                message = unknown_name("class", name, classes.names)
                found.add(ConfigError(message, key_path=join_path("sampler.classes", index)))
    with found:
        freeze(model, config.freeze)
        if not _wrong(before, "optimizer"):
            build_optimizer(config, parameter_groups(config, model.named_parameters()))
    found.finish()
    return model


def _check_dataset(section: DatasetSection, key_path: str) -> None:
    found = Collector(ConfigError)
    with found:
        kind = look_up(DATASETS, section, "data set", key_path, SegmentationDataset)
        check_keywords(kind, section.keywords, key_path=key_path)
    if key_path != "train_dataset" and section.keywords.get("weights") is not None:
        message = "is for training: evaluations count every pixel alike; leave it out"
        found.add(ConfigError(message, key_path=join_path(key_path, "weights")))
    names = [transform.type for transform in section.transforms]
    for index, transform in enumerate(section.transforms):
        path = join_path(key_path, "transforms", index)
        with found:
            cls = look_up(TRANSFORMS, transform, "transform", path)
            construct(cls, check_keywords(cls, transform.keywords, key_path=path), key_path=path)
            if key_path != "train_dataset" and transform.type != "Normalize":
                raise ConfigError(
                    f"{transform.type} is for training; evaluation is at full image size and takes Normalize only",
                    key_path=path,
                )
    if "Normalize" in names[:-1]:
        path = join_path(key_path, "transforms", names.index("Normalize"))
        found.add(ConfigError("Normalize must come last", key_path=path))
    found.finish()


def _check_outputs(section: Mapping[str, Any], key_path: str, model: str, num_outputs: int) -> None:
    types, coef = section.get("types"), section.get("coef")
    outputs = f"the model {model} has {num_outputs} output" + ("s" if num_outputs != 1 else "")
    if isinstance(types, list) and len(types) not in (1, num_outputs):
        raise ConfigError(
            f"{len(types)} entries, but {outputs}; give one per output, or a single one for all; a mix is one entry, "
            "{type: MixedLoss, losses: [...], coef: [...]}",
            key_path=join_path(key_path, "types"),
        )
    if isinstance(coef, list) and len(coef) != num_outputs:
        raise ConfigError(
            f"{len(coef)} weights, but {outputs}; give one per output", key_path=join_path(key_path, "coef")
        )


def _check_counts(config: Config, section: Mapping[str, Any], key_path: str, num_outputs: int) -> None:
    """Holds every phase of a loss section against the number of outputs."""
    _check_outputs(section, key_path, config.model.type, num_outputs)
    for index, phase in enumerate(section.get("phases") or ()):
        path = join_path(key_path, "phases", index)
        _check_outputs(phase, path, config.model.type, num_outputs)


def check_same_classes(given: Classes, train: Classes, key_path: str) -> None:
    if given.names != train.names or given.ignore_index != train.ignore_index:
        raise ConfigError(
            f"its classes ({listed(given.names)}; ignore {given.ignore_index}) are not those of train_dataset "
            f"({listed(train.names)}; ignore {train.ignore_index})",
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


def _check_crop(config: Config, stride: int, classes: Classes, found: Collector) -> None:
    window = config.evaluation.window
    small = f"is smaller than the {stride} pixels that one cell of {config.model.type}'s deepest features covers"
    if window is not None and min(window) < stride:
        found.add(ConfigError(f"{list(window)} {small}", key_path="evaluation.window"))
    for index, transform in enumerate(config.train_dataset.transforms):
        ignored = transform.keywords.get("ignore_index", classes.ignore_index)
        path = join_path("train_dataset.transforms", index)
        if transform.type in TRANSFORMS and ignored != classes.ignore_index:
            message = f"is {ignored}, but train_dataset marks ignored pixels with {classes.ignore_index}; leave it out"
            found.add(ConfigError(message, key_path=join_path(path, "ignore_index")))
        padded = transform.keywords.get("padding_index")
        taken = padded is not None and (padded == classes.ignore_index or not classes.num_classes <= padded <= 255)
        if transform.type in TRANSFORMS and taken:
            message = f"is {padded}; padded pixels need a label in {classes.num_classes}..255 that is no class and not ignored already"
            found.add(ConfigError(message, key_path=join_path(path, "padding_index")))
        size = transform.keywords.get("size")
        if transform.type in ("RandomCrop", "Resize") and size is not None and min(size) < stride:
            found.add(ConfigError(f"{list(size)} {small}", key_path=join_path(path, "size")))


def _try_loss(loss: nn.Module, model: Any, config: Config, classes: Classes, key_path: str) -> None:
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
    weight = () if padding_index(config.train_dataset) is None else (torch.ones(2, 8, 8),)
    with as_config_error(key_path), torch.no_grad():
        context = _made_up(loss, model, image_channels(config))
        for start in getattr(loss, "starts", (None,)):
            if start is not None:
                loss.set_step(start)  # type: ignore[operator]
            loss(outputs, target, *weight, **context)


def _made_up(loss: nn.Module, model: nn.Module, channels: int) -> dict[str, torch.Tensor]:
    """Returns an image and features of the right form, as far as the loss reads them; ValueError where there can be none."""
    needed = getattr(loss, "requires", ())
    for name in needed:
        if name not in KNOWN:
            raise ValueError(f"a loss requires {name!r}; the trainer passes {' and '.join(KNOWN)}")
    context: dict[str, torch.Tensor] = {}
    if "image" in needed:
        context["image"] = torch.linspace(0, 1, 2 * channels * 64).view(2, channels, 8, 8)
    if "features" in needed:
        feature_head(model)
        context["features"] = torch.linspace(-1, 1, 2 * 4 * 16).view(2, 4, 4, 4)
    return context
