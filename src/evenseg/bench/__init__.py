"""What a loss costs: time and memory beside torch's cross-entropy, on the CPU or a GPU, after the values were checked."""

from evenseg.bench.gate import GateError, check_kernels
from evenseg.bench.inputs import Batch, make_batch
from evenseg.bench.measure import DEFAULT_LOSSES, LossCost, measure_losses
from evenseg.bench.timing import spread, timed

__all__ = ["DEFAULT_LOSSES", "Batch", "GateError", "LossCost", "check_kernels", "make_batch", "measure_losses", "spread", "timed"]
