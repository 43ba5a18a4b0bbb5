"""Word of what takes its time in silence: the compilation of the CPU kernels. Whoever wants to hear of it sets `on_compiling`."""

from __future__ import annotations

from collections.abc import Callable

on_compiling: Callable[[], None] | None = None
_told = False


def compiling() -> None:
    """Calls `on_compiling`, the first time in this process."""
    global _told
    if on_compiling is not None and not _told:
        _told = True
        on_compiling()
