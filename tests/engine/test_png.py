"""PNG files written in bands are what Pillow reads back."""

import resource

import numpy as np
import pytest
from PIL import Image

from evenseg.engine.png import PngWriter


def in_bands(writer, pixels):
    for start in range(0, len(pixels), 7):
        writer.write(pixels[start : start + 7])


@pytest.mark.parametrize("kind", ["palette", "grey", "rgb", "deep"])
def test_pillow_reads_what_was_written(tmp_path, kind):
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (6, 3)).astype(np.uint8)
    shape = (30, 17, 3) if kind == "rgb" else (30, 17)
    dtype = np.uint16 if kind == "deep" else np.uint8
    pixels = rng.integers(0, {"palette": 6, "deep": 60000}.get(kind, 256), shape).astype(dtype)
    options = {"palette": palette} if kind == "palette" else {"rgb": kind == "rgb", "dtype": dtype}
    with PngWriter(tmp_path / "a.png", 30, 17, **options) as writer:
        in_bands(writer, pixels)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert image.mode == {"palette": "P", "grey": "L", "rgb": "RGB", "deep": "I;16"}[kind]
        if kind == "palette":
            assert image.getpalette()[:18] == palette.flatten().tolist()


def test_the_file_appears_when_it_is_complete(tmp_path):
    with PngWriter(tmp_path / "a.png", 2, 3) as writer:
        writer.write(np.zeros((1, 3), np.uint8))
        assert not (tmp_path / "a.png").exists()
        writer.write(np.zeros((1, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="no power"), PngWriter(tmp_path / "a.png", 2, 3):
        raise RuntimeError("no power")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 640), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"), PngWriter(tmp_path / "a.png", 64, 640) as writer:
            in_bands(writer, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_the_number_of_rows_is_held(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: 3 rows for an image of 2"), PngWriter(tmp_path / "a.png", 2, 3) as w:
        w.write(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png: 0 of 2 rows were written"), PngWriter(tmp_path / "a.png", 2, 3):
        pass
