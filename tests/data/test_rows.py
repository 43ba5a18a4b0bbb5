"""Rows of an image are those of the whole image, whatever the file."""

import numpy as np
import pytest
from PIL import Image

from evenseg.data import UnreadableFileError, open_rows
from evenseg.data.images import read_image


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.fixture
def files(tmp_path):
    """Name -> (file, channels) of every kind."""
    made = {}
    for name, mode, channels in [
        ("rgb.png", "RGB", 3),
        ("grey.png", "L", 3),
        ("grey1.png", "L", 1),
        ("alpha.png", "RGBA", 3),
    ]:
        shape = (11, 7) if mode == "L" else (11, 7, len(mode))
        Image.fromarray(pixels(*shape), mode).save(tmp_path / name)
        made[name] = (tmp_path / name, channels)
    palette = Image.fromarray(pixels(11, 7))
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(pixels(11, 7, 3)).save(tmp_path / "picture.jpg")
    Image.fromarray(pixels(11, 7).astype(np.uint16) * 200).save(tmp_path / "deep.png")
    np.save(tmp_path / "bands.npy", pixels(11, 7, 5, dtype=np.uint16))
    np.save(tmp_path / "height.npy", pixels(11, 7).astype(np.float64) / 7)
    pages = [Image.fromarray(pixels(11, 7) + i) for i in range(4)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    return made | {
        name: (tmp_path / name, channels)
        for name, channels in [
            ("palette.png", 3), ("picture.jpg", 3), ("deep.png", 1), ("bands.npy", 5), ("height.npy", 1), ("pages.tif", 4),
        ]
    }  # fmt: skip


def test_rows_are_those_of_the_whole(files):
    for name, (file, channels) in files.items():
        whole = read_image(file, channels)
        with open_rows(file, channels) as rows:
            assert (rows.height, rows.width) == (11, 7), name
            for top, bottom in ((0, 11), (3, 8), (10, 11)):
                part = rows.read(top, bottom)
                assert part.dtype == whole.dtype, name
                np.testing.assert_array_equal(part, whole[top:bottom], err_msg=name)


def test_unreadable_files(tmp_path):
    Image.fromarray(pixels(40, 40, 3)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.npy").write_text("no array")
    for name, reason in [
        ("cut.png", "cannot be read as an image"),
        ("text.jpg", "cannot be read as an image"),
        ("text.npy", "cannot be read"),
        ("absent.png", "does not exist"),
        ("absent.npy", "does not exist"),
    ]:
        with pytest.raises(UnreadableFileError, match=reason) as caught, open_rows(tmp_path / name):
            pass
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(ValueError, match="has 3 channels"), open_rows(tmp_path / "whole.png", 5):
        pass


def test_pillows_limit_is_lifted_and_restored(tmp_path, monkeypatch):
    Image.fromarray(pixels(40, 40, 3)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(tmp_path / "large.png").shape == (40, 40, 3)
    with open_rows(tmp_path / "large.png") as rows:
        assert rows.height == 40
    assert Image.MAX_IMAGE_PIXELS == 100
