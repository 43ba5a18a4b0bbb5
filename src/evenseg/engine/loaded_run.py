"""A trained run ready to be used on new images, without its data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from evenseg.config import Config, ConfigError
from evenseg.data import Classes, Pipeline, to_image_tensor
from evenseg.engine.build import build_data, build_model, build_pipeline, naming_the_file
from evenseg.engine.inference import Predictor
from evenseg.engine.run_folder import load_run_config
from evenseg.engine.train import load_best

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class LoadedRun:
    """The parts of a run that new images need.

    Attributes:
        folder: of the run.
        config: of the run, with the overrides.
        classes: names and colours.
        predictor: the model with its best weights, in evaluation mode on `device`.
        pipeline: what prepares an image, the validation set's transforms.
        device: where the model is.
    """

    folder: Path
    config: Config
    classes: Classes
    predictor: Predictor
    pipeline: Pipeline
    device: torch.device

    @property
    def channels(self) -> int:
        """Channels of the images the run was trained on."""
        return int(self.config.val_dataset.keywords.get("channels", 3))

    def prepare(self, image: NDArray[Any]) -> Tensor:
        """Returns (H, W, C) pixels as the model takes them, (C, H, W) float32."""
        tensor = to_image_tensor(image)
        return self.pipeline(tensor, torch.zeros(tensor.shape[1:], dtype=torch.uint8), seed=0)[0]

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context of the run's precision."""
        dtype = _AUTOCAST.get(self.config.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


def load_run(run_folder: str | Path, overrides: Sequence[str] = ()) -> LoadedRun:
    """Loads the best weights of a run.

    Args:
        run_folder: as written by `train`.
        overrides: changes to its configuration, like `evaluation.flip=true`.

    Raises:
        FileNotFoundError: `run_folder` is no run folder or holds no weights.
        ConfigError: its configuration cannot be used.
    """
    folder = Path(run_folder)
    config = load_run_config(folder, overrides)
    with naming_the_file(config):
        classes = _classes(folder, config)
        model = build_model(config, classes, pretrained=False)
        pipeline = build_pipeline(config.val_dataset, "val_dataset", classes)
    load_best(model, folder)
    gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if gpu else "cpu")
    model = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedRun(folder, config, classes, Predictor(model, config.evaluation), pipeline, device)


def _classes(folder: Path, config: Config) -> Classes:
    """Returns the classes that a finished run wrote down; those of its data set otherwise."""
    summary = folder / "summary.json"
    if not summary.is_file():
        return build_data(config.val_dataset, "val_dataset").dataset.classes
    try:
        content = json.loads(summary.read_text("utf-8"))
        colors = tuple((int(r), int(g), int(b)) for r, g, b in content["colors"])
        return Classes(tuple(map(str, content["classes"])), colors)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{summary} cannot be read: {type(error).__name__}: {error}") from error
