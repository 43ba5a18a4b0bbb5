import sys

import numpy as np
import pytest
from PIL import Image

from evenseg.data import UnreadableFileError
from evenseg.data.images import read_image, read_indices

RNG = np.random.default_rng(0)


def wide(channels, height=11, width=7):
    return RNG.integers(0, 65536, (height, width, channels)).astype(np.uint16)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colours_of_a_png_keep_both_bytes(tree, channels):
    pixels = wide(channels)
    tree.wide_png("a.png", pixels)
    # what the trap looks like: Pillow alone keeps the high byte, which is 0 for labels
    np.testing.assert_array_equal(np.asarray(Image.open(tree.root / "a.png")), pixels >> 8)
    read = read_image(tree.root / "a.png", channels)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colours_of_a_tiff(tree, channels, compression, order):
    pixels = wide(channels)
    tree.wide_tiff("a.tif", pixels, compression, order, alpha=True)
    np.testing.assert_array_equal(read_image(tree.root / "a.tif", channels), pixels)


@pytest.mark.parametrize("channels", [4, 6])
def test_bands_that_are_no_colours_need_tifffile(tree, monkeypatch, channels):
    pixels = wide(channels)
    tree.wide_tiff("a.tif", pixels, 8)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tifffile", None)
        with pytest.raises(ValueError, match=r"a\.tif has bands that are no colours, .* needs the package tifffile"):
            read_image(tree.root / "a.tif", channels)
    if channels == 4:
        np.testing.assert_array_equal(read_image(tree.root / "a.tif", 3), pixels[..., :3])
    pytest.importorskip("tifffile", reason="tifffile is not installed")
    np.testing.assert_array_equal(read_image(tree.root / "a.tif", channels), pixels)
    (tree.root / "a.tif").write_bytes((tree.root / "a.tif").read_bytes()[:60])
    with pytest.raises(UnreadableFileError, match=r"a\.tif cannot be read as an image"):
        read_image(tree.root / "a.tif", channels)


def test_sixteen_bit_grey(tree):
    pixels = wide(1)
    tree.mask("a.png", pixels[..., 0], dtype=np.uint16)
    np.testing.assert_array_equal(read_image(tree.root / "a.png", 1), pixels)
    np.testing.assert_array_equal(read_image(tree.root / "a.png", 3), np.repeat(pixels, 3, axis=2))
    np.testing.assert_array_equal(read_indices(tree.root / "a.png"), pixels[..., 0])
    for order in "<>":
        tree.wide_tiff("a.tif", pixels, order=order)
        read = read_image(tree.root / "a.tif", 1)
        assert read.dtype == np.uint16
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, pixels)
        np.testing.assert_array_equal(read_indices(tree.root / "a.tif"), pixels[..., 0])


def test_channels_of_eight_bits(tree):
    colors = RNG.integers(0, 256, (5, 6, 4)).astype(np.uint8)
    Image.fromarray(colors).save(tree.root / "rgba.png")
    np.testing.assert_array_equal(read_image(tree.root / "rgba.png", 4), colors)
    np.testing.assert_array_equal(read_image(tree.root / "rgba.png", 3), colors[..., :3])
    Image.fromarray(colors[..., 0]).save(tree.root / "grey.png")
    np.testing.assert_array_equal(read_image(tree.root / "grey.png", 1), colors[..., :1])
    np.testing.assert_array_equal(read_image(tree.root / "grey.png"), np.repeat(colors[..., :1], 3, axis=2))
    paletted = Image.fromarray(np.array([[0, 1]], np.uint8))
    paletted.putpalette([1, 2, 3, 4, 5, 6])
    paletted.save(tree.root / "palette.png")
    np.testing.assert_array_equal(read_image(tree.root / "palette.png"), [[[1, 2, 3], [4, 5, 6]]])
    Image.fromarray(np.array([[True, False]])).save(tree.root / "bits.png")
    np.testing.assert_array_equal(read_image(tree.root / "bits.png", 1), [[[255], [0]]])


def test_another_number_of_channels_says_what_to_set(tree):
    tree.image("a.png")
    with pytest.raises(ValueError, match=r"a\.png has 3 channels, the data set's section says channels: 5; set `channels: 3`"):
        read_image(tree.root / "a.png", 5)


def test_pages_of_a_tiff_are_channels(tree):
    pages = [Image.fromarray(RNG.integers(0, 65536, (4, 5)).astype(np.uint16)) for _ in range(6)]
    pages[0].save(tree.root / "a.tif", save_all=True, append_images=pages[1:])
    read = read_image(tree.root / "a.tif", 6)
    assert (read.shape, read.dtype) == ((4, 5, 6), np.uint16)
    for channel, page in enumerate(pages):
        np.testing.assert_array_equal(read[..., channel], np.asarray(page))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_arrays(tree, dtype):
    pixels = RNG.integers(0, 200, (3, 4, 8)).astype(dtype)
    np.save(tree.root / "a.npy", pixels)
    read = read_image(tree.root / "a.npy", 8)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == (np.float32 if dtype == np.float64 else dtype)
    np.save(tree.root / "m.npy", pixels[..., 0].astype(np.int64))
    np.testing.assert_array_equal(read_indices(tree.root / "m.npy"), pixels[..., 0])


