"""Images of every type as pictures, whole and in parts, and with the classes' colours."""

import numpy as np
import pytest

from evenseg.data import Classes
from evenseg.engine.pictures import as_rgb, blend_classes, display_limits


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (2, np.uint16), (3, np.uint8), (4, np.float32)])
def test_pictures_of_any_channels_can_be_shown(channels, dtype):
    image = np.arange(12 * channels).reshape(3, 4, channels).astype(dtype)
    shown = as_rgb(image)
    assert (shown.shape, shown.dtype) == ((3, 4, 3), np.uint8)
    if dtype == np.uint8:
        assert (shown[..., 0] == image[..., 0]).all()
    else:
        # the largest values of the first channel are white, the smallest black, whatever their range
        assert (shown[0, 0, 0], shown[2, 3, 0]) == (0, 255)
    assert not as_rgb(np.zeros((2, 2, 1), np.float32)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_part_looks_as_in_the_whole(dtype):
    # taller than the rows that are measured, and brighter towards the bottom
    image = (np.arange(600)[:, None, None] / 3 + np.zeros((1, 5, 3))).astype(dtype)
    limits = display_limits(lambda top, bottom: image[top:bottom], len(image))
    parts = [as_rgb(image[top : top + 64], limits) for top in range(0, 600, 64)]
    np.testing.assert_array_equal(np.concatenate(parts), as_rgb(image))
    if dtype != np.uint8:
        low, high = np.percentile(image, (2, 98))
        expected = (255 * ((image - low) / (high - low)).clip(0, 1)).round()
        np.testing.assert_allclose(as_rgb(image), expected, atol=2)


def test_bits_do_not_change_a_picture():
    values = np.random.default_rng(0).random((50, 60, 3)).astype(np.float32)
    deep = (values * 65535).round().astype(np.uint16)
    twelve = (values * 4095).round().astype(np.uint16)
    np.testing.assert_allclose(as_rgb(deep), as_rgb(values), atol=1)
    np.testing.assert_allclose(as_rgb(twelve), as_rgb(values), atol=1)


def test_classes_are_blended_half_and_half():
    classes = Classes(("a", "b"), ((0, 0, 0), (200, 100, 255)))
    picture = np.full((1, 2, 3), 100, np.uint8)
    assert blend_classes(picture, np.array([[0, 1]]), classes).tolist() == [[[50, 50, 50], [150, 100, 178]]]
    white = np.full((1, 1, 3), 255, np.uint8)
    assert blend_classes(white, np.array([[1]], np.uint8), classes).tolist() == [[[228, 178, 255]]]
