"""Predicting image files with a trained run: index images, overlays and probabilities, band by band."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evenseg._paths import find_images
from evenseg.config import EvaluationSection
from evenseg.data import Classes, ImageRows, open_rows
from evenseg.engine.inference import Predictor, most_probable
from evenseg.engine.loaded_run import LoadedRun, load_run
from evenseg.engine.out_of_memory import less_for_images, naming_lack_of_memory
from evenseg.engine.pictures import as_rgb, blend_classes, display_limits
from evenseg.engine.png import PngWriter

# images of more pixels are cut into windows where the run names none
LARGEST_WHOLE = 2048 * 2048
# largest side of such windows, the smallest where memory asks for less, and the bytes for one row of them, all classes
WINDOW, LOWEST_WINDOW, ROW_OF_WINDOWS = 1024, 256, 2**29
ROWS_AT_ONCE = 64

Probabilities = Literal["none", "npy", "png"]


@dataclass(frozen=True)
class Predicted:
    """What became of the images: the index image of each, and the files that could not be read with the reasons."""

    folder: Path
    written: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]


def predict(
    run_folder: str | Path,
    images: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    overlay: bool = True,
    probabilities: Probabilities = "none",
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    track: Callable[[Sequence[Any]], Any] = lambda items: items,
) -> Predicted:
    """Predicts image files with the best weights of a run.

    Every image NAME becomes NAME.png with class indices (and the classes' colours as palette), NAME_overlay.png, and with
    `probabilities` NAME_probabilities.npy, (K, H, W) float16, or NAME_probability_CLASS.png for each class, where 255 is 1.
    Images of more than 4 megapixels are cut into windows, and whatever their size, a row of windows at a time is in memory.

    Args:
        run_folder: as written by `train`.
        images: files, folders (searched in depth) and glob patterns.
        output: folder to write; RUN/predictions by default.
        overlay: write overlays.
        probabilities: "none", "npy" or "png".
        overrides: changes to the run's configuration, like `evaluation.window=[512, 512]`.
        say: takes one line about every file that is skipped, and notes.
        track: wraps the list of files to show progress.

    Returns:
        What was written and what was skipped: an unreadable file stops nothing.

    Raises:
        FileNotFoundError: no run folder, no such file, or a folder without images.
        ValueError: two images would be written under one name.
        ConfigError: the run's configuration cannot be used.
    """
    places = find_images(images)
    run = load_run(run_folder, overrides)
    folder = Path(output) if output is not None else run.folder / "predictions"
    written, skipped = [], []
    for file, name in track(places):
        with ExitStack() as stack:
            try:
                rows = stack.enter_context(open_rows(file, run.channels))
            except ValueError as error:
                # unreadable, or of another number of channels; what fails later is no matter of this one file
                skipped.append((file, str(error)))
                say(f"skipped: {error}")
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(naming_lack_of_memory(lambda: less_for_images(run.config)))
            written.append(_predict_one(run, rows, target, overlay, probabilities, say))
    return Predicted(folder, tuple(written), tuple(skipped))


def _predict_one(
    run: LoadedRun,
    rows: ImageRows,
    target: Path,
    overlay: bool,
    probabilities: Probabilities,
    say: Callable[[str], None],
) -> Path:
    height, width = rows.height, rows.width
    predictor, classes = run.predictor, run.classes
    if predictor.settings.window is None and height * width > LARGEST_WHOLE:
        window = automatic_window(width, classes.num_classes)
        settings = EvaluationSection.model_validate(predictor.settings.model_dump() | {"window": window})
        say(f"{target.name}: {width} x {height} pixels, so windows of {window[1]} x {window[0]} are used")
        predictor = Predictor(predictor.model, settings)
    few = classes.num_classes <= 256
    palette = np.array(classes.colors, np.uint8) if few else None
    limits = display_limits(rows.read, height) if overlay else None

    def read(top: int, bottom: int) -> Tensor:
        # piece by piece: preparing takes several times the memory of its result
        band = torch.empty(run.channels, bottom - top, width)
        for start in range(top, bottom, ROWS_AT_ONCE):
            end = min(start + ROWS_AT_ONCE, bottom)
            band[:, start - top : end - top] = run.prepare(rows.read(start, end))
        return band.to(run.device)

    index_file = target.with_name(target.name + ".png")
    with ExitStack() as stack, run.autocast():
        indices = stack.enter_context(
            PngWriter(index_file, height, width, dtype=np.uint8 if few else np.uint16, palette=palette)
        )
        blended = (
            stack.enter_context(PngWriter(target.with_name(target.name + "_overlay.png"), height, width, rgb=True))
            if overlay
            else None
        )
        planes = stack.enter_context(_probability_writer(probabilities, target, classes, height, width))
        for top, band_KHW in predictor.bands(read, height, width):
            for start in range(0, band_KHW.shape[1], ROWS_AT_ONCE):
                index_HW = most_probable(band_KHW[:, start : start + ROWS_AT_ONCE]).cpu().numpy()
                indices.write(index_HW)
                if blended is not None:
                    picture = as_rgb(rows.read(top + start, top + start + len(index_HW)), limits)
                    blended.write(blend_classes(picture, index_HW, classes))
            planes.write(band_KHW)
    return index_file


def automatic_window(width: int, num_classes: int) -> tuple[int, int]:
    """Returns (height, width) of windows for an image too large to be seen whole: lower ones for more classes."""
    height = ROW_OF_WINDOWS // (4 * width * num_classes) // 64 * 64
    return min(WINDOW, max(LOWEST_WINDOW, height)), WINDOW


class _ProbabilityWriter:
    """Writes nothing: the form without probabilities, which the others extend."""

    def write(self, band_KHW: Tensor) -> None:
        pass

    def __enter__(self) -> _ProbabilityWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _ArrayWriter(_ProbabilityWriter):
    """One .npy of (K, H, W) float16, each band written to its place in every class's plane."""

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        self.file, self.shape, self.top = file, shape, 0
        self._partial = file.with_name(file.name + ".part")
        self._stream = self._partial.open("wb")
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._start = self._stream.tell()

    def write(self, band_KHW: Tensor) -> None:
        _, height, width = self.shape
        for c, plane_HW in enumerate(band_KHW.half().cpu().numpy()):
            self._stream.seek(self._start + 2 * width * (c * height + self.top))
            self._stream.write(np.ascontiguousarray(plane_HW, "<f2").tobytes())
        self.top += band_KHW.shape[1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.close()
            if kind is None:
                os.replace(self._partial, self.file)
        finally:
            self._partial.unlink(missing_ok=True)


class _PlanesWriter(_ProbabilityWriter):
    """One grey PNG for each class."""

    def __init__(self, target: Path, classes: Classes, height: int, width: int) -> None:
        self._stack = ExitStack()
        names = [_file_part(name) for name in classes.names]
        self._writers = [
            self._stack.enter_context(
                PngWriter(target.with_name(f"{target.name}_probability_{name}.png"), height, width)
            )
            for name in names
        ]

    def write(self, band_KHW: Tensor) -> None:
        for writer, plane_HW in zip(self._writers, band_KHW, strict=True):
            writer.write((plane_HW * 255).round().to(torch.uint8).cpu().numpy())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _probability_writer(
    form: Probabilities, target: Path, classes: Classes, height: int, width: int
) -> _ProbabilityWriter:
    if form == "npy":
        file = target.with_name(target.name + "_probabilities.npy")
        return _ArrayWriter(file, (classes.num_classes, height, width))
    return _PlanesWriter(target, classes, height, width) if form == "png" else _ProbabilityWriter()


def _file_part(name: str) -> str:
    """Returns a class name fit for a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
