"""A memory of earlier statistics: losses that see more pixels than one batch holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.statistics.types import SegmentStatistics


class StatisticsMemory(nn.Module):
    """Adds earlier statistics, detached, to the current ones.

    `keep="accumulate"`: S = S_t + S_{t-1} + ... since the last `reset()`: with gradient accumulation the loss of the last
    micro-batch is that of the union.

    `keep=d` with 0 < d < 1: S = S_t + d S_{t-1} + d² S_{t-2} + ...: the loss follows the data set instead of the batch. The
    gradient still flows through S_t alone; since S weighs more pixels than S_t, that gradient is scaled by the ratio of
    the two numbers of valid pixels, so that its size does not depend on d.

    The memory is updated in training mode only, lies in the state_dict, and follows the module from device to device.
    """

    def __init__(self, keep: str | float):
        super().__init__()
        if keep != "accumulate" and (isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep < 1):
            raise ValueError(f"memory must be None, 'accumulate' or a decay between 0 and 1, got {keep!r}")
        self.keep = keep

    def reset(self) -> None:
        """Forget everything."""
        for name in list(self._buffers):
            delattr(self, name)

    def forward(self, stats: SegmentStatistics) -> SegmentStatistics:
        if not self.training:
            return stats
        if stats.valid.shape[0] != 1:
            raise ValueError("memory needs statistics of the whole batch; set per_image=False")
        decay = 1.0 if self.keep == "accumulate" else float(self.keep)
        earlier = {name: value for name, value in self._buffers.items() if value is not None}
        if not earlier:
            combined = stats
        else:
            ratio: float | Tensor = 1.0
            if self.keep != "accumulate":
                now = stats.valid.double().sum()
                ratio = torch.where(now > 0, (now + decay * earlier["valid"].double().sum()) / now.clamp(min=1e-12), 1.0)

            def add(name: str, value: Tensor) -> Tensor:
                old = earlier.get(name.replace(".", "_"))
                if old is None or old.shape != value.shape:
                    raise ValueError(f"the memory holds other statistics than the loss now asks for ({name}); call reset()")
                if value.requires_grad and self.keep != "accumulate":
                    value = value.detach() + ratio * (value - value.detach())
                # an integer count times a Python float would be float32, which counts to 2^24 only
                return value + (old if self.keep == "accumulate" else decay * old.double())

            combined = stats.map_sums(add)
        combined.map_sums(self._store)
        return combined

    def _store(self, name: str, value: Tensor) -> Tensor:
        self.register_buffer(name.replace(".", "_"), value.detach().clone())
        return value

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # the members are known only once a loss has run: take whatever the state holds
        self.reset()
        for key, value in state_dict.items():
            if key.startswith(prefix) and "." not in key[len(prefix) :]:
                self.register_buffer(key[len(prefix) :], value.clone())
        super()._load_from_state_dict(state_dict, prefix, *args)
