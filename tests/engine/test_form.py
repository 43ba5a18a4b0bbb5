"""The JSON Schema accepts what we ship and refuses what the checks refuse."""

import re
from pathlib import Path

import pytest
import yaml

from evenseg.config import dump_config, load_config
from evenseg.engine import json_schema

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
}  # fmt: skip


LIMITS = {
    "minItems": lambda v, r: not isinstance(v, list) or len(v) >= r,
    "maxItems": lambda v, r: not isinstance(v, list) or len(v) <= r,
    "minProperties": lambda v, r: not isinstance(v, dict) or len(v) >= r,
    "minimum": lambda v, r: not is_number(v) or v >= r,
    "maximum": lambda v, r: not is_number(v) or v <= r,
    "exclusiveMinimum": lambda v, r: not is_number(v) or v > r,
    "exclusiveMaximum": lambda v, r: not is_number(v) or v < r,
}


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.fixture(scope="module")
def schema():
    return json_schema()


def fits(value, schema, root):
    """The part of JSON Schema (2020-12) that we use; an unknown keyword fails, so that nothing is passed over."""
    for key, rule in schema.items():
        if key in ("title", "description", "default", "$schema", "$defs", "then", "else"):
            continue
        if key == "$ref":
            good = fits(value, root["$defs"][rule.removeprefix("#/$defs/")], root)
        elif key == "type":
            good = isinstance(value, KINDS[rule]) and (rule == "boolean" or not isinstance(value, bool))
        elif key in ("const", "enum"):
            good = value in ([rule] if key == "const" else rule)
        elif key in ("anyOf", "oneOf"):
            good = any(fits(value, one, root) for one in rule)
        elif key == "if":
            good = fits(value, schema["then" if fits(value, rule, root) else "else"], root)
        elif key == "properties":
            good = not isinstance(value, dict) or all(fits(value[k], one, root) for k, one in rule.items() if k in value)
        elif key == "additionalProperties":
            more = [v for k, v in value.items() if k not in schema.get("properties", {})] if isinstance(value, dict) else []
            good = not more if rule is False else rule is True or all(fits(one, rule, root) for one in more)
        elif key == "required":
            good = not isinstance(value, dict) or set(rule) <= set(value)
        elif key == "items":
            good = not isinstance(value, list) or rule is False or all(fits(one, rule, root) for one in value)
        elif key == "prefixItems":
            good = not isinstance(value, list) or all(fits(v, one, root) for v, one in zip(value, rule, strict=False))
        elif key == "pattern":
            good = not isinstance(value, str) or re.search(rule, value) is not None
        else:
            good = LIMITS[key](value, rule)
        if not good:
            return False
    return True


RECIPES = sorted(file for file in (ROOT / "configs").rglob("*.y*ml") if file.parent.name != "_base_")


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_shipped_files_fit(schema, file):
    assert fits(yaml.safe_load(file.read_text()), schema, schema)
    assert fits(yaml.safe_load(dump_config(load_config(file))), schema, schema)


def test_own_parts_and_study_fit(schema, tiny_study):
    tiny_study["model"] = {"type": "mypackage.models.Net", "depth": 3}
    tiny_study["losses"]["own"] = {"type": "mypackage.MyLoss", "gamma": 2}
    tiny_study["eval_interval"] = None
    assert fits(tiny_study, schema, schema)
    assert fits({"_base_": ["a.yml"], "optimizer": {"lr": 0.1}}, schema, schema)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("itres", 3),
        ("iters", 0),
        ("iters", "many"),
        ("_bas_", "x.yml"),
        ("model.type", "Enet"),
        ("model.widht", 3),
        ("model.widths", "wide"),
        ("optimizer.momentm", 0.9),
        ("optimizer.params", []),
        ("optimizer", {"lr": 0.1}),
        ("train_dataset.split", "trian"),
        ("train_dataset.transforms", [{"type": "RandomCrop"}]),
        ("train_dataset.transforms", [{"type": "RandomCrop", "size": [1, 2], "sise": 2}]),
        ("loss.types", []),
        ("loss.types", [{"type": "CrossEntropyLos"}]),
        ("loss.types", [{"type": "CrossEntropyLoss", "label_smooth": 0.1}]),
        ("loss.types", [{"type": "MixedLoss", "losses": [{"type": "CrossEntropyLoss", "gamma": 1}], "coef": [1]}]),
        ("loss.phases", [{"start": 0, "types": [{"type": "DiceLoss"}]}]),
        ("loss.phases", [{"start": 1.5, "types": [{"type": "DiceLoss"}]}]),
        ("precision", "fp8"),
    ],
)
def test_what_the_checks_refuse_does_not_fit(schema, tiny, path, value):
    assert fits(tiny, schema, schema)
    node = tiny
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    assert not fits(tiny, schema, schema)


def test_keywords_are_described_from_the_docstrings(schema):
    crop = next(one for one in schema["$defs"]["transform"]["anyOf"] if one.get("title") == "RandomCrop")
    assert crop["properties"]["size"]["description"] == "(height, width) of the window."
    assert "up to ten times, while one class" in crop["properties"]["category_max_ratio"]["description"]
    assert crop["properties"]["category_max_ratio"]["default"] == 1.0
    focal = next(one for one in schema["$defs"]["loss_term"]["anyOf"] if one.get("title") == "FocalLoss")
    assert focal["properties"]["gamma"]["default"] == 2.0
    assert {"ignore_index", "weight", "per_image", "gamma"} <= set(focal["properties"])
    preset = next(one for one in schema["$defs"]["loss_term"]["anyOf"] if one.get("title") == "smp.dice")
    assert preset["properties"]["smooth"]["default"] == 0.0
    assert {"mode", "class_weights", "engine"} <= set(preset["properties"])
