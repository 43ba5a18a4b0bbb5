"""The run folder: the interface between training and everything that reads results."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evenseg._paths import check_run_folder
from evenseg.config import Config, dump_config, load_config
from evenseg.engine.files import remove_temporaries, replacing, temporary_of, to_disk, write_json, write_text
from evenseg.engine.kept_files import keep_files

_PACKAGES = (
    "evenseg", "torch", "numpy", "numba", "lightning", "torchmetrics", "torchvision", "Pillow", "timm",
    "segmentation-models-pytorch", "transformers",
)  # fmt: skip


class RunFolder:
    """Writes one run: config.yaml, environment.json, metrics.jsonl and .csv, summary.json, checkpoints/, overlays/.

    metrics.jsonl holds nothing that depends on the clock, so that equal runs have equal files; the seconds of its rows
    are in times.jsonl.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._made_parents: list[Path] = []

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def times(self) -> Path:
        return self.path / "times.jsonl"

    def create(self, config: Config, *, overwrite: bool) -> None:
        """Makes the folder; raises ValueError as `check_free` does."""
        check_free(self.path, overwrite=overwrite)
        if self.path.exists():
            shutil.rmtree(self.path)
        self._made_parents = [parent for parent in self.path.parents if not parent.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # under another name until it is a run folder: a start that is killed leaves none that is half made
        unfinished = temporary_of(self.path)
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / self.checkpoints.name).mkdir(parents=True)
        # where the run lies is no part of what was run
        write_text(unfinished / "config.yaml", dump_config(config.model_copy(update={"output": None})))
        write_json(unfinished / "environment.json", describe_environment(config.seed, config.source))
        keep_files(config, unfinished)
        os.replace(unfinished, self.path)

    def reopen(self, step: int) -> None:
        """Prepares the folder of a broken-off run for going on from `step`, and notes by what it is continued."""
        for folder in (self.path, self.checkpoints):
            remove_temporaries(folder)
        file = self.path / "environment.json"
        environment = json.loads(file.read_text("utf-8"))
        now = {"step": step} | describe_environment(environment.get("seed", 0))
        write_json(file, environment | {"resumed": [*environment.get("resumed", []), now]})

    def remove(self) -> None:
        """Takes the folder away again, with the parents that were made for it and are empty."""
        shutil.rmtree(self.path)
        for parent in self._made_parents:
            if not any(parent.iterdir()):
                parent.rmdir()

    def add_row(self, row: dict[str, Any], seconds: float) -> None:
        """Appends one line to metrics.jsonl, and its time since the run began to times.jsonl."""
        self.rows.append(row)
        _append_line(self.metrics, row)
        _append_line(self.times, {"step": row["step"], "split": row["split"], "seconds": seconds})

    def keep_rows(self, count: int) -> None:
        """Takes away the rows behind the first `count`: a resumed run writes them again.

        Raises:
            ValueError: there are fewer.
        """
        for file in (self.metrics, self.times):
            lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
            kept = lines[:count]
            if len(kept) < count or not all(line.endswith(b"\n") for line in kept):
                raise ValueError(f"{file} has {len(kept)} rows, but the checkpoint was written after {count}; it cannot go on")
            if len(kept) < len(lines):
                with replacing(file) as stream:
                    stream.writelines(kept)
            if file == self.metrics:
                self.rows = [json.loads(line) for line in kept]

    def rows_to_disk(self) -> None:
        """Returns when the rows so far would survive a power cut."""
        for file in (self.metrics, self.times):
            if file.is_file():
                with file.open("ab") as stream:
                    to_disk(stream)

    def write_csv(self, class_names: tuple[str, ...]) -> None:
        """Writes metrics.csv from the rows so far, one column per term and per class."""
        flat = [flatten_row(row, class_names) for row in self.rows]
        columns = list(dict.fromkeys(column for row in flat for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(flat)
        write_text(self.path / "metrics.csv", text.getvalue())

    def save_best(self, state: dict[str, Any], step: int) -> None:
        """Writes checkpoints/best.safetensors, which names its step."""
        from safetensors.torch import save

        weights = {name: value.contiguous() for name, value in state.items()}
        with replacing(self.checkpoints / "best.safetensors") as stream:
            stream.write(save(weights, {"step": str(step)}))

    def best_step(self) -> int | None:
        """Returns the step that best.safetensors was written at; None where there is none."""
        from safetensors import safe_open

        file = self.checkpoints / "best.safetensors"
        if not file.is_file():
            return None
        with safe_open(file, "pt") as weights:
            return int((weights.metadata() or {}).get("step", -1))


def _append_line(file: Path, row: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row, allow_nan=False) + "\n")


def is_finished(path: Path) -> bool:
    """Tells whether a folder holds a run that came to its end."""
    return (path / "summary.json").is_file()


def is_resumable(path: Path) -> bool:
    """Tells whether a folder holds a broken-off run that left a checkpoint."""
    return (path / "config.yaml").is_file() and not is_finished(path) and any((path / "checkpoints").glob("step-*.ckpt"))


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raises ValueError when a run must not be written to `path`.

    A run that was broken off before its first checkpoint is replaced; one with checkpoints or a finished one only when
    asked for; any other folder with content never.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "config.yaml").is_file() or not (path / "environment.json").is_file():
        raise ValueError(f"{path} exists and is no run folder; choose another --output")
    if is_finished(path) and not overwrite:
        raise ValueError(f"{path} holds a finished run; choose another --output or pass --overwrite")
    if is_resumable(path) and not overwrite:
        raise ValueError(
            f"{path} holds a run that was broken off; go on with `evenseg train --resume {path}`, choose another --output "
            "or pass --overwrite"
        )


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the configuration that a run folder keeps.

    Raises:
        FileNotFoundError: `path` is no run folder.
        ConfigError: the configuration cannot be used; says so where another version wrote it.
    """
    check_run_folder(path)
    return load_config(path / "config.yaml", overrides)


def flatten_row(row: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in ("terms", "iou")}
    flat |= {f"term {name}": value for name, value in row.get("terms", {}).items()}
    return flat | {f"IoU {name}": value for name, value in zip(class_names, row.get("iou", []), strict=False)}


def describe_environment(seed: int, config_file: Path | None = None) -> dict[str, Any]:
    """Returns what a reader needs to judge or repeat a measurement.

    Args:
        seed: of the run.
        config_file: that it was configured by.
    """
    import torch

    return {
        "versions": {name: package_version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "evenseg_git": _own_git(),
        "project_git": _project_git(config_file),
        "seed": seed,
    }


def package_version(package: str) -> str | None:
    """Returns the installed version of a package, None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _own_git() -> dict[str, Any] | None:
    """Returns the state of the checkout this package runs from; None when the package is installed otherwise."""
    here = Path(__file__).resolve()
    return _git_state(here.parent) if _git(here.parent, "ls-files", "--error-unmatch", here.name) is not None else None


def _project_git(config_file: Path | None) -> dict[str, Any] | None:
    """Returns the state of the user's project: the repository of the working folder, else that of the configuration file."""
    folders = [Path.cwd()] if config_file is None else [Path.cwd(), config_file.resolve().parent]
    return next((state for folder in folders if (state := _git_state(folder)) is not None), None)


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Returns the commit of the repository a folder lies in, and whether files it keeps have been changed since."""
    described = _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    if not described:
        return None
    return {"commit": described.removesuffix("-dirty"), "dirty": described.endswith("-dirty")}


def _git(folder: Path, *arguments: str) -> str | None:
    """Returns what git prints; None where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
