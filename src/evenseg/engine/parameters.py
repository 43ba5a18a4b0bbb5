"""Which parameters of a network are trained, and with what learning rate and weight decay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from evenseg.config import Config, ConfigError, join_path, nearest_name
from evenseg.config.training import ParamGroup


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Takes the parameters whose names match one of the patterns out of training.

    Raises:
        ConfigError: a pattern matches none, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for index, pattern in enumerate(patterns):
        if not any(re.search(pattern, name) for name in names):
            raise ConfigError(_no_match(pattern, names), key_path=join_path("freeze", index))
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
    if names and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"freezes all {len(names)} parameters, so that nothing is left to train", key_path="freeze")


def frozen_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the batch normalisations whose weights are frozen: their running means must stay, too."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            yield module


def parameter_groups(config: Config, named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Returns the groups for the optimiser: the unmatched parameters first, then one per entry of `param_groups`.

    A parameter belongs to the first entry that matches it. Each group carries its `lr_mult`.

    Raises:
        ConfigError: an entry matches no parameter.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    rest: list[nn.Parameter] = []
    members: list[list[nn.Parameter]] = [[] for _ in config.param_groups]
    matched = [False] * len(members)
    for name, parameter in trained:
        fitting = [i for i, group in enumerate(config.param_groups) if _belongs(group, name, parameter)]
        for index in fitting:
            matched[index] = True
        (members[fitting[0]] if fitting else rest).append(parameter)
    for index, group in enumerate(config.param_groups):
        if not matched[index]:
            key = "match" if group.match is not None else "kind"
            message = _no_match(group.match or str(group.kind), [name for name, _ in trained])
            raise ConfigError(message, key_path=join_path("param_groups", index, key))
    groups: list[dict[str, Any]] = [{"params": rest, "lr_mult": 1.0}]
    for group, parameters in zip(config.param_groups, members, strict=True):
        decay = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
        groups.append({"params": parameters, "lr_mult": group.lr_mult} | decay)
    return [group for group in groups if group["params"]]


def _belongs(group: ParamGroup, name: str, parameter: nn.Parameter) -> bool:
    named = group.match is None or re.search(group.match, name) is not None
    return named and (group.kind is None or parameter.dim() <= 1)


def _no_match(pattern: str, names: Sequence[str]) -> str:
    parts = list(dict.fromkeys(name.partition(".")[0] for name in names))
    near = nearest_name(pattern, [*parts, *names])
    hint = f"; did you mean {near!r}?" if near else ""
    return f"{pattern!r} matches no trained parameter; their names begin with {', '.join(parts)}{hint}"
