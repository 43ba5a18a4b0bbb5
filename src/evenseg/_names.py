"""The wording for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# of a longer list only the nearest names are worth reading
_LIST_ALL = 40


def nearest_name(name: str, allowed: Iterable[str]) -> str | None:
    """Returns the name in `allowed` that `name` was probably meant to be, or None when nothing is close."""
    near = _nearest(name, allowed, 1)
    return near[0] if near else None


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Returns the message for a name that is not in `allowed`: the list if it is short, then the nearest name."""
    names = list(allowed)
    if len(names) > _LIST_ALL:
        near = _nearest(str(name), names, 3)
        message = f"unknown {kind} {str(name)!r}, none of the {len(names)} that there are"
        return message + (f"; the nearest are {', '.join(near)}" if near else "")
    message = f"unknown {kind} {str(name)!r}; allowed: {', '.join(names) or 'none'}"
    nearest = nearest_name(str(name), names)
    return f"{message}; did you mean {nearest!r}?" if nearest else message


def _nearest(name: str, allowed: Iterable[str], count: int) -> list[str]:
    by_folded = {candidate.casefold(): candidate for candidate in allowed}
    # a part of a name (UNet of LightUNet) says more than letters in common (with ENet)
    whole = sorted((folded for folded in by_folded if len(name) > 2 and name.casefold() in folded), key=len)
    if whole:
        return [by_folded[folded] for folded in whole[:count]]
    return [by_folded[close] for close in difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.5)]
