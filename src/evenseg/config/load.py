"""Reading a YAML file into a Config, with overrides from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from evenseg.config.errors import ConfigError, join_path, nearest_name, unknown_name
from evenseg.config.schema import Config


def load_config(file: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, applies `key.path=value` overrides and checks the fixed part.

    Interpolations such as `${train_dataset.root}` are resolved after the overrides. Keywords of open sections are not
    checked here: that needs the types' signatures (see `evenseg.engine.resolve`).

    Args:
        file: the YAML file, read safely.
        overrides: assignments like `optimizer.lr=0.01`; the value is read as YAML.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is wrong.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(file)
    if not path.is_file():
        raise ConfigError("no such file" if not path.exists() else "is not a file", file=path)
    try:
        raw = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"is no valid YAML: {_one_line(error)}", file=path) from error
    if not isinstance(raw, DictConfig):
        raise ConfigError(f"the top level must be a mapping, got a {type(raw).__name__}", file=path)
    for assignment in overrides:
        try:
            _apply_override(raw, assignment)
        except ConfigError as error:
            raise error.in_file(path) from error
    try:
        plain = OmegaConf.to_container(raw, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error), key_path=str(error.full_key or ""), file=path) from error
    assert isinstance(plain, dict)
    return make_config(plain, file=path)


def make_config(mapping: Mapping[Any, Any], *, file: str | Path | None = None) -> Config:
    """Checks a plain mapping and returns it as a Config; raises ConfigError as `load_config` does."""
    try:
        config = Config.model_validate(dict(mapping))
    except ValidationError as error:
        raise validation_error(error, Config).in_file(file) from error
    config._source = None if file is None else Path(file)
    return config


def dump_config(config: Config) -> str:
    """Returns the configuration as YAML that `load_config` reads back to an equal Config."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump(exclude_none=True)))


def validation_error(error: ValidationError, model: type[BaseModel], key_path: str = "") -> ConfigError:
    """Turns pydantic's first complaint into a ConfigError of one line."""
    first = error.errors()[0]
    location = list(first["loc"])
    path = join_path(key_path, *location)
    kind, received = first["type"], first["input"]
    if kind == "extra_forbidden":
        message = unknown_name("key", location[-1], model.model_fields)
    elif kind == "missing":
        message = "this required key is missing"
        if isinstance(received, Mapping):
            wrong = nearest_name(str(location[-1]), [str(key) for key in received if key not in model.model_fields])
            message += f"; did you mean {str(location[-1])!r} where you wrote {wrong!r}?" if wrong else ""
    elif kind == "value_error":
        message = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {received!r}"
    return ConfigError(_one_line(message), key_path=path)


def _apply_override(raw: Any, assignment: str) -> None:
    """Sets one `key.path=value` in place; the parent of the key must exist, so a misspelt path is refused."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set needs key.path=value, got {assignment!r}")
    try:
        parsed: Any = OmegaConf.create(f"value: {text}" if text.strip() else "value: ''")
        value = parsed["value"]
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"--set: the value {text!r} is no valid YAML: {_one_line(error)}", key_path=key) from error
    node: Any = raw
    parts = key.replace("[", ".").replace("]", "").split(".")
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        here = join_path(*[int(name) if name.isdigit() else name for name in parts[: position + 1]])
        name: str | int
        if isinstance(node, ListConfig):
            if not part.isdigit() or int(part) >= len(node):
                raise ConfigError(f"--set: no such entry; the list has {len(node)}, counted from 0", key_path=here)
            name = int(part)
        elif isinstance(node, DictConfig):
            # a keyword that the file leaves out may be set in an open section, its signature check comes later
            known = list(Config.model_fields) if position == 0 else [str(entry) for entry in node]
            if part not in known and (position == 0 or not last):
                raise ConfigError("--set: " + unknown_name("key", part, known), key_path=here)
            if part not in node and not last:
                raise ConfigError(f"--set: the file has no section {part!r} to change", key_path=here)
            name = part
        else:
            parent = join_path(*[int(name) if name.isdigit() else name for name in parts[:position]])
            raise ConfigError(f"--set: {parent} is a single value and has no keys", key_path=here)
        container: Any = node
        if last:
            container[name] = value
        else:
            node = container[name]


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
