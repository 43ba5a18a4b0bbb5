import hashlib

import numpy as np
import pytest

from evenseg.data import SyntheticRoads


def test_pictures_are_a_function_of_seed_split_and_index():
    one, other = SyntheticRoads("train", length=4), SyntheticRoads("train", length=9)
    np.testing.assert_array_equal(one.read_image(3), other.read_image(3))
    np.testing.assert_array_equal(one.read_mask(3), other.read_mask(3))
    for different in (SyntheticRoads("val", length=4), SyntheticRoads("train", length=4, seed=1)):
        assert not np.array_equal(different.read_image(3), one.read_image(3))
    assert not np.array_equal(one.read_image(2), one.read_image(3))


def test_the_masks_are_the_ones_that_results_were_measured_on():
    dataset = SyntheticRoads("train", length=3)
    digest = hashlib.sha256(b"".join(dataset.read_mask(index).tobytes() for index in range(3))).hexdigest()
    assert digest[:16] == "27e215135d2ca8b0"


def test_roads_are_thin_and_rare():
    dataset = SyntheticRoads("train", length=96)
    shares = [dataset.read_mask(index).mean() for index in range(96)]
    assert np.mean(shares) == pytest.approx(0.045, abs=0.003)
    assert min(shares) > 0.02
    assert max(shares) < 0.07


def test_reading_gives_a_copy():
    dataset = SyntheticRoads(length=1, size=16)
    dataset.read_mask(0)[:] = 77
    assert dataset.read_mask(0).max() <= 1


@pytest.mark.parametrize("keywords", [{"length": 0}, {"size": 4}])
def test_bad_values(keywords):
    with pytest.raises(ValueError, match="must be at least"):
        SyntheticRoads(**keywords)


def test_index_outside():
    with pytest.raises(IndexError, match=r"3 is outside 0\.\.2"):
        SyntheticRoads(length=3).read_image(3)
