import sys

import numpy as np
import pytest

from evenseg.engine.memory import PeakMemory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the process's memory is measured on Linux only")
def test_the_peak_is_of_what_happened_since_the_start():
    """200 MB that are gone again count while they are measured, and not for the next run in the same process."""
    memory = PeakMemory()
    memory.start()
    before = memory.read()
    block = np.ones(200_000_000, np.uint8)
    del block
    peak = memory.read()
    assert before is not None
    assert peak - before > 150_000_000
    memory.start()
    assert memory.read() < peak - 150_000_000
