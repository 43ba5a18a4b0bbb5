"""The JSON Schema of configuration files: the fixed form, and in every open section the types and their keywords."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, PydanticJsonSchemaWarning

from evenseg.config.schema import Config

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
    for name, types in definitions.items():
        for schema in types:
            defined |= schema.get("$defs", {})
        bare = [{key: value for key, value in schema.items() if key != "$defs"} for schema in types]
        defined[name] = {"anyOf": [*bare, {"$ref": "#/$defs/own"}]}
    properties |= {key: {"$ref": f"#/$defs/{name}"} for key, name in sections.items()}
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


def _arguments(docstring: str) -> dict[str, str]:
    """Returns name -> description from the `Args:` (or keyword arguments) of a docstring."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if re.fullmatch(r"\S.*:", line):
            inside = line.startswith("Args:") or "eyword arguments" in line
        elif inside and (match := re.match(r" {4}([a-z_, 0-9]+): (.*)", line)):
            names = [name.strip() for name in match[1].split(",")]
            found |= dict.fromkeys(names, match[2])
        elif inside and line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
