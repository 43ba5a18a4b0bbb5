"""The CPU engine: fused kernels compiled by numba."""

from evenseg.statistics.numba.dispatch import numba_statistics

__all__ = ["numba_statistics"]
