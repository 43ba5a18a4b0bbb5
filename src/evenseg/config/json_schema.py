"""The JSON Schema of configuration files: the fixed form, and in every open section the types and their keywords."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, PydanticJsonSchemaWarning

from evenseg.config.schema import Config
from evenseg.config.section import Section

# a part of one's own: an import path, whose keywords are not known here
_OWN: JsonSchemaValue = {
    "type": "object",
    "properties": {"type": {"type": "string", "pattern": r"^[A-Za-z_]\w*(\.\w+)+$"}},
    "required": ["type"],
    "title": "package.module.Name",
}


def keyword_schema(name: str, model: type[BaseModel], doc: Callable[..., Any], **more: JsonSchemaValue) -> JsonSchemaValue:
    """Returns the schema of `{type: name, **keywords}`.

    Args:
        name: of the type.
        model: its keywords, see `keyword_model`.
        doc: the class or function whose docstring describes them.
        more: schemas of further keys, like `transforms`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # defaults that JSON cannot express are left out
        schema = model.model_json_schema(schema_generator=_Lenient, ref_template="#/$defs/{model}")
    text = inspect.getdoc(doc) or ""
    described = _arguments(text)
    properties: dict[str, Any] = {"type": {"const": name}}
    for key, value in schema.get("properties", {}).items():
        value.pop("title", None)
        properties[key] = value | ({"description": described[key]} if key in described else {})
    found: dict[str, Any] = {
        "type": "object",
        "title": name,
        "description": " ".join(text.split("\n\n")[0].split()),
        "properties": properties | more,
        "required": ["type", *schema.get("required", [])],
        "additionalProperties": bool(schema.get("additionalProperties", False)),
    }
    return found | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def file_schema(
    definitions: Mapping[str, list[JsonSchemaValue]], sections: Mapping[str, str], loss: JsonSchemaValue
) -> JsonSchemaValue:
    """Returns the schema of a configuration file.

    A file that builds on others with `_base_` may leave out what these hold, so only its keys are checked.

    Args:
        definitions: name -> schemas of the types that such a part can be.
        sections: top-level key -> name of its definition.
        loss: of one loss section.
    """
    fixed = Config.model_json_schema(schema_generator=_Lenient)
    defined: dict[str, Any] = fixed.pop("$defs", {}) | {"own": _OWN}
    properties = fixed["properties"]
    for name, text in described(Config).items():
        properties[name] = properties[name] | {"description": text}
    for model in _sections().values():
        for name, text in described(model).items():
            defined[model.__name__]["properties"][name]["description"] = text
    for name, types in definitions.items():
        for schema in types:
            defined |= schema.get("$defs", {})
        bare = [{key: value for key, value in schema.items() if key != "$defs"} for schema in types]
        defined[name] = {"anyOf": [*bare, {"$ref": "#/$defs/own"}]}
    properties |= {key: {"$ref": f"#/$defs/{name}", "description": described(Config).get(key, "")} for key, name in sections.items()}
    defined |= loss.get("$defs", {})
    defined["loss"] = {key: value for key, value in loss.items() if key != "$defs"}
    properties["loss"] = {"$ref": "#/$defs/loss"}
    properties["losses"] = {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/loss"}}
    for key in properties:
        # null counts as left out
        if key not in fixed.get("required", []):
            properties[key] = {"anyOf": [properties[key], {"type": "null"}]}
    base = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    whole = {"required": fixed["required"], "properties": properties, "additionalProperties": False}
    part = {
        "required": ["_base_"],
        "properties": {"_base_": base} | {key: {} for key in properties},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evenseg configuration",
        "type": "object",
        "if": {"required": ["_base_"]},
        "then": part,
        "else": whole,
        "$defs": defined,
    }


class _Lenient(GenerateJsonSchema):
    """Leaves a type open that JSON Schema cannot express, such as a tensor."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def key_table() -> str:
    """Returns a Markdown table of all keys of the fixed form, the sections of fixed form key by key."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    parts = _sections()
    for name, field in Config.model_fields.items():
        lines.append(_row(name, field, described(Config).get(name, ""), nested=name in parts))
        if name in parts:
            texts = described(parts[name])
            lines += [_row(f"{name}.{key}", inner, texts.get(key, "")) for key, inner in parts[name].model_fields.items()]
    return "\n".join(lines)


def described(model: type[BaseModel]) -> dict[str, str]:
    """Returns field -> description, from the docstring."""
    return {name: text for name, text in _arguments(inspect.getdoc(model) or "").items() if name in model.model_fields}


def _sections() -> dict[str, type[BaseModel]]:
    """Returns the sections of fixed form: name -> model."""
    found = {}
    for name, field in Config.model_fields.items():
        for kind in (field.annotation, *_inside(field.annotation)):
            if inspect.isclass(kind) and issubclass(kind, BaseModel) and not issubclass(kind, Section):
                found[name] = kind
    return found


def _inside(annotation: Any) -> tuple[Any, ...]:
    """Returns the types that a union or a tuple is made of, all the way down."""
    parts = get_args(annotation)
    return parts + tuple(inner for part in parts for inner in _inside(part))


def _row(name: str, field: FieldInfo, text: str, *, nested: bool = False) -> str:
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        shown = "required"
    elif nested or default is None:
        shown = ""
    elif isinstance(default, BaseModel):
        shown = f"`{{type: {default.type}}}`" if isinstance(default, Section) else ""
    else:
        shown = f"`{json.dumps(default)}`".replace('"', "")
    return f"| `{name}` | {shown} | {text} |"


def _arguments(docstring: str) -> dict[str, str]:
    """Returns name -> description from the `Args:` (or keyword arguments) of a docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if re.fullmatch(r"\S.*:", line):
            inside = line in ("Args:", "Attributes:") or "eyword arguments" in line
        elif inside and (match := re.match(r" {4}([a-z_, 0-9]+): (.*)", line)):
            names = [name.strip() for name in match[1].split(",")]
            found |= dict.fromkeys(names, match[2])
        elif inside and line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
