"""From the `loss:` section of a config to one module for all outputs of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from evenseg._collect import Collector
from evenseg._dotted import import_dotted
from evenseg.losses.base import Annotated, StatisticLoss, keywords, required_keywords
from evenseg.losses.maps import MapLoss, context_for
from evenseg.losses.mixed import MixedLoss, refuse_annotated, unique_names
from evenseg.losses.options import nearest, number
from evenseg.losses.own import OwnLoss, loss_name, own_keywords
from evenseg.losses.phases import PhasedLoss, first_step
from evenseg.losses.presets import PRESETS, PROJECTS, preset_section, unknown_preset
from evenseg.losses.presets.adapted import Adapted


class LossConfigError(ValueError):
    """A loss section that cannot be built. `key_path` says where, the message what and what would be right.

    Where several things are wrong, the message has a line for each, `errors` holds them one by one, and the first gives
    `key_path`.
    """

    def __init__(self, key_path: str, message: str):
        self.key_path = key_path
        self.errors: tuple[LossConfigError, ...] = (self,)
        super().__init__(f"{key_path}: {message}")

    @classmethod
    def together(cls, errors: Sequence[LossConfigError]) -> LossConfigError:
        """One error for several, or the only one itself."""
        if len(errors) == 1:
            return errors[0]
        joined = cls(errors[0].key_path, "")
        joined.errors = tuple(errors)
        joined.args = ("\n".join(map(str, errors)),)
        return joined


def build_single_loss(
    section: Any,
    *,
    path: str = "loss",
    num_classes: int | None = None,
    ignore_index: int | None = None,
    sync: bool | None = None,
) -> nn.Module:
    """One loss from {"type": name, **keywords}; MixedLoss holds such mappings under "losses".

    A type with a dot in it is a preset, `smp.dice`, with that library's keywords (see :func:`evenseg.losses.preset`), or an import
    path, `package.module.MyLoss` (see :class:`evenseg.losses.own.OwnLoss`).

    Args:
        section: the mapping.
        path: where it stands, for errors.
        num_classes: classes of the data set; class weights of another length are an error.
        ignore_index: given to every loss that does not set one.
        sync: likewise.

    Raises:
        LossConfigError: unknown type or keyword, wrong values, counts that do not match.
    """
    from evenseg.losses import LOSSES

    if not isinstance(section, Mapping):
        raise LossConfigError(path, f"a loss is a mapping with a 'type', got {section!r}")
    options = {str(k): v for k, v in section.items()}
    name = options.pop("type", None)
    if name is None:
        raise LossConfigError(path, f"has no 'type'; {nearest('', LOSSES)}")
    if isinstance(name, str) and name in PRESETS:
        return _build_preset(name, options, path, num_classes=num_classes, ignore_index=ignore_index, sync=sync)
    cls, allowed, foreign = _look_up(name, path)
    found = Collector(LossConfigError)
    for key in options:
        if allowed is not None and key not in allowed:
            found.add(LossConfigError(f"{path}.{key}", f"{name} has no keyword {key!r}; {nearest(key, allowed)}"))
    for key in [] if foreign or cls is MixedLoss else required_keywords(cls):
        if key not in options:
            found.add(LossConfigError(path, f"{name} needs the keyword {key!r}"))
    if cls is MixedLoss:
        losses, coef = options.get("losses"), options.get("coef")
        numbers, built = [], []
        if not isinstance(losses, Sequence) or isinstance(losses, str) or not losses:
            found.add(LossConfigError(f"{path}.losses", f"must be a non-empty list of losses, got {losses!r}"))
        else:
            with found:
                numbers = _coefficients(coef, len(losses), f"{path}.coef", "losses of the mix")
            known: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index, "sync": sync}
            for i, loss in enumerate(losses):
                with found:
                    built.append(build_single_loss(loss, path=f"{path}.losses[{i}]", **known))
        found.finish()
        return MixedLoss(built, numbers)
    found.finish()
    if cls is Adapted and isinstance(options.get("loss"), Mapping):
        inner = options["loss"]
        options["loss"] = build_single_loss(inner, path=f"{path}.loss", num_classes=num_classes, ignore_index=ignore_index, sync=sync)
    if ignore_index is not None and allowed is not None and "ignore_index" in allowed:
        options.setdefault("ignore_index", ignore_index)
    if sync is not None and allowed is not None and "sync" in allowed:
        options.setdefault("sync", sync)
    try:
        loss = cls(**options)
    except (ValueError, TypeError) as error:
        culprit = next((k for k in options if re.match(rf"{re.escape(k)}\b", str(error))), None)
        raise LossConfigError(f"{path}.{culprit}" if culprit else path, str(error).removeprefix(f"{culprit}: ")) from error
    if num_classes is not None and isinstance(loss, (StatisticLoss, MapLoss)):
        _check_against_classes(loss, num_classes, path)
    return OwnLoss(loss) if foreign else loss


def _build_preset(name: str, options: Mapping[str, Any], path: str, *, num_classes: int | None, **known: Any) -> nn.Module:
    """The loss of a preset; errors name the keyword as it was given."""
    try:
        section = preset_section(name, options, **known)
        # what the preset does not say is not for the data set to say: it is a convention of the other library
        loss = build_single_loss(section, num_classes=num_classes)
    except ValueError as error:
        # the keyword of ours at fault is not one that was given
        inner = [str(one).partition(": ")[2] for one in getattr(error, "errors", ())]
        message = f"{name}: {'; '.join(inner)}" if inner else str(error)
        culprit = next((k for k in options if re.match(rf"{re.escape(k)}\b|.*no keyword '{re.escape(k)}'", message)), None)
        raise LossConfigError(f"{path}.{culprit}" if culprit else path, message) from error
    loss.preset_name = name  # type: ignore[assignment]
    return loss


def _look_up(name: Any, path: str) -> tuple[type[nn.Module], set[str] | None, bool]:
    """The class of a type, its keywords (None where it takes any), and whether it is a loss of someone else."""
    from evenseg.losses import LOSSES

    if isinstance(name, str) and name not in LOSSES and "." in name:
        try:
            cls = import_dotted(name, nn.Module)
        except ValueError as error:
            message = unknown_preset(name) if name.count(".") == 1 and name.split(".")[0] in PROJECTS else str(error)
            raise LossConfigError(f"{path}.type", message) from error
        if cls is Adapted:
            return cls, own_keywords(cls), False
        if not issubclass(cls, (StatisticLoss, MapLoss, MixedLoss)):
            return cls, own_keywords(cls), True
    elif not isinstance(name, str) or name not in LOSSES:
        raise LossConfigError(f"{path}.type", f"unknown loss {name!r}; {nearest(str(name), LOSSES)}")
    else:
        cls = LOSSES[name]
    return cls, {"losses", "coef"} if cls is MixedLoss else keywords(cls), False


def _check_against_classes(loss: StatisticLoss | MapLoss, num_classes: int, path: str) -> None:
    if loss.weight is not None:
        expected = loss.weight_length(1 if loss.mode == "binary" else num_classes)
        if loss.weight.numel() != expected:
            raise LossConfigError(f"{path}.weight", f"has {loss.weight.numel()} entries, {expected} are needed for {num_classes} classes")
    if isinstance(loss, MapLoss):
        try:
            loss.check_num_classes(num_classes)
        except ValueError as error:
            raise LossConfigError(f"{path}.{str(error).partition(':')[0]}", str(error).partition(": ")[2]) from error
    channels = 1 if loss.mode == "binary" else num_classes
    for name in ("alpha", "pos_weight", "frequencies"):
        values = getattr(loss, name, None)
        allowed = (channels,) if name == "frequencies" else (1, channels)
        if isinstance(values, Tensor) and values.numel() not in allowed:
            raise LossConfigError(f"{path}.{name}", f"has {values.numel()} entries, {channels} are needed for {num_classes} classes")
    classes = getattr(loss, "classes", "all")
    if not isinstance(classes, str) and max(classes) >= channels:
        raise LossConfigError(f"{path}.classes", f"{list(classes)} does not fit {num_classes} classes")
    if loss.mode == "binary" and num_classes != 2:
        raise LossConfigError(f"{path}.mode", f"'binary' needs 2 classes, the data set has {num_classes}; use 'multiclass'")


def _coefficients(coef: Any, expected: int | None, path: str, what: str) -> list[float]:
    if not isinstance(coef, Sequence) or isinstance(coef, str) or not coef:
        raise LossConfigError(path, f"must be a list of numbers, got {coef!r}")
    if expected is not None and len(coef) != expected:
        raise LossConfigError(path, f"has {len(coef)} entries for {expected} {what}")
    try:
        return [number(f"entry {i}", c) for i, c in enumerate(coef)]
    except ValueError as error:
        raise LossConfigError(path, str(error)) from None


class OutputsLoss(nn.Module):
    """sum over the outputs h of coef_h loss_h(output_h, target): what `build_loss` returns.

    Outputs are one tensor, a list of them, or a mapping whose values count in their order, main output first, like
    torchvision's {"out": logits, "aux": logits}.
    Outputs of another spatial size than the target are resized to it (bilinear, align_corners False). `terms` holds the
    detached value of every term by name after a call; with several outputs names start with "output0.", "output1."...
    """

    def __init__(self, losses: Sequence[nn.Module], coef: Sequence[float]):
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.coef = list(coef)
        self.terms: dict[str, Tensor] = {}
        self.requires = tuple(dict.fromkeys(name for loss in losses for name in getattr(loss, "requires", ())))

    def forward(
        self,
        outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
        target: Tensor,
        pixel_weight: Tensor | None = None,
        *,
        annotated: Annotated = None,
        **context: Any,
    ) -> Tensor:
        heads = _heads(outputs)
        if len(heads) != len(self.losses):
            raise ValueError(
                f"the model gives {len(heads)} output{'s' if len(heads) != 1 else ''}, the loss section has {len(self.losses)} "
                "(one entry of loss.coef per output)"
            )
        self.terms = {}
        total: Tensor | None = None
        for h, (head, loss, c) in enumerate(zip(heads, self.losses, self.coef)):
            extra = context_for(loss, context)
            if annotated is not None:
                refuse_annotated(loss, loss_name(loss))
                extra["annotated"] = annotated
            value = loss(resize_to(head, target), target, pixel_weight, **extra)
            inner = getattr(loss, "terms", None) or {loss_name(loss): value.detach()}
            prefix = f"output{h}." if len(heads) > 1 else ""
            self.terms |= {prefix + k: v for k, v in inner.items()}
            total = c * value if total is None else total + c * value
        assert total is not None
        return total

    def extra_repr(self) -> str:
        return f"coef={self.coef}"


def _heads(outputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    """The logits of every output, main output first."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if not isinstance(outputs, (Mapping, Sequence)):
        raise ValueError(f"the model gives a {type(outputs).__name__}; a loss takes a tensor, a list or a mapping of them")
    named = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    heads = []
    for name, head in named:
        if not isinstance(head, Tensor):
            raise ValueError(f"output {name!r} of the model is a {type(head).__name__}; a loss takes tensors of logits")
        heads.append(head)
    return heads


