"""Labels outside the classes on the GPU: noticed without waiting for the device.

Asking the device for the number of bad labels would stall the host in every step. So the sums of such a batch are NaN at once,
the number is copied to the host in the background, and the error is raised at the next call that finds the copy done.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from evenseg.statistics.labels import NO_IGNORE, describe_bad_labels

_pending: deque[tuple[Tensor, torch.cuda.Event, int, int]] = deque(maxlen=64)


def check_labels(bad: Tensor, flat: Tensor, labels_to: int, ignore: int) -> None:
    """ValueError if this batch (on the CPU) or an earlier one (on a GPU) had labels outside the classes."""
    if torch.compiler.is_compiling():
        return
    if bad.device.type == "cpu":
        if bool(bad):
            raise ValueError(describe_bad_labels(flat, labels_to, ignore))
        return
    if torch.cuda.is_current_stream_capturing():
        return
    while _pending and _pending[0][1].query():
        number, _, classes, left_out = _pending.popleft()
        if int(number):
            ignored = "no label is ignored" if left_out == NO_IGNORE else f"{left_out} is ignored"
            outside = f"{int(number)} labels outside the classes 0..{classes - 1} ({ignored})"
            raise ValueError(f"an earlier batch had {outside}; its loss was NaN")
    copy = torch.empty(1, dtype=torch.int64, pin_memory=True)
    copy.copy_(bad, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    _pending.append((copy, event, labels_to, ignore))
