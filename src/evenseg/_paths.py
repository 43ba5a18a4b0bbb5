"""Files and folders named on the command line, checked before anything heavy is imported."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".npy")


def check_run_folder(folder: Path, *, weights: bool = False) -> None:
    """Raises FileNotFoundError where there is no run folder.

    Args:
        folder: to be one.
        weights: whether it must hold weights.
    """
    if not folder.exists():
        raise FileNotFoundError(f"the run folder {folder} does not exist (looked in {Path.cwd()})")
    if (folder / "study.json").is_file():
        runs = sorted(file.parent for file in folder.glob("runs/*/*/config.yaml"))
        named = f", such as {runs[0]}" if runs else ""
        raise FileNotFoundError(f"{folder} is the folder of a study; name one of its {len(runs)} runs{named}")
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no config.yaml")
    if weights and not (folder / "checkpoints" / "best.safetensors").is_file():
        raise FileNotFoundError(f"{folder} has no checkpoints/best.safetensors: the run was never evaluated")


def find_images(images: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """Returns each image file with the name of its results (below folders, with its path), sorted within a folder.

    Raises:
        FileNotFoundError: no such file, a pattern that matches nothing, a folder without images.
        ValueError: two files would be written under one name.
    """
    found: list[tuple[Path, str]] = []
    for given in map(str, images):
        path = Path(given)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise FileNotFoundError(f"{given} holds no images ({', '.join(IMAGE_SUFFIXES)})")
            found += [(file, str(file.relative_to(path).with_suffix(""))) for file in inside]
        elif path.exists():
            found.append((path, path.stem))
        elif glob.has_magic(given):
            inside = sorted(p for p in map(Path, glob.glob(given, recursive=True)) if p.is_file())
            if not inside:
                raise FileNotFoundError(f"no file matches {given}")
            found += [(file, file.stem) for file in inside]
        else:
            raise FileNotFoundError(f"{given} does not exist")
    # the same file twice is no harm
    found = list(dict.fromkeys(found))
    first: dict[str, Path] = {}
    for file, name in found:
        if name in first:
            raise ValueError(f"{first[name]} and {file} would both be written as {name}.png; predict them separately")
        first[name] = file
    return found