def test_arrays_that_are_no_images(tree):
    np.save(tree.root / "a.npy", np.zeros((2, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"a\.npy holds float64 of shape \(2, 2, 2, 2\); images are"):
        read_image(tree.root / "a.npy")
    np.save(tree.root / "a.npy", np.full((2, 2), 70000))
    with pytest.raises(ValueError, match=r"a\.npy holds labels from 70000 to 70000; allowed: 0\.\.65535"):
        read_indices(tree.root / "a.npy")
    np.save(tree.root / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UnreadableFileError, match=r"a\.npy cannot be read as an image: Object arrays cannot"):
        read_image(tree.root / "a.npy")


def truncated(tree, name):
    pixels = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tree.root / name)
    file = tree.root / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp"])
def test_truncated_files_are_unreadable(tree, name):
    with pytest.raises(UnreadableFileError, match=rf"{name} cannot be read as an image") as caught:
        read_image(truncated(tree, name))
    assert "\n" not in str(caught.value)


def test_other_unreadable_files(tree):
    with pytest.raises(UnreadableFileError, match=r"none\.jpg does not exist"):
        read_image(tree.root / "none.jpg")
    tree.text("text.png", "no picture")
    with pytest.raises(UnreadableFileError, match=r"text\.png cannot be read as an image"):
        read_indices(tree.root / "text.png")
    (tree.root / "empty.png").touch()
    with pytest.raises(UnreadableFileError, match=r"empty\.png cannot be read as an image"):
        read_image(tree.root / "empty.png")
    (tree.root / "folder.png").mkdir()
    with pytest.raises(UnreadableFileError, match=r"folder\.png cannot be read as an image"):
        read_image(tree.root / "folder.png")
    tree.wide_png("wide.png", wide(3))
    damaged = bytearray((tree.root / "wide.png").read_bytes())
    damaged[60:90] = b"\0" * 30
    (tree.root / "wide.png").write_bytes(damaged)
    with pytest.raises(UnreadableFileError, match=r"wide\.png cannot be read as an image"):
        read_image(tree.root / "wide.png")


def test_grey_with_alpha_in_sixteen_bits_is_refused(tree):
    tree.wide_png("a.png", wide(2))
    with pytest.raises(ValueError, match=r"a\.png stores pixels as LA;16B, which cannot be read; save it as 16-bit grey"):
        read_image(tree.root / "a.png")


def test_large_images_are_read_whatever_the_guard_of_pillow_says(tree, monkeypatch):
    tree.image("a.png", size=(9, 9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(tree.root / "a.png").shape == (9, 9, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_header_that_claims_too_much_is_not_believed(tree):
    tree.image("a.bmp", size=(9, 9))
    content = bytearray((tree.root / "a.bmp").read_bytes())
    content[18:26] = (30000).to_bytes(4, "little") * 2  # width and height
    (tree.root / "a.bmp").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"a\.bmp cannot be read .*: its \d+ bytes claim to hold 30000x30000 pixels"):
        read_image(tree.root / "a.bmp")
    Image.new("L", (3000, 2000)).save(tree.root / "plain.png", optimize=True)
    assert read_indices(tree.root / "plain.png").shape == (2000, 3000)


def test_whatever_a_damaged_file_makes_a_decoder_raise_is_one_kind_of_error(tree):
    np.save(tree.root / "a.npy", np.zeros((4, 5, 3), np.uint8))
    tree.image("a.jpg", "a.png", "a.tif", "a.bmp", size=(24, 24))
    tree.wide_png("wide.png", wide(3))
    tree.wide_tiff("wide.tif", wide(3), 8)
    rng = np.random.default_rng(0)
    messages = []
    for file in sorted(tree.root.iterdir()):
        content = file.read_bytes()
        for trial in range(30):
            damaged = bytearray(content)
            for place in rng.integers(0, min(len(content), 300), 8):
                damaged[place] = rng.integers(256)
            target = tree.root / f"damaged{file.suffix}"
            target.write_bytes(damaged[: rng.integers(len(content))] if trial % 3 == 0 else damaged)
            try:
                read_image(target)
            except ValueError as error:  # UnreadableFileError, or a sound file of another kind
                messages.append(str(error))
    assert sum("cannot be read as an image" in message for message in messages) > 100
    assert not any("\n" in message for message in messages)
