"""Exporting a trained run to ONNX or TorchScript, checked against PyTorch before the file appears."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evenseg.engine.files import replacing, write_json
from evenseg.engine.inference import main_output
from evenseg.engine.loaded_run import LoadedRun, load_run
from evenseg.engine.onnx_graph import take_any_size

Format = Literal["onnx", "torchscript"]

SUFFIX = {"onnx": ".onnx", "torchscript": ".pt"}
# largest difference of a logit, as a share of the largest logit
TOLERANCE = 1e-3
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class Deployed(nn.Module):
    """A network for export: an image of any height and width in, the main logits at its size out.

    Args:
        model: images (N, C, H, W), normalised as in training, -> logits, the main ones first.
        stride: the image is padded to a multiple of it here, where an exporter can follow; the network then pads nothing.
    """

    def __init__(self, model: nn.Module, stride: int, pad: Any, cut: Any) -> None:
        super().__init__()
        self.model, self.stride, self.pad, self.cut = model, stride, pad, cut

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (N, K, H, W)."""
        padded = self.pad(image, self.stride)
        logits: Tensor = self.cut(main_output(self.model(padded)), image)
        return logits


def pad_image(image: Tensor, stride: int) -> Tensor:
    """Pads with zeros at the bottom and the right to multiples of the stride, without a branch."""
    bottom, right = (stride - image.shape[2] % stride) % stride, (stride - image.shape[3] % stride) % stride
    return torch.nn.functional.pad(image, [0, right, 0, bottom])


def cut_logits(logits: Tensor, image: Tensor) -> Tensor:
    """Cuts logits to the size of the image."""
    return logits[:, :, : image.shape[2], : image.shape[3]]


def export(
    run_folder: str | Path,
    format: Format,
    output: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    opset: int = 20,
) -> tuple[Path, float]:
    """Exports the best weights of a run with dynamic batch, height and width.

    The exported network takes `image` (N, C, H, W) float32, prepared as the run's validation images are, and returns
    `logits` (N, K, H, W), for any N, H and W. Names and colours of the classes and the transforms are stored beside it, in
    FILE.json. The result is held against PyTorch on random images of two sizes, neither of which was used for exporting,
    one of them no multiple of the network's stride.

    Args:
        run_folder: as written by `train`.
        format: "onnx" or "torchscript".
        output: file to write; RUN/export/model.onnx or model.pt by default.
        overrides: changes to the run's configuration.
        opset: of ONNX.

    Returns:
        The file, and the largest difference of a logit as a share of the largest logit.

    Raises:
        FileNotFoundError: no run folder.
        ValueError: an unknown format, a missing package, a network that cannot be exported, or a result that differs.
    """
    if format not in SUFFIX:
        raise ValueError(f"unknown format {format!r}; allowed: {', '.join(SUFFIX)}")
    if format == "onnx" and (missing := [name for name in _NEEDED if find_spec(name) is None]):
        raise ValueError(f"--format onnx needs {', '.join(missing)}; pip install 'evenseg[export]'")
    run = load_run(run_folder, [*overrides, "device=cpu"])
    file = Path(output) if output is not None else run.folder / "export" / f"model{SUFFIX[format]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    model, stride = run.predictor.model, int(getattr(run.predictor.model, "stride", 32))
    channels, side = run.channels, 2 * stride
    sample = _images(1, channels, 2 * side, 3 * side, seed=0)
    tests = [_images(2, channels, 3 * side, 2 * side, seed=1)]
    # a size that the stride does not divide: both pad inside
    tests.append(_images(1, channels, 2 * side + 5, 4 * side - 3, seed=2))
    partial = file.with_name(f".{file.name}.tmp")
    try:
        with torch.no_grad():
            found = (_to_onnx if format == "onnx" else _to_torchscript)(model, stride, sample, tests, partial, opset)
            difference = max(
                _difference(one, main_output(model(image))) for one, image in zip(found, tests, strict=True)
            )
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported {format} network differs from PyTorch by {difference:.2g} of the largest logit, more than "
                f"{TOLERANCE:g}; nothing was written"
            )
        data = partial.read_bytes()
    finally:
        partial.unlink(missing_ok=True)
    with replacing(file) as stream:
        stream.write(data)
    write_json(file.with_name(file.name + ".json"), _description(run, format, difference))
    return file, difference


def _to_onnx(
    model: nn.Module, stride: int, sample: Tensor, tests: Sequence[Tensor], file: Path, opset: int
) -> list[Tensor]:
    """Writes the network; returns what it answers to the test images."""
    import onnxruntime

    # in multiples of the stride, so that no branch of the network depends on the size; `take_any_size` pads to them
    height, width = (stride * torch.export.Dim(name, min=1, max=4096) for name in ("height", "width"))
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: height, 3: width}
    with _clear_failure("ONNX"), _silent():
        program = torch.onnx.export(
            Deployed(model, 1, lambda image, stride: image, lambda logits, image: logits).eval(),
            # two images: a batch of one would be taken for a constant
            (sample.repeat(2, 1, 1, 1),),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes={"image": dynamic},
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        take_any_size(proto, stride)
        file.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0]) for image in tests]


def _to_torchscript(
    model: nn.Module, stride: int, sample: Tensor, tests: Sequence[Tensor], file: Path, opset: int
) -> list[Tensor]:
    """Writes the network; returns what it answers to the test images."""
    # a trace keeps numbers computed from a size as constants, a script computes them
    network = Deployed(model, stride, torch.jit.script(pad_image), torch.jit.script(cut_logits)).eval()
    with _clear_failure("TorchScript"), _silent():
        torch.jit.save(torch.jit.trace(network, sample, check_trace=False), str(file))
    loaded = torch.jit.load(str(file))
    try:
        return [loaded(image) for image in tests]
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1]
        raise ValueError(f"the TorchScript network fails at another image size: {line}; use --format onnx") from error


def _images(n: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def _difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        raise ValueError(
            f"the exported network returns {tuple(found.shape)} where PyTorch returns {tuple(expected.shape)}"
        )
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _description(run: LoadedRun, format: str, difference: float) -> dict[str, Any]:
    return {
        "format": format,
        "size_multiple_of": 1,
        "input": {"name": "image", "shape": ["N", run.channels, "H", "W"], "type": "float32"},
        "output": {"name": "logits", "shape": ["N", run.classes.num_classes, "H", "W"], "type": "float32"},
        "transforms": json.loads(run.config.model_dump_json())["val_dataset"]["transforms"],
        "classes": list(run.classes.names),
        "colors": [list(color) for color in run.classes.colors],
        "difference_from_pytorch": difference,
    }


@contextmanager
def _clear_failure(name: str) -> Iterator[None]:
    """Turns whatever an exporter raises into a ValueError of one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"the network cannot be exported to {name}: {lines[0] if lines else type(error).__name__}"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the exporters' reports and warnings off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
