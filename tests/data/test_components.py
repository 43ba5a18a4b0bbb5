import numpy as np
import pytest

from evenseg.data.components import component_areas


def by_flood_fill(labels):
    """Label and area of every component, by the plainest means."""
    left = {(y, x) for y in range(labels.shape[0]) for x in range(labels.shape[1])}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.discard(start)
        todo, area = [start], 0
        while todo:
            y, x = todo.pop()
            area += 1
            for v in (y - 1, y, y + 1):
                for u in (x - 1, x, x + 1):
                    if (v, u) in left and labels[v, u] == labels[start]:
                        left.discard((v, u))
                        todo.append((v, u))
        found.append((int(labels[start]), area))
    return found


@pytest.mark.parametrize(
    ("labels", "components"),
    [
        ([[1, 1, 0], [0, 1, 0]], [(1, 3), (0, 2), (0, 1)]),
        # corners touch
        ([[1, 0], [0, 1]], [(1, 2), (0, 2)]),
        # arms that meet only at the end of the scan
        ([[1, 0, 1], [1, 0, 1], [1, 1, 1]], [(1, 7), (0, 2)]),
        ([[2]], [(2, 1)]),
    ],
)
def test_by_hand(labels, components):
    found = component_areas(np.array(labels, np.uint8))
    assert list(zip(*(part.tolist() for part in found), strict=True)) == components


@pytest.mark.parametrize("seed", range(30))
def test_against_flood_fill(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 25, 2)
    labels = rng.choice([0, 1, 2, 255], shape, p=[0.5, 0.3, 0.15, 0.05]).astype(rng.choice([np.uint8, np.uint16]))
    found = component_areas(labels)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == by_flood_fill(labels)