def resize_to(logits: Tensor, target: Tensor) -> Tensor:
    """Logits resized to the spatial size of the target, if it differs."""
    size = target.shape[-(logits.dim() - 2) :]
    if logits.dim() < 3 or logits.shape[2:] == size:
        return logits
    kind = {3: "linear", 4: "bilinear", 5: "trilinear"}[logits.dim()]
    return F.interpolate(logits, size=size, mode=kind, align_corners=False)


def build_loss(
    section: Mapping[str, Any],
    *,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    sync: bool | None = None,
    iters: int | None = None,
    path: str = "loss",
) -> nn.Module:
    """The module of a `loss:` section, called as `loss(outputs, target)` with one tensor or a list or mapping of them.

    Args:
        section: {"types": [loss, ...], "coef": [number, ...]}: one entry of each per model output, main output first; a
            single type serves all outputs. A bare {"type": ...} stands for one output with coef 1. With
            "phases": [{"start": step, "types": [...], "coef": [...]}, ...] other losses take over at the given steps,
            counted from 0, or fractions of `iters`; a phase without coef keeps the one before it.
        num_classes: classes of the data set, against which weights and class lists are checked.
        ignore_index: label that is ignored, for every loss that does not set its own.
        sync: whether the losses are those of the global batch under torch.distributed, for every loss that does not say.
        iters: steps of the training: what a phase's start as a fraction is a fraction of, and where no phase may begin.
        path: where the section stands in its file, for errors.

    Returns:
        A module whose `terms` holds the detached value of every term by name after a call. With phases it is a
        :class:`PhasedLoss`, to be told the step with `set_step`.

    Raises:
        LossConfigError: with `key_path` and the nearest valid name.

    Example:
        >>> import torch
        >>> from evenseg import build_loss
        >>> loss = build_loss({"types": [{"type": "CrossEntropyLoss"}], "coef": [1, 0.4]})
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> round(loss([torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)], target).item(), 4)
        0.9704
    """
    if not isinstance(section, Mapping):
        raise LossConfigError(path, f"must be a mapping with 'types' and 'coef', got {section!r}")
    known: dict[str, Any] = {"num_classes": num_classes, "ignore_index": ignore_index, "sync": sync}
    losses, starts = [], [0]
    found = Collector(LossConfigError)
    if "type" in section:
        bare = {key: value for key, value in section.items() if key != "phases"}
        with found:
            losses.append(OutputsLoss([build_single_loss(bare, path=path, **known)], [1.0]))
    else:
        with found:
            _only_keys(section, ("types", "coef", "phases"), path)
        with found:
            losses.append(_outputs_loss(section, path, **known))
    if section.get("phases") is None:
        found.finish()
        return losses[0]
    with found:
        for start, phase, where in _phases(section, path, iters):
            with found:
                losses.append(_outputs_loss(phase, where, **known))
            starts.append(start)
    found.finish()
    return PhasedLoss(losses, starts)


