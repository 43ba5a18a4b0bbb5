"""The largest memory of a run."""

from __future__ import annotations

from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures from `start` to `read`: what torch allocated on the GPU, else what the process occupied (Linux).

    The process's memory counts Python, torch and the images in it, so it tells runs of one machine apart and no more.
    """

    def __init__(self) -> None:
        self._process = False

    def start(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            # 5: begin the high-water mark anew, or the largest of several runs in one process would count for all
            _CLEAR.write_text("5")
            self._process = True
        except OSError:
            self._process = False

    def read(self) -> int | None:
        """Returns bytes; None where it cannot be measured."""
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
            return int(torch.cuda.max_memory_allocated())
        if not self._process:
            return None
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
        return None
