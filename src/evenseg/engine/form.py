"""The form of a configuration as JSON Schema, read off the tables of types and their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, create_model
from torch import nn

from evenseg._dotted import import_dotted
from evenseg.config import file_schema, keyword_model, keyword_schema
from evenseg.data import DATASETS, SAMPLERS, TRANSFORMS
from evenseg.engine.class_weights import RuleName
from evenseg.engine.optim import OPTIMIZERS, SCHEDULES
from evenseg.losses import LOSSES, PRESETS, MixedLoss
from evenseg.losses.base import StatisticLoss, keywords
from evenseg.losses.options import CommonOptions
from evenseg.models import MODELS, more_parameters

Schema = dict[str, Any]
_NUMBERS: Schema = {"type": "array", "minItems": 1, "items": {"type": "number"}}


def json_schema() -> Schema:
    """Returns the JSON Schema of configuration files; editors that know it complete and check them."""
    transforms = {"type": "array", "items": {"$ref": "#/$defs/transform"}}
    datasets = [keyword_schema(name, keyword_model(kind), kind, transforms=transforms) for name, kind in DATASETS.items()]
    models = []
    for name, kind in MODELS.items():
        more = more_parameters(name, {})
        models.append(keyword_schema(name, keyword_model(kind, injected={"num_classes"}, more=more), kind))
        # which keywords these are depends on another keyword
        models[-1]["additionalProperties"] = bool(more)
    definitions = {
        "dataset": datasets,
        "transform": _types(TRANSFORMS),
        "model": models,
        "optimizer": _types(OPTIMIZERS, "params"),
        "lr_scheduler": _types(SCHEDULES),
        "sampler": _types(SAMPLERS, "length", "seed", "facts"),
    }
    sections = {f"{split}_dataset": "dataset" for split in ("train", "val", "test")}
    sections |= {name: name for name in ("model", "optimizer", "lr_scheduler", "sampler")}
    return file_schema(definitions, sections, _loss_section())


def _types(table: Mapping[str, Any], *filled: str) -> list[Schema]:
    return [keyword_schema(name, keyword_model(kind, filled=filled), kind) for name, kind in table.items()]


def _loss_section() -> Schema:
    """Returns the schema of one loss section, its terms as a definition of their own because mixes hold terms."""
    terms: list[Schema] = []
    for name, loss in LOSSES.items():
        schema = keyword_schema(name, create_model("Keywords", __config__=_STRICT, **_loss_keywords(loss)), loss)
        if loss is MixedLoss:
            parts = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/loss_term"}}
            schema["properties"] |= {"losses": parts, "coef": _NUMBERS}
            schema["required"] = ["type", "losses", "coef"]
        terms.append(schema)
    terms += [keyword_schema(name, keyword_model(one.section, more=_OF_PRESETS), one.section) for name, one in PRESETS.items()]
    term = {"$ref": "#/$defs/loss_term"}
    outputs: Schema = {"types": {"type": "array", "minItems": 1, "items": term}, "coef": _NUMBERS}
    step: Schema = {"type": "integer", "minimum": 1, "description": "step at which the phase begins, counted from 0"}
    share: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "description": "or that part of iters"}
    start: Schema = {"anyOf": [step, share]}
    phase = {
        "type": "object",
        "properties": {"start": start} | outputs,
        "required": ["start", "types"],
        "additionalProperties": False,
    }
    section = {
        "type": "object",
        "properties": outputs | {"phases": {"type": "array", "items": phase}},
        "required": ["types", "coef"],
        "additionalProperties": False,
    }
    return {"anyOf": [section, term], "$defs": {"loss_term": {"anyOf": [*terms, {"$ref": "#/$defs/own"}]}}}


# what presets take beside the other library's own keywords
_OF_PRESETS = {
    name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
    for name, kind in {"ignore_index": int | None, "engine": str, "sync": bool, "method": str, "num_bins": int}.items()
}
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


def _loss_keywords(loss: type[nn.Module]) -> dict[str, Any]:
    """Returns name -> (annotation, default) of every keyword of a loss, those of its bases included."""
    hints: dict[str, Any] = get_type_hints(CommonOptions) if issubclass(loss, StatisticLoss) else {}
    for cls in _constructors(loss):
        hints |= get_type_hints(cls.__init__)
    defaults = _keyword_defaults(loss)
    if "weight" in hints:
        hints["weight"] |= RuleName
    return {name: (hints.get(name, Any), defaults.get(name)) for name in sorted(keywords(loss))}


def loss_defaults(name: str) -> dict[str, Any]:
    """Returns keyword -> default of a loss by its name in a configuration, without what has none."""
    if name in LOSSES:
        return {key: value for key, value in _keyword_defaults(LOSSES[name]).items() if key in keywords(LOSSES[name])}
    function = PRESETS[name].section if name in PRESETS else import_dotted(name, nn.Module)
    fields = keyword_model(function).model_fields
    return {key: field.get_default() for key, field in fields.items() if not field.is_required()}


def _keyword_defaults(loss: type[nn.Module]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for cls in _constructors(loss):
        defaults |= cls.__init__.__kwdefaults__ or {}  # type: ignore[misc]
    return defaults


def _constructors(loss: type[nn.Module]) -> list[type[nn.Module]]:
    """Returns the classes whose constructors a loss goes through, bases first."""
    return [
        cls for cls in reversed(loss.__mro__) if "__init__" in cls.__dict__ and issubclass(cls, nn.Module) and cls is not nn.Module
    ]
