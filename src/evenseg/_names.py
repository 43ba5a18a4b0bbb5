"""The wording for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# of a longer list only the nearest names are worth reading
_MOST = 8


def nearest_name(name: str, allowed: Iterable[str]) -> str | None:
    """Returns the name in `allowed` that `name` was probably meant to be, or None when nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in allowed}
    # a part of a name (UNet of LightUNet) says more than letters in common (with ENet)
    whole = [folded for folded in by_folded if len(name) > 2 and name.casefold() in folded]
    if whole:
        return by_folded[min(whole, key=len)]
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[close[0]] if close else None


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> str:
    """Returns the message for a name that is not in `allowed`: what is allowed, then the nearest name."""
    names = list(allowed)
    message = f"unknown {kind} {str(name)!r}; allowed: {listed(names, str(name))}"
    nearest = nearest_name(str(name), names)
    return f"{message}; did you mean {nearest!r}?" if nearest else message


def listed(names: Iterable[str], name: str = "", most: int = _MOST) -> str:
    """Returns a list for a message: in its order if it is short, else its entries nearest to `name` and their number."""
    every = list(names)
    if len(every) <= most:
        return ", ".join(every) or "none"
    first = nearest_name(name, every)
    order = sorted(every, key=lambda other: (other != first, -_likeness(name, other)))
    return f"{', '.join(order[:most])}, ... ({len(every)} in all)"


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name.casefold(), other.casefold()).ratio() if name else 0.0
