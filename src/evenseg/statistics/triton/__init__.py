"""The CUDA engine: fused kernels written in Triton."""

from evenseg.statistics.triton.dispatch import triton_statistics

__all__ = ["triton_statistics"]
