"""How the CPU kernels are compiled and cached.

numba keeps compiled kernels on disk and looks only at the file a kernel stands in: a constant or an inlined function that
changes in another file would leave old machine code in use. So every cached kernel is stamped with a digest of all the files
that kernels are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba as nb
from numba.core import event

from evenseg import _notice

# contract: fused multiply-add; reassoc, arcp, nsz: vector reductions. Not nnan or ninf: ignored pixels may hold NaN.
FASTMATH = {"contract", "reassoc", "arcp", "nsz"}


class _Listener(event.Listener):
    """Passes word of our kernels' compilations on; a kernel that is read from the cache is none."""

    def on_start(self, event: Any) -> None:
        function = getattr((event.data or {}).get("dispatcher"), "py_func", None)
        if getattr(function, "__module__", "").startswith("evenseg."):
            _notice.compiling()

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Listener())


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest of the sources of all kernels."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "bins.py", here.parent / "slots.py"]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _compile(function: Callable[..., Any], fastmath: bool | set[str]) -> Callable[..., Any]:
    dispatcher = nb.njit(function, nogil=True, fastmath=fastmath, error_model="numpy")
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # no folder to write to: compiled again in every process
        return dispatcher
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is None or not hasattr(index, "_source_stamp"):  # a numba that keeps its stamp elsewhere: rather slow than wrong
        return nb.njit(function, nogil=True, fastmath=fastmath, error_model="numpy")
    index._source_stamp = source_digest()
    return dispatcher


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function that releases the GIL and respects NaN."""
    return _compile(function, FASTMATH)


def loose_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function that may disregard NaN: only so are reductions to an extreme vectorised."""
    return _compile(function, True)
