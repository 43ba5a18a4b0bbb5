"""Reading a YAML file into a Config, with overrides from the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from evenseg import __version__
from evenseg.config.errors import Collector, ConfigError, is_below, join_path, nearest_name, unknown_name
from evenseg.config.inherit import read_inherited
from evenseg.config.override import apply_override
from evenseg.config.schema import Config, Source

_HEADER = "# written by evenseg "


def load_config(file: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file with its bases, applies `key.path=value` overrides and checks the fixed part.

    Interpolations such as `${train_dataset.root}` are resolved after the overrides. Keywords of open sections are not
    checked here: that needs the types' signatures (see `evenseg.engine.checks`).

    Args:
        file: the YAML file, read safely; `_base_` names files it builds on (see `evenseg.config.inherit`).
        overrides: assignments like `optimizer.lr=0.01`; the value is read as YAML.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: a file cannot be read, or a key or value in it is wrong; it names all of these.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(file)
    content, files = read_inherited(path)
    origins = {key: "" if origin == path else f"inherited from {origin}" for key, origin in files.items()}
    refused = Collector(ConfigError)
    for assignment in overrides:
        key = None
        with refused:
            key = apply_override(content, assignment)
        if key is None:
            continue
        # a section that is set as a whole has nothing left of what stood there
        origins = {other: origin for other, origin in origins.items() if not other.startswith((f"{key}.", f"{key}["))}
        origins[key] = "from --set"
    try:
        plain = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error), key_path=str(error.full_key or ""), file=path) from error
    assert isinstance(plain, dict)
    source = Source(path, origins, _version_note(path), tuple(overrides))
    if not refused.errors:
        return make_config(plain, source=source)
    found = Collector(ConfigError)
    found.add(ConfigError.together(refused.errors).in_file(path))
    rest = None
    try:
        rest = make_config(plain, source=source)
    except ConfigError as error:
        found.add(error)
        rest = error.rest
    joined = ConfigError.together(found.errors)
    joined.rest = rest
    raise joined


def make_config(
    mapping: Mapping[Any, Any], *, file: str | Path | None = None, source: Source | None = None
) -> Config:
    """Checks a plain mapping and returns it as a Config; raises ConfigError as `load_config` does.

    Args:
        mapping: the content; a key that is null counts as left out.
        file: where it stands, for messages.
        source: the same in detail.
    """
    source = source or Source(None if file is None else Path(file))
    given = {key: value for key, value in mapping.items() if value is not None}
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        wrong = source.locate(validation_error(error, Config, given))
        wrong.rest = _rest(given, [one.key_path for one in wrong.errors], source)
        raise wrong from error
    config._source = source
    return config


def _rest(given: Mapping[Any, Any], wrong: Sequence[str], source: Source) -> Config | None:
    """Returns the configuration without the keys that are wrong, None where it cannot do without them."""
    kept = copy.deepcopy(dict(given))
    for key_path in wrong:
        node: Any = kept
        names = key_path.replace("[", ".").replace("]", "").split(".")
        # the key itself, or that of the list in which it stands
        while len(names) > 1 and isinstance(node.get(names[0]), dict):
            node = node[names.pop(0)]
        if names[0] not in node:
            return None
        del node[names[0]]
    try:
        config = Config.model_validate(kept)
    except ValidationError:
        return None  # what is missing now was reported as wrong
    config._source = source
    return config


def override_config(config: Config, settings: Mapping[str, Any]) -> Config:
    """Returns a configuration with values changed by key path, as `--set` changes them.

    A configuration from a file is read again with its own overrides and these, so that interpolations follow; one that
    was changed in memory since is changed where it is.

    Raises:
        ConfigError: as `load_config` does.
    """
    assignments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    if config.source is not None and config.source.is_file():
        as_read = load_config(config.source, config.overrides)
        if as_read.model_dump() == config.model_dump():
            return load_config(config.source, [*config.overrides, *assignments])
    # lists, not tuples, whose entries can be set; a null inside a section is a value of its own
    content = {key: value for key, value in config.model_dump(mode="json").items() if value is not None}
    for assignment in assignments:
        apply_override(content, assignment)
    return make_config(content, file=config.source)


def dump_config(config: Config) -> str:
    """Returns the configuration as YAML that `load_config` reads back to an equal Config; it begins with our version."""
    # a null inside a section is a value of its own, such as `weights_backbone: null`
    return dump_content({key: value for key, value in config.model_dump().items() if value is not None})


def dump_content(content: Mapping[str, Any], note: str = "") -> str:
    """Returns the content of a configuration as YAML, after our version and a note."""
    from omegaconf import OmegaConf

    return f"{_HEADER}{__version__}\n{note}" + OmegaConf.to_yaml(OmegaConf.create(dict(content)))


def _version_note(file: Path) -> str:
    """Returns words on a file that `dump_config` of another version wrote, empty otherwise."""
    with file.open(encoding="utf-8") as text:
        first = text.readline()
    version = first.removeprefix(_HEADER).strip()
    if not first.startswith(_HEADER) or version == __version__:
        return ""
    return f"the file was written by evenseg {version}, this is {__version__}"


def validation_error(
    error: ValidationError, model: type[BaseModel], received: Mapping[str, Any], key_path: str = ""
) -> ConfigError:
    """Turns pydantic's complaints into a ConfigError, one line for every key at fault.

    Args:
        error: of validating `received`.
        model: that it was validated against.
        received: what was validated.
        key_path: of the section.
    """
    found: list[ConfigError] = []
    for entry in error.errors():
        one = _validation_error(entry, model, received, key_path)
        # a union complains once for each of its kinds, about the whole or about what is inside
        if not any(is_below(one.key_path, other.key_path) or is_below(other.key_path, one.key_path) for other in found):
            found.append(one)
    return ConfigError.together(found)


def _validation_error(first: Any, model: type[BaseModel], received: Mapping[str, Any], key_path: str) -> ConfigError:
    location = _within(list(first["loc"]), received, missing=first["type"] == "missing")
    path = join_path(key_path, *location)
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        message = unknown_name("key", location[-1], _section_at(model, location[:-1]).model_fields)
    elif kind == "missing":
        message = "this required key is missing"
        if isinstance(value, Mapping):
            wrong = nearest_name(str(location[-1]), [str(key) for key in value if key not in model.model_fields])
            message += f"; did you mean {str(location[-1])!r} where you wrote {wrong!r}?" if wrong else ""
    elif kind == "value_error":
        message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {value!r}"
    return ConfigError(_one_line(message), key_path=path)


def _within(location: list[str | int], received: Any, missing: bool) -> list[str | int]:
    """Returns the parts of pydantic's location that are keys of the input; it adds the branches of its unions."""
    parts: list[str | int] = []
    node = received
    for position, part in enumerate(location):
        inside = part in node if isinstance(node, Mapping) else isinstance(node, list | tuple) and part in range(len(node))
        if inside:
            node = node[part]
        elif not (missing and position == len(location) - 1):
            continue
        parts.append(part)
    return parts


def _section_at(model: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """Returns the model of the section at a place inside a model; the model itself where there is none."""
    for name in location:
        field = model.model_fields.get(str(name))
        inner = None if field is None else _model_in(field.annotation)
        model = inner or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the model in an annotation like `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
