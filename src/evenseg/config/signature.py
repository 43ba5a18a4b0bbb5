"""Checking the keywords of an open section against the signature of what it builds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from typing_extensions import Unpack

from evenseg.config.errors import ConfigError, join_path, unknown_name
from evenseg.config.load import validation_error
from evenseg.config.schema import Section


def look_up(table: Mapping[str, Any], section: Section, kind: str, key_path: str) -> Any:
    """Returns the entry of `table` that `section.type` names; ConfigError with the nearest name otherwise."""
    if section.type not in table:
        raise ConfigError(unknown_name(f"{kind} type", section.type, table), key_path=join_path(key_path, "type"))
    return table[section.type]


def check_keywords(
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    *,
    key_path: str = "",
    injected: Collection[str] = (),
    more: Mapping[str, inspect.Parameter] | None = None,
) -> dict[str, Any]:
    """Checks keywords against a signature, types included, and returns them converted (a list to a tuple, say).

    Args:
        function: a function or class; its parameter annotations are what pydantic checks.
        keywords: what the configuration gives.
        key_path: of the section, for messages.
        injected: parameters that the caller fills in; required ones among them need not be given.
        more: further parameters, where the function passes `**keywords` on to something else.

    Returns:
        The given keywords, converted.

    Raises:
        ConfigError: an unknown or missing keyword or a value of the wrong type, naming its key path.
    """
    target = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):
        # annotations that only exist for type checkers: names are still checked
        hints = {}
    parameters = dict(inspect.signature(function).parameters) | dict(more or {})
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and get_origin(hints.get(name)) is Unpack:
            # **options: Unpack[SomeTypedDict], keywords that several types share
            fields |= {key: (value, None) for key, value in get_type_hints(get_args(hints[name])[0]).items()}
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty and name not in injected
        annotation = hints.get(name, parameter.annotation)
        if isinstance(annotation, str) or annotation is parameter.empty:
            annotation = Any
        fields[name] = (annotation, ...) if required else (annotation, None)
    model: type[BaseModel] = create_model(
        "Keywords",
        __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()),
        **fields,
    )
    try:
        checked = model.model_validate(dict(keywords))
    except ValidationError as error:
        raise validation_error(error, model, key_path) from error
    return {name: getattr(checked, name) for name in checked.model_fields_set}
