"""Error -> histogram bin, one definition for every engine.

Probability errors lie in [0, 1] and are binned evenly. Hinge errors m >= 0 are unbounded: they are binned by the leading
bits of the float 1 + m, that is OCTAVES powers of two, each cut evenly. The map is monotone, fixed (so that histograms of
different batches and ranks can be added) and fine where errors matter. Hinge errors get HINGE_FACTOR times as many bins:
they spread over more than [0, 1], and the order inside a bin is lost (measured: 4096 bins blur the gradient by 0.3-0.7 %).
"""

import torch
from torch import Tensor

OCTAVES = 8  # 1 + m up to 2^8; what lies beyond shares the last bin
HINGE_FACTOR = 4


def check_bins(num_bins: int) -> int:
    """ValueError unless `num_bins` is usable: a multiple of 16 between 16 and 16384."""
    if isinstance(num_bins, bool) or not isinstance(num_bins, int) or not 16 <= num_bins <= 16384 or num_bins % 16:
        raise ValueError(f"num_bins must be a multiple of 16 between 16 and 16384, got {num_bins!r}")
    return num_bins


def histogram_size(num_bins: int, activation: str) -> int:
    """K, the number of bins that a histogram with `num_bins` has."""
    return num_bins * HINGE_FACTOR if activation == "hinge" else num_bins


def probability_bins(error: Tensor, num_bins: int) -> Tensor:
    """floor(K m), with m = 1 in the last bin."""
    return (error * num_bins).long().clamp_(0, num_bins - 1)


def hinge_bins(error: Tensor, num_bins: int) -> Tensor:
    """Bin of 1 + m in a table of OCTAVES powers of two, each cut evenly."""
    per_octave = num_bins // OCTAVES
    mantissa, exponent = torch.frexp(1 + error.clamp(max=2.0 ** (OCTAVES + 1)))  # 1 + m = mantissa 2^exponent, mantissa in [.5, 1)
    inside = ((2 * mantissa - 1) * per_octave).long()
    return ((exponent.long() - 1) * per_octave + inside).clamp_(0, num_bins - 1)


def bin_edges(num_bins: int, activation: str) -> Tensor:
    """The (K+1,) edges of the bins as float64; the last hinge bin also takes everything beyond its edge."""
    position = torch.arange(num_bins + 1, dtype=torch.float64)
    if activation != "hinge":
        return position / num_bins
    per_octave = num_bins // OCTAVES
    octave = torch.div(position, per_octave, rounding_mode="floor")
    return 2**octave * (1 + (position - octave * per_octave) / per_octave) - 1
