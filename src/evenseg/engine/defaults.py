"""A configuration with everything in it that its parts take by default."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from evenseg.config import Config, Section, dump_content, keyword_model, look_up
from evenseg.data import DATASETS, SAMPLERS, TRANSFORMS
from evenseg.engine.build import model_section
from evenseg.engine.form import loss_defaults
from evenseg.engine.optim import OPTIMIZERS, SCHEDULES
from evenseg.losses import LOSSES
from evenseg.losses.build import build_single_loss
from evenseg.models import MODELS, more_parameters

# what the run fills in where it is not given, from the data or from how many processes there are
_FILLED_IN = ("ignore_index", "sync", "num_classes", "in_channels")
_NOTE = "# ignore_index and sync of losses and crops, and num_classes and in_channels of the model, are filled in from the data\n"


def dump_with_defaults(config: Config) -> str:
    """Returns the configuration as YAML with the defaults of every part written out; read back, it is the same run.

    Args:
        config: whose types and keywords are right, see `check_signatures`.
    """
    content = config.model_dump()
    for name in ("train_dataset", "val_dataset", "test_dataset"):
        section = getattr(config, name)
        if section is not None:
            kind = look_up(DATASETS, section, "data set", name)
            content[name] = _filled(section, kind, last=("transforms",))
            content[name]["transforms"] = [
                _filled(transform, look_up(TRANSFORMS, transform, "transform", name)) for transform in section.transforms
            ]
    # the adapter has `pretrained` for it, with another default
    kind, _ = model_section(config)
    more = more_parameters(config.model.type, config.model.keywords) if config.model.type in MODELS else None
    content["model"] = _filled(config.model, kind, but=("encoder_weights",), more=more)
    for name, table, filled in (
        ("optimizer", OPTIMIZERS, ("params",)),
        ("lr_scheduler", SCHEDULES, ()),
        ("sampler", SAMPLERS, ("length", "seed", "facts")),
    ):
        section = getattr(config, name)
        content[name] = _filled(section, look_up(table, section, name, name), but=filled)
    if config.loss is not None:
        content["loss"] = _loss_section(config.loss)
    if config.losses is not None:
        content["losses"] = {name: _loss_section(section) for name, section in config.losses.items()}
    return dump_content(content, _NOTE)


def _filled(
    section: Section, kind: Any, *, but: Collection[str] = (), last: tuple[str, ...] = (), more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns a section with the defaults of its type's signature behind what is given."""
    fields = keyword_model(kind, injected=_FILLED_IN, more=more).model_fields
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items() if not field.is_required()}
    given = {key: value for key, value in section.model_dump().items() if key not in last}
    return given | _missing(defaults, given, but) | {key: () for key in last}


def _loss_section(section: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a loss section with the defaults of every loss in it."""
    if "type" in section:
        found = _loss({key: value for key, value in section.items() if key != "phases"})
    else:
        found = {**section, "types": [_loss(entry) for entry in section["types"]]}
    phases = section.get("phases")
    return found if phases is None else found | {"phases": [_loss_section(phase) for phase in phases]}


def _loss(section: Mapping[str, Any]) -> dict[str, Any]:
    if "losses" in section:
        return {**section, "losses": [_loss(entry) for entry in section["losses"]]}
    defaults = loss_defaults(section["type"])
    if section["type"] in LOSSES:
        # the keywords that all losses share have defaults of each class, so a built one tells
        built = build_single_loss(section)
        shared = sorted(getattr(built, "common_options", ()))
        defaults |= {key: getattr(built, key) for key in shared if key not in defaults and hasattr(built, key)}
    return {**section, **_missing(defaults, section, ())}


def _missing(defaults: Mapping[str, Any], given: Mapping[str, Any], but: Collection[str]) -> dict[str, Any]:
    left_out = {*given, *but, *_FILLED_IN}
    return {name: value for name, value in defaults.items() if name not in left_out and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Tells whether YAML can express a value; a default that it cannot is none to write down."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or type(value) in (bool, int, float, str)
