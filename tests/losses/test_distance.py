"""The distance transform: kernel and plain form against pairs of pixels, and against SciPy where it is installed."""

import math

import numpy as np
import pytest
import torch

from evenseg.losses import distance
from evenseg.losses.distance import FAR, distance_transform, plain_squared_distance, squared_distance
from oracles.boundaries import distances

SHAPES = [(2, 9, 7), (2, 1, 6), (2, 6, 1), (3, 11), (2, 4, 5, 3), (1, 3, 1, 4), (1, 1, 1)]


def marked(shape, share, seed=0):
    return torch.rand(shape, generator=torch.manual_seed(seed)) < share


@pytest.mark.parametrize("share", [0.5, 0.1, 0.0, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_distances_are_those_of_the_nearest_pair(shape, share):
    maps = marked(shape, share)
    expected = np.stack([distances(one) for one in maps.numpy()])
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        ours = distance_transform(maps, dtype)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.numpy(), expected, rtol=tolerance)
    assert torch.equal(plain_squared_distance(maps), squared_distance(maps))


@pytest.mark.parametrize("share", [0.2, 0.003])
@pytest.mark.parametrize("shape", [(3, 60, 131), (1, 300, 5), (2, 20, 21, 22)], ids=str)
def test_plain_form_and_kernel_agree_on_larger_maps(shape, share, monkeypatch):
    maps = marked(shape, share)
    maps[0] = False  # and one without a mark
    whole = plain_squared_distance(maps)
    assert torch.equal(whole, squared_distance(maps))
    assert (whole[0] == FAR).all()
    monkeypatch.setattr(distance, "_AT_ONCE", 1 << 12)
    assert torch.equal(plain_squared_distance(maps), whole)


@pytest.mark.parametrize("share", [0.2, 0.001])
def test_as_scipy(share):
    scipy = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    for shape in ((2, 64, 97), (1, 17, 18, 19)):
        maps = marked(shape, share)
        maps.flatten(1)[:, 5] = True
        expected = np.stack([scipy.distance_transform_edt(~one) for one in maps.numpy()])
        np.testing.assert_allclose(distance_transform(maps, torch.float64).numpy(), expected, rtol=1e-14)


def test_any_memory_layout_and_number_of_threads():
    maps = marked((3, 70, 90), 0.01)
    expected = squared_distance(maps)
    assert torch.equal(squared_distance(maps.transpose(1, 2).contiguous().transpose(1, 2)), expected)
    assert torch.equal(squared_distance(maps.expand(3, 70, 90)[1:]), expected[1:])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert torch.equal(squared_distance(maps), expected)
    finally:
        torch.set_num_threads(threads)


def test_no_map_and_maps_too_large():
    assert distance_transform(torch.zeros(0, 3, 4, dtype=torch.bool)).shape == (0, 3, 4)
    with pytest.raises(ValueError, match=r"up to 32768 pixels; maps of \(40000, 2\) pixels are too large"):
        distance_transform(torch.zeros(1, 1, 1, dtype=torch.bool).expand(1, 40000, 2))


def test_compiles_in_one_graph():
    maps = marked((2, 12, 13), 0.1)
    torch._dynamo.reset()
    compiled = torch.compile(distance_transform, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(maps), distance_transform(maps))
    assert math.isinf(compiled(torch.zeros_like(maps)).max())