def _outputs_loss(section: Mapping[str, Any], path: str, **known: Any) -> OutputsLoss:
    """The loss of `types` and `coef`, one entry of each per model output."""
    types = section.get("types")
    if not isinstance(types, Sequence) or isinstance(types, str) or not types:
        raise LossConfigError(f"{path}.types", f"must be a non-empty list of losses, one per model output, got {types!r}")
    found = Collector(LossConfigError)
    coef, losses = [], []
    with found:
        coef = _coefficients(section.get("coef"), None if len(types) == 1 else len(types), f"{path}.coef", "entries of types")
    entries = list(types) * max(1, len(coef)) if len(types) == 1 else list(types)
    for i, entry in enumerate(entries):
        with found:
            losses.append(build_single_loss(entry, path=f"{path}.types[{0 if len(types) == 1 else i}]", **known))
    found.finish()
    return OutputsLoss(losses, coef)


def _phases(section: Mapping[str, Any], path: str, iters: int | None) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """(start, section with types and coef, key path) of every later phase. A phase without coef keeps the one before it."""
    phases = section["phases"]
    if not isinstance(phases, Sequence) or isinstance(phases, str) or not phases:
        raise LossConfigError(f"{path}.phases", f"must be a non-empty list of {{start, types, coef}}, got {phases!r}")
    before, coef = 0, section.get("coef", [1])
    for i, phase in enumerate(phases):
        where = f"{path}.phases[{i}]"
        if not isinstance(phase, Mapping):
            raise LossConfigError(where, f"must be a mapping with 'start', 'types' and 'coef', got {phase!r}")
        _only_keys(phase, ("start", "types", "coef"), where)
        given = phase.get("start")
        try:
            start = first_step(given, iters)
        except ValueError as error:
            raise LossConfigError(f"{where}.start", str(error)) from None
        shown = f"{given}" if start == given else f"{given}, which is step {start} of {iters}"
        if start <= before:
            what = "the phase before it begins" if i else "training begins"
            raise LossConfigError(f"{where}.start", f"must come after step {before}, where {what}; got {shown}")
        if iters is not None and start >= iters:
            moves = "; a fraction like 0.5 moves with iters" if start == given else ""
            raise LossConfigError(f"{where}.start", f"is {shown}, but the run ends after {iters} steps (iters){moves}")
        before, coef = start, phase.get("coef", coef)
        yield start, {"types": phase.get("types"), "coef": coef}, where


def _only_keys(section: Mapping[str, Any], allowed: tuple[str, ...], path: str) -> None:
    found = Collector(LossConfigError)
    for key in section:
        if key not in allowed:
            found.add(LossConfigError(f"{path}.{key}", f"unknown key; {nearest(str(key), allowed)}"))
    found.finish()


__all__ = ["LossConfigError", "OutputsLoss", "PhasedLoss", "build_loss", "build_single_loss", "unique_names"]
