"""JSON read field by field: whatever is missing or of another kind is a ValueError that names file and field."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_text(file: Path) -> str:
    """Return the text of a file."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as text ({error})") from error


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds."""
    return parse_object(read_text(file), str(file))


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object that a text is; `where` names it in errors, as in all that follow."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{where}: holds a {type(data).__name__}; allowed: a JSON object")
    return data


def field(data: Mapping[Any, Any], key: Any, kind: type, where: object) -> Any:
    """Return a field of one kind."""
    if key not in data:
        raise ValueError(f"{where}: {key!r} is missing")
    value = data[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: {key!r} is {value!r}; allowed: {kind.__name__}")
    return value


def list_field(data: Mapping[str, Any], key: str, kind: type, where: object) -> list[Any]:
    """Return a list whose members are all of one kind."""
    values = field(data, key, list, where)
    return [field(dict(enumerate(values)), i, kind, f"{where}: {key}") for i in range(len(values))]


def number_field(data: Mapping[Any, Any], key: Any, where: object) -> float:
    """Return a finite number."""
    value = finite_field(data, key, where)
    if value is None:
        raise ValueError(f"{where}: {key!r} is {data[key]!r}; allowed: a finite number")
    return value


def finite_field(data: Mapping[Any, Any], key: Any, where: object) -> float | None:
    """Return a number, or None for null and for NaN and infinity, which Python writes into JSON too."""
    if key not in data:
        raise ValueError(f"{where}: {key!r} is missing")
    value = data[key]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{where}: {key!r} is {value!r}; allowed: a number or null")
    return float(value) if value is not None and math.isfinite(value) else None


def fraction_field(data: Mapping[Any, Any], key: Any, where: object) -> float | None:
    """Return a fraction of 0..1, or None as `finite_field` does."""
    value = finite_field(data, key, where)
    if value is not None and not -1e-9 <= value <= 1 + 1e-9:
        raise ValueError(f"{where}: {key!r} is {value}; allowed: a fraction of 0..1 (not per cent) or null")
    return value
