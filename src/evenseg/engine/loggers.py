"""Lightning's loggers by configuration. metrics.jsonl and metrics.csv are written without any of them."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import evenseg._torchvision  # noqa: F401  (first: lightning imports torchvision where it finds it)

from lightning.pytorch import loggers as lightning_loggers  # isort: skip

from evenseg.config import Config, ConfigError, check_keywords, join_path, look_up

LOGGERS: dict[str, type[lightning_loggers.Logger]] = {
    name: getattr(lightning_loggers, name) for name in ("TensorBoardLogger", "WandbLogger", "MLFlowLogger")
}
_NEEDS = {"TensorBoardLogger": "tensorboard", "WandbLogger": "wandb", "MLFlowLogger": "mlflow"}


def check_loggers(config: Config) -> list[tuple[Any, dict[str, Any]]]:
    """Returns class and keywords of every logger.

    Raises:
        ConfigError: an unknown type or keyword, or a package that is not installed.
    """
    found = []
    for index, section in enumerate(config.loggers):
        path = join_path("loggers", index)
        kind = look_up(LOGGERS, section, "logger", path, lightning_loggers.Logger)
        package = _NEEDS.get(section.type)
        if package is not None and find_spec(package) is None:
            raise ConfigError(
                f"{section.type} needs the package {package}, which is not installed: pip install {package}",
                key_path=join_path(path, "type"),
            )
        keywords = section.keywords
        if section.type == "TensorBoardLogger":
            from torch.utils.tensorboard import SummaryWriter

            # what it does not know itself it passes on to the writer
            more = dict(inspect.signature(SummaryWriter).parameters)
            keywords = check_keywords(kind, keywords, key_path=path, injected={"save_dir"}, more=more)
        elif section.type not in LOGGERS:
            keywords = check_keywords(kind, keywords, key_path=path)
        found.append((kind, keywords))
    return found


def build_loggers(config: Config, folder: Path, name: str, first_step: int) -> list[lightning_loggers.Logger]:
    """Builds the loggers of a run; what they write locally lies in its folder.

    Args:
        config: with `loggers`.
        folder: of the run.
        name: of the run, for services that show one.
        first_step: of a run that goes on; TensorBoard drops what a killed part wrote behind it.
    """
    built = []
    for index, (kind, keywords) in enumerate(check_loggers(config)):
        defaults: dict[str, Any] = {}
        if kind is LOGGERS["TensorBoardLogger"]:
            defaults = {"save_dir": folder, "name": "", "version": "tensorboard"}
            defaults |= {"purge_step": first_step + 1} if first_step else {}
        elif kind is LOGGERS["WandbLogger"]:
            defaults = {"save_dir": folder, "name": name}
        elif kind is LOGGERS["MLFlowLogger"]:
            defaults = {"save_dir": str(folder / "mlruns"), "run_name": name}
        path = join_path("loggers", index)
        try:
            built.append(kind(**defaults | keywords))
        except (TypeError, ValueError) as error:
            raise ConfigError(" ".join(str(error).split()), key_path=path, file=config.source) from error
    return built


def flat_metrics(row: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, float]:
    """Returns a row of metrics.jsonl as one number per name, like `train/CrossEntropyLoss` or `val/IoU road`."""
    split = row["split"]
    flat = {f"{split}/{key}": value for key, value in row.items() if key not in ("step", "split", "terms", "iou", "lr")}
    flat |= {f"{split}/{name}": value for name, value in row.get("terms", {}).items()}
    flat |= {f"{split}/IoU {name}": value for name, value in zip(class_names, row.get("iou", []), strict=False)}
    flat |= {"lr": row["lr"]} if "lr" in row else {}
    return {name: float(value) for name, value in flat.items() if value is not None}
