"""`--set key.path=value`: one value of a configuration changed from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from evenseg.config.errors import ConfigError, join_path, unknown_name
from evenseg.config.schema import Config
from evenseg.config.section import Section


def apply_override(content: dict[Any, Any], assignment: str) -> str:
    """Sets one `key.path=value` in place and returns the key path.

    The value is YAML and may hold `=` itself. Every key on the way must exist, so a misspelt path is refused; the last
    one may be new inside a section, where its signature is checked later. A name with dots in it is found too.

    Raises:
        ConfigError: no `=`, a value that is no YAML, or a path that does not exist.
    """
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set needs key.path=value, got {assignment!r}")
    value = _read_value(key, text)
    parts = key.replace("[", ".").replace("]", "").split(".")
    node: Any = content
    here = ""
    while parts:
        name, parts = _next_key(node, parts)
        above, here = here, join_path(here, name)
        last = not parts
        if isinstance(node, list):
            if not isinstance(name, int) or name >= len(node):
                raise ConfigError(f"--set: no such entry; the list has {len(node)}, counted from 0", key_path=here)
        elif isinstance(node, dict):
            known = list(Config.model_fields) if not above else [str(entry) for entry in node]
            if str(name) not in known and (not above or not last):
                raise ConfigError("--set: " + unknown_name("key", name, known), key_path=here)
            if node.get(name) is None and not last:
                if above or not _has_defaults(str(name)):
                    raise ConfigError(f"--set: the file has no section {name!r} to change", key_path=here)
                node[name] = {}
        else:
            raise ConfigError(f"--set: {above} is a single value and has no keys", key_path=here)
        if last:
            node[name] = value
        else:
            node = node[name]
    return here


def read_key(content: Mapping[Any, Any], key: str) -> Any:
    """Returns the value at a key path of a plain mapping.

    Raises:
        KeyError: there is none; its argument says what is there instead.
    """
    parts = key.replace("[", ".").replace("]", "").split(".")
    node: Any = content
    here = ""
    while parts:
        name, parts = _next_key(node, parts)
        if (isinstance(node, list | tuple) and isinstance(name, int) and name < len(node)) or (isinstance(node, dict) and name in node):
            node = node[name]
        elif isinstance(node, dict):
            raise KeyError(f"{here or 'the configuration'} has the keys {', '.join(map(str, node))}")
        elif isinstance(node, list | tuple):
            raise KeyError(f"{here} has {len(node)} entries, counted from 0")
        else:
            raise KeyError(f"{here} is a single value and has no keys")
        here = join_path(here, name)
    return node


def _read_value(key: str, text: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        parsed: Any = OmegaConf.create(f"value: {text}" if text.strip() else "value: ''")
        content: Any = OmegaConf.to_container(parsed, resolve=False)
        return content["value"]
    except (YAMLError, OmegaConfBaseException) as error:
        message = f"--set: the value {text!r} is no valid YAML: {' '.join(str(error).split())}"
        raise ConfigError(message, key_path=key) from error


def _next_key(node: Any, parts: list[str]) -> tuple[Any, list[str]]:
    """Returns the next key of the path and what follows it; a key of the node may span several dotted parts."""
    if isinstance(node, list | tuple):
        return (int(parts[0]) if parts[0].isdigit() else parts[0]), parts[1:]
    if isinstance(node, dict):
        named = {str(key): key for key in node}
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if name in named:
                return named[name], parts[length:]
    return parts[0], parts[1:]


def _has_defaults(name: str) -> bool:
    """Tells whether a section of the fixed form can be left out of the file and still be changed key by key."""
    annotation = Config.model_fields[name].annotation
    models = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return any(
        issubclass(kind, BaseModel)
        and not issubclass(kind, Section)
        and not any(entry.is_required() for entry in kind.model_fields.values())
        for kind in models
    )
