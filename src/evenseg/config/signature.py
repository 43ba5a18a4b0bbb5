"""Checking the keywords of an open section against the signature of what it builds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from typing_extensions import Unpack

from evenseg._dotted import import_dotted
from evenseg.config.errors import ConfigError, join_path, unknown_name
from evenseg.config.load import validation_error
from evenseg.config.section import Section


def look_up(table: Mapping[str, Any], section: Section, kind: str, key_path: str, base: type | None = None) -> Any:
    """Returns what `section.type` names: an entry of `table`, or anything by its import path `package.module.Name`.

    Args:
        table: name -> class.
        section: with the type.
        kind: what the table holds, for messages.
        key_path: of the section.
        base: class that something named by its import path must derive from.

    Raises:
        ConfigError: a name that is not in the table, with the nearest one, or a path that cannot be imported.
    """
    name = section.type
    if name in table:
        return table[name]
    where = join_path(key_path, "type")
    if "." not in name:
        raise ConfigError(unknown_name(f"{kind} type", name, table), key_path=where)
    try:
        return import_dotted(name, base)
    except ValueError as error:
        raise ConfigError(str(error), key_path=where) from error


def check_keywords(
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    *,
    key_path: str = "",
    injected: Collection[str] = (),
    filled: Collection[str] = (),
    more: Mapping[str, inspect.Parameter] | None = None,
) -> dict[str, Any]:
    """Checks keywords against a signature, types included, and returns them converted (a list to a tuple, say).

    Args:
        function: a function or class; its parameter annotations are what pydantic checks.
        keywords: what the configuration gives.
        key_path: of the section, for messages.
        injected: parameters that the caller fills in where they are not given.
        filled: parameters that the caller fills in and that may not be given.
        more: further parameters, where the function passes `**keywords` on to something else.

    Returns:
        The given keywords, converted.

    Raises:
        ConfigError: an unknown or missing keyword or a value of the wrong type, naming its key path.
    """
    if given := [name for name in filled if name in keywords]:
        raise ConfigError("is filled in by the run; leave it out", key_path=join_path(key_path, given[0]))
    model = keyword_model(function, injected=injected, filled=filled, more=more)
    try:
        checked = model.model_validate(dict(keywords))
    except ValidationError as error:
        raise validation_error(error, model, keywords, key_path) from error
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def keyword_model(
    function: Callable[..., Any],
    *,
    injected: Collection[str] = (),
    filled: Collection[str] = (),
    more: Mapping[str, inspect.Parameter] | None = None,
) -> type[BaseModel]:
    """Returns a pydantic model with one field per keyword of a signature; see `check_keywords`."""
    target = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):
        # annotations that only exist for type checkers: names are still checked
        hints = {}
    parameters = dict(inspect.signature(function).parameters) | dict(more or {})
    fields: dict[str, Any] = {}
    # what a function of someone else passes on cannot be known; our own ones name it in `more`
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown: Literal["allow", "forbid"] = "allow" if passes_on and more is None and not is_ours(function) else "forbid"
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and get_origin(hints.get(name)) is Unpack:
            # **options: Unpack[SomeTypedDict], keywords that several types share
            shared = getattr(function, "option_defaults", {})
            fields |= {key: (value, shared.get(key)) for key, value in get_type_hints(get_args(hints[name])[0]).items()}
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name in filled:
            continue
        required = parameter.default is parameter.empty and name not in injected
        annotation = hints.get(name, parameter.annotation)
        if isinstance(annotation, str) or annotation is parameter.empty:
            annotation = Any
        default = None if parameter.default is parameter.empty else parameter.default
        fields[name] = (annotation, ...) if required else (annotation, default)
    config = ConfigDict(extra=unknown, arbitrary_types_allowed=True, protected_namespaces=())
    model: type[BaseModel] = create_model("Keywords", __config__=config, **fields)
    return model


def is_ours(function: Callable[..., Any]) -> bool:
    """Tells whether a class or function is part of this package."""
    return function.__module__.partition(".")[0] == "evenseg"


def construct(function: Callable[..., Any], keywords: Mapping[str, Any], *positional: Any, key_path: str = "") -> Any:
    """Returns function(*positional, **keywords); a ValueError becomes a ConfigError that names the keyword at fault.

    The keyword at fault is the one without which no error comes, so this is for parts that are cheap to build.
    """
    try:
        return function(*positional, **keywords)
    except ConfigError:
        raise
    except ValueError as error:
        blamed = [name for name in keywords if _builds(function, positional, keywords, without=name)]
        if not blamed and len(keywords) == 1:
            blamed = list(keywords)
        path = join_path(key_path, blamed[0]) if len(blamed) == 1 else key_path
        raise ConfigError(" ".join(str(error).split()), key_path=path) from error


def _builds(function: Callable[..., Any], positional: Any, keywords: Mapping[str, Any], *, without: str) -> bool:
    try:
        function(*positional, **{name: value for name, value in keywords.items() if name != without})
    except (ValueError, TypeError):
        return False
    return True
