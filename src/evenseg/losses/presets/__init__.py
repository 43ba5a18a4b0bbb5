"""Other libraries' losses by name: `preset("smp.dice", smooth=1.0)` gives that library's value and gradient.

A preset is a loss section of ours made from the other library's keywords, so it composes in MixedLoss and in a configuration
(`type: smp.dice`) like any other loss. PRESETS is the table of them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from evenseg._dotted import import_dotted
from evenseg.losses.options import nearest
from evenseg.losses.presets import kornia, mmseg, monai, paddleseg, research, smp
from evenseg.losses.presets.spec import IGNORE_NAMES, Preset, Section

PRESETS: dict[str, Preset] = {
    **smp.PRESETS,
    **monai.PRESETS,
    **mmseg.PRESETS,
    **paddleseg.PRESETS,
    **kornia.PRESETS,
    **research.PRESETS,
}
PROJECTS = tuple(dict.fromkeys(name.partition(".")[0] for name in PRESETS))
OURS = ("engine", "sync", "method", "num_bins")
"""Keywords of our losses that every preset hands on to the losses that take them."""


def preset(name: str, **keywords: Any) -> nn.Module:
    """The loss of another library: its value and its gradient, computed by ours.

    Args:
        name: `library.loss`, a key of PRESETS: "smp.dice", "monai.dice_ce", "paddleseg.ohem", ...
        **keywords: that library's own keywords; `ignore_index` is understood by all; and ours: `engine`, `sync`, and for Lovász
            losses `method` and `num_bins`. Their default is method="sort", the exact value and gradient; method="histogram"
            is as close as docs/lovasz_accuracy.md says, and many times faster.

    Returns:
        A loss called as `loss(logits, target, pixel_weight=None)`. It takes logits, whatever theirs takes. Where theirs fails
        (NaN, an exception on ignored images), it does what every loss of ours does: docs/migrating.md lists the cases.

    Raises:
        ValueError: unknown preset or keyword, with the nearest name; a combination that is not offered.

    Example:
        >>> import torch
        >>> from evenseg.losses import preset
        >>> loss = preset("smp.dice", mode="multiclass", smooth=1.0)
        >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).item()
        0.25
    """
    from evenseg.losses.build import build_single_loss

    loss = build_single_loss(preset_section(name, keywords))
    loss.preset_name = name  # type: ignore[assignment]
    return loss


def preset_section(name: str, keywords: Mapping[str, Any], *, ignore_index: int | None = None, sync: bool | None = None) -> Section:
    """The loss section that a preset stands for.

    Args:
        name: key of PRESETS.
        keywords: the other library's, and OURS.
        ignore_index: used where the keywords do not say.
        sync: likewise.

    Raises:
        ValueError: as `preset`.
    """
    if name not in PRESETS:
        raise ValueError(unknown_preset(name))
    chosen = PRESETS[name]
    theirs = {key: value for key, value in keywords.items() if key not in OURS}
    given = [key for key in IGNORE_NAMES if key in theirs]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} of {name} mean the same; give one")
    if chosen.ignore_name is not None:
        if given:
            theirs[chosen.ignore_name] = theirs.pop(given[0])
        elif ignore_index is not None:
            theirs[chosen.ignore_name] = ignore_index
    for key in theirs:
        if key not in chosen.keywords:
            raise ValueError(f"{name} has no keyword {key!r}; {nearest(key, [*chosen.keywords, *OURS])}")
    try:
        section = chosen.section(**theirs)
    except TypeError as error:  # a required keyword
        raise ValueError(f"{name}: {str(error).partition(') ')[2] or error}") from error
    ours = {key: keywords[key] for key in OURS if key in keywords}
    if sync is not None:
        ours.setdefault("sync", sync)
    # sorted errors of several ranks cannot be added
    ours.setdefault("method", "histogram" if ours.get("sync") else "sort")
    used = _hand_on(section, ours)
    # a loss on whole maps has one engine
    unused = [key for key in keywords if key in OURS and key not in (*used, "engine")]
    if unused:
        raise ValueError(f"{name} has no keyword {unused[0]!r}; {nearest(unused[0], chosen.keywords)}")
    return section


def _hand_on(section: Section, ours: Mapping[str, Any]) -> set[str]:
    """Adds our keywords to the losses of a section that take them; returns those that some loss took."""
    if "losses" in section:
        return {key for part in section["losses"] for key in _hand_on(part, ours)}
    if "loss" in section:
        return _hand_on(section["loss"], ours)
    from evenseg.losses import LOSSES
    from evenseg.losses.base import keywords

    allowed = keywords(LOSSES.get(section["type"]) or import_dotted(section["type"], nn.Module))
    taken = {key: value for key, value in ours.items() if key in allowed}
    section |= taken
    return set(taken)


def unknown_preset(name: str) -> str:
    """The message for a name that is none, with the nearest one."""
    project, _, loss = str(name).partition(".")
    siblings = [key for key in PRESETS if key.startswith(f"{project}.")]
    if not siblings:
        return f"unknown preset {name!r}; {nearest(str(name), PRESETS)}"
    # the library is right: only the rest of the name says what was meant
    near = difflib.get_close_matches(loss, [key.partition(".")[2] for key in siblings], n=1, cutoff=0.6)
    meant = f"did you mean {f'{project}.{near[0]}'!r}?" if near else f"of {project} there are {', '.join(siblings)}"
    return f"unknown preset {name!r}; {meant}"


__all__ = ["OURS", "PRESETS", "PROJECTS", "Preset", "preset", "preset_section", "unknown_preset"]
