"""`python -m benchmarks.distance_transform`: the exact distance transform beside SciPy's (needs scipy), one thread.

The code that the active boundary loss was published with takes two SciPy transforms per image; ours takes one of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from evenseg.bench import make_batch
from evenseg.bench.timing import spread
from evenseg.losses.distance import distance_transform

ROUNDS = 15
SHAPE = (1, 19, 512, 1024)


def boundaries(seed: int, noisy: bool) -> torch.Tensor:
    """(1, H, W) bool: where the label differs from its right or lower neighbour; with noise in the labels, nearly everywhere."""
    batch = make_batch(SHAPE, "untrained", seed)
    label = batch.logits.detach().argmax(1) if noisy else batch.target
    edge = torch.zeros(label.shape, dtype=torch.bool)
    edge[:, :, :-1] |= label[:, :, 1:] != label[:, :, :-1]
    edge[:, :-1] |= label[:, 1:] != label[:, :-1]
    return edge


def seconds(call: Callable[[Any], Any], argument: Any) -> float:
    start = time.perf_counter()
    call(argument)
    return time.perf_counter() - start


def main() -> int:
    try:
        from scipy.ndimage import distance_transform_edt
    except ModuleNotFoundError:
        print("error: scipy is not installed", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    for noisy in (False, True):
        edge = boundaries(0, noisy)
        outside = ~edge[0].numpy()
        difference = abs(distance_transform(edge)[0].numpy() - distance_transform_edt(outside)).max()
        if not difference < 1e-4:
            print(f"error: the distances differ by {difference}; nothing was timed", file=sys.stderr)
            return 1
        pairs = [(seconds(distance_transform, edge), 2 * seconds(distance_transform_edt, outside)) for _ in range(ROUNDS)]
        ours, theirs, ratio = spread(a for a, _ in pairs), spread(b for _, b in pairs), spread(b / a for a, b in pairs)
        kind = "noisy labels" if noisy else "smooth regions"
        print(
            f"{kind}, {edge.float().mean():.1%} boundary: {1e3 * ours['median']:.1f} ms against {1e3 * theirs['median']:.1f} ms for two of "
            f"SciPy's, {ratio['median']:.1f} times ({ratio['q1']:.1f} to {ratio['q3']:.1f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
