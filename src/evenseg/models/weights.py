"""Reading saved weights, giving a network those that fit it, and holding it against those that must."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]

# under which key training programs save a network's weights
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
# what Lightning's module, DistributedDataParallel, torch.compile and this package's adapters put before every name
_PREFIXES = ("model.", "module.", "_orig_mod.", "network.")

# lines of each kind in a report's text
_SHOWN = 8


@dataclass(frozen=True)
class FittingReport:
    """What `load_fitting` did with the weights of a file.

    `loaded`: names of the tensors that fitted. `other_shape`: name -> (shape in the file, shape in the network).
    `missing`: name -> shape, in the network only: these keep their initial values. `unused`: name -> shape, in the file
    only.
    """

    source: str
    loaded: tuple[str, ...]
    other_shape: dict[str, tuple[Shape, Shape]]
    missing: dict[str, Shape]
    unused: dict[str, Shape]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.other_shape) + len(self.missing)
        lines = [f"{self.source}: {len(self.loaded)} of the network's {total} tensors loaded"]
        for what, tensors in (
            ("skipped", [f"{n}: {file} in the file, {own} in the network" for n, (file, own) in self.other_shape.items()]),
            ("not in the file", [f"{name} {shape}" for name, shape in self.missing.items()]),
            ("not in the network", [f"{name} {shape}" for name, shape in self.unused.items()]),
        ):
            lines += [f"  {what}: {tensor}" for tensor in tensors[:_SHOWN]]
            if len(tensors) > _SHOWN:
                lines.append(f"  {what}: {len(tensors) - _SHOWN} more")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON can hold it."""
        return {
            "source": self.source,
            "loaded": list(self.loaded),
            "other_shape": {
                name: {"file": list(file), "network": list(network)}
                for name, (file, network) in self.other_shape.items()
            },
            "missing": {name: list(shape) for name, shape in self.missing.items()},
            "unused": {name: list(shape) for name, shape in self.unused.items()},
        }


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Returns name -> tensor from a safetensors file, a checkpoint of torch or Lightning, or a run folder.

    Of a run folder its best weights are read. A checkpoint may hold the weights under "state_dict", "model_state_dict",
    "model" or "network". No code in a file is run.

    Raises:
        FileNotFoundError: there is nothing at `path`, or a folder without weights.
        ValueError: the file holds no weights that can be read safely.
    """
    file = Path(path)
    if file.is_dir():
        inside = file / "checkpoints" / "best.safetensors"
        if not inside.is_file():
            raise FileNotFoundError(f"{file} is no run folder with weights: it has no checkpoints/best.safetensors")
        file = inside
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}")
    weights = _tensors(_load(file))
    if not weights:
        raise ValueError(f"{file} holds no weights: no mapping from names to tensors")
    return weights


def load_fitting(network: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> FittingReport:
    """Copies into the network every tensor whose name and shape it has, and says what happened to the others.

    A prefix of the names that wrappers add, such as "module.", may be there or not, on either side.

    Args:
        network: changed in place.
        weights: name -> tensor.
        source: where they come from, for messages.

    Raises:
        ValueError: these are weights of another network: neither half of them nor half of the network's values fit.
            The network is unchanged.
    """
    own = network.state_dict()
    weights = under_the_names_of(network, weights)
    fitting = {name: weights[name] for name, value in own.items()
               if name in weights and weights[name].shape == value.shape}  # fmt: skip
    report = FittingReport(
        str(source),
        tuple(fitting),
        {n: (tuple(weights[n].shape), tuple(v.shape)) for n, v in own.items() if n in weights and n not in fitting},
        # old checkpoints lack the counters of batch normalisation, which serve nothing here
        {n: tuple(v.shape) for n, v in own.items() if n not in weights and not n.endswith("num_batches_tracked")},
        {name: tuple(value.shape) for name, value in weights.items() if name not in own},
    )
    loaded = _size(fitting)
    if loaded < _size(own) / 2 and loaded < _size(weights) / 2:
        in_file, in_network = (max(side.items(), key=lambda item: item[1].numel()) for side in (weights, own))
        raise ValueError(
            f"{source} holds the weights of another network: {len(fitting)} of its {len(weights)} tensors fit "
            f"{type(network).__name__}, which has {len(own)} (the largest is {in_file[0]} {tuple(in_file[1].shape)} in "
            f"the file, {in_network[0]} {tuple(in_network[1].shape)} in the network)"
        )
    network.load_state_dict(fitting, strict=False)
    return report


def check_weights(weights: Mapping[str, Tensor], model: nn.Module, source: str | Path) -> None:
    """Raises ValueError of one line when weights are not exactly those of the model.

    Args:
        weights: of the checkpoint, named as in the model's state_dict.
        model: the network of the configuration.
        source: of the weights, for the message.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(weights[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (reshaped, "of another shape"))
        if names
    ]
    if faults:
        raise ValueError(
            f"{source} does not fit the model {type(model).__name__}: of {len(own)} tensors {'; '.join(faults)}; "
            "it was written for another model or another number of classes"
        )


def under_the_names_of(network: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the weights under the names that agree most with the network's: prefixes taken away or put before."""
    own = network.state_dict().keys()
    candidates = [weights]
    for prefix in (*_PREFIXES, *_PREFIXES):
        inner = {n.removeprefix(prefix): value for n, value in candidates[-1].items() if n.startswith(prefix)}
        if inner:
            candidates.append(inner)
    candidates += [{prefix + name: value for name, value in weights.items()} for prefix in _PREFIXES]
    # of equals the first, so names stay as they are where nothing is won
    return max(candidates, key=lambda candidate: len(candidate.keys() & own))


def _load(file: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"{file} is no readable safetensors file: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # torch's own message recommends to run the code in the file
        raise ValueError(
            f"{file} is damaged, or holds more than tensors and plain values; save its state_dict alone"
        ) from error


def _tensors(content: object) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint by name, without wrappers and shared prefixes."""
    if not isinstance(content, Mapping):
        return {}
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _tensors(content[key])
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in tensors.values())
