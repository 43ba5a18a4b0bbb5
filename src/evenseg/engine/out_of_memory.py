"""Too little memory, in one line that says what takes less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evenseg.config import Config
from evenseg.engine.run_folder import is_resumable


class OutOfMemoryError(ValueError):
    """A network, its images and its loss that do not fit into the memory of the device."""


@contextmanager
def naming_lack_of_memory(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Turns torch's error about memory, of the GPU or of the machine, into an OutOfMemoryError.

    Args:
        how_to_go_on: returns what needs less memory; called when there was too little.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        device = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "the machine"
        said = " ".join(str(error).split()).partition(". ")[0]
        raise OutOfMemoryError(f"the memory of {device} is full ({said}); {how_to_go_on()}") from error


def less_for_training(config: Config, folder: Path, step: int) -> str:
    """Returns what to change for a run that ran out of memory at a step."""
    images = config.batch_size // config.devices
    divisors = [number for number in range(config.accumulate + 1, images + 1) if images % number == 0]
    split = f"accumulate={divisors[0]}" if divisors else ""
    parts = [f"batch_size (now {config.batch_size})"]
    for index, transform in enumerate(config.train_dataset.transforms):
        if "size" in transform.keywords:
            parts.append(f"train_dataset.transforms[{index}].size (now {list(transform.keywords['size'])})")
    advice = f"lower {' or '.join(parts)}"
    if config.precision == "fp32":
        advice += ", set precision=bf16"
    if split:
        advice += f", or keep the numbers and set {split}, which takes the batch in parts (now {config.accumulate})"
    if config.evaluation.window is None:
        advice += "; if it happens in an evaluation, set evaluation.window=[HEIGHT, WIDTH]"
    if is_resumable(folder):
        more = f" --set {split}" if split else ""
        advice += f"; the checkpoints before step {step} are kept: `evenseg train --resume {folder}{more}` goes on from there"
    return advice


def less_for_images(config: Config) -> str:
    """Returns what to change for whole images that are too large."""
    window = config.evaluation.window
    if window is None:
        return "see the images in parts: --window HEIGHT WIDTH"
    return f"use smaller windows than {window[0]} {window[1]} (--window) or fewer at a time (--set evaluation.batch_size=1)"
