"""How to tell damaged masks from clean ones: what happens to labels where two regions meet.

In a mask of indices, a pixel between two regions belongs to one of them. Resizing with interpolation puts labels in
between there, and JPEG scatters labels around: both leave *ramps*, pixels whose label lies strictly between those of
their two neighbours left and right, or above and below. Measured on the six data sets in docs/label_doctor.md, at most
5 % of the steps of a clean mask are ramps (thin rings of ordered classes), and at least 20 % of a damaged one. JPEG along
straight edges can leave fewer, but there, too, the labels lie *scattered*: pixels of odd labels share them with fewer than
half of their four neighbours, while those of the thinnest clean class, cracks, share theirs with three quarters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Borders(NamedTuple):
    """Counts over the pixels of one mask, those of rows and of columns added up.

    Attributes:
        steps: pixels whose two neighbours' labels differ by 2 or more.
        ramps: of these, pixels whose own label lies strictly between.
        outside: pixels of a label that is neither a class nor ignored (counted once).
        outside_ramps: of these, pixels that are ramps in a row or a column.
        outside_alike: neighbours (up to 4 each) of these that have the same label.
    """

    steps: int
    ramps: int
    outside: int
    outside_ramps: int
    outside_alike: int

    def __add__(self, other: object) -> Borders:
        """Adds the counts of two masks."""
        assert isinstance(other, Borders)
        return Borders(*(one + two for one, two in zip(self, other, strict=True)))

    @property
    def ramp_share(self) -> float:
        """Part of the steps that are ramps; 0 where there are too few to say."""
        return self.ramps / self.steps if self.steps >= _ENOUGH else 0.0

    @property
    def coherence(self) -> float:
        """Part of the neighbours of pixels of odd labels that have the same label; 1 without such pixels."""
        return self.outside_alike / (4 * self.outside) if self.outside else 1.0


_ENOUGH = 50


def measure_borders(labels: NDArray[np.integer], legal: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> Borders:
    """Counts steps and ramps of a mask.

    Args:
        labels: as stored, (H, W).
        legal: by label, whether it is a class or ignored, (65536,).
        ignored: by label, whether it is ignored, (65536,).
    """
    outside = ~legal[labels]
    in_ramp = np.zeros(labels.shape, bool)
    steps = ramps = alike = 0
    # a class between another one and an ignored rim is no ramp: rims of 255 are drawn around objects
    rim = ignored[labels]
    for rows, is_outside, is_rim, marked in (
        (labels, outside, rim, in_ramp),
        (labels.T, outside.T, rim.T, in_ramp.T),
    ):
        low = np.minimum(rows[:, :-2], rows[:, 2:])
        high = np.maximum(rows[:, :-2], rows[:, 2:])
        step = high - low >= 2
        between = step & (low < rows[:, 1:-1]) & (rows[:, 1:-1] < high)
        between &= is_outside[:, 1:-1] | ~(is_rim[:, :-2] | is_rim[:, 2:])
        steps += int(step.sum())
        ramps += int(between.sum())
        marked[:, 1:-1] |= between
        alike += 2 * int(((rows[:, 1:] == rows[:, :-1]) & is_outside[:, 1:]).sum())
    return Borders(steps, ramps, int(outside.sum()), int((in_ramp & outside).sum()), alike)
