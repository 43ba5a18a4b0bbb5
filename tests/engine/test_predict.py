import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from evenseg._paths import find_images
from evenseg.config import make_config
from evenseg.data import SyntheticRoads
from evenseg.engine import predict, train
from evenseg.engine.loaded_run import load_run
from evenseg.engine.pictures import as_rgb
from evenseg.engine.png import PngWriter
from evenseg.engine.predict import automatic_window


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_template):
    return train(make_config(tiny_template), tmp_path_factory.mktemp("predicted") / "run")


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of different kinds in a folder with a folder in it."""
    source = SyntheticRoads("test", length=3, size=40)
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(source.read_image(0)[:33, :39]).save(folder / "one.png")
    Image.fromarray(source.read_image(1)).save(folder / "two.jpg")
    Image.fromarray(source.read_image(2)).convert("L").save(folder / "deeper" / "three.png")
    return folder


def probabilities(run, pixels, *overrides):
    loaded = load_run(run, overrides)
    return loaded.predictor.probabilities(loaded.prepare(pixels)[None])[0]


def test_everything_is_written_and_agrees(run, pictures, tmp_path):
    out = tmp_path / "out"
    result = predict(run, [pictures], out, probabilities="npy")
    assert not result.skipped
    assert result.folder == out
    assert [str(file.relative_to(out)) for file in result.written] == ["deeper/three.png", "one.png", "two.png"]
    pixels = np.asarray(Image.open(pictures / "one.png"))
    expected = probabilities(run, pixels)
    stored = np.load(out / "one_probabilities.npy")
    assert (stored.dtype, stored.shape) == (np.float16, (2, 33, 39))
    np.testing.assert_allclose(stored, expected, atol=1e-3)
    with Image.open(out / "one.png") as index:
        assert index.mode == "P"
        assert index.getpalette()[:6] == [40, 54, 32, 255, 220, 60]
        np.testing.assert_array_equal(np.asarray(index), expected.argmax(0))
    overlay = np.asarray(Image.open(out / "one_overlay.png"))
    colors = np.array([[40, 54, 32], [255, 220, 60]])[expected.argmax(0)]
    np.testing.assert_allclose(overlay, (pixels + colors) / 2.0, atol=0.51)
    assert {file.name for file in out.rglob("*") if file.is_file()} == {
        f"{name}{end}" for name in ("one", "two", "three") for end in (".png", "_overlay.png", "_probabilities.npy")
    }


def test_windows_scales_and_flip_come_from_the_run_and_overrides(run, pictures, tmp_path):
    changes = ["evaluation.window=[16, 24]", "evaluation.flip=true", "evaluation.scales=[0.5, 1]"]
    predict(run, [pictures / "two.jpg"], tmp_path, overlay=False, probabilities="npy", overrides=changes)
    pixels = np.asarray(Image.open(pictures / "two.jpg"))
    stored = np.load(tmp_path / "two_probabilities.npy")
    np.testing.assert_allclose(stored, probabilities(run, pixels, *changes), atol=1e-3)
    assert np.abs(stored - probabilities(run, pixels).numpy()).max() > 0.003
    assert not (tmp_path / "two_overlay.png").exists()


def test_probabilities_as_pictures(run, pictures, tmp_path):
    predict(run, [pictures / "one.png"], tmp_path, probabilities="png")
    road = np.asarray(Image.open(tmp_path / "one_probability_road.png"))
    expected = probabilities(run, np.asarray(Image.open(pictures / "one.png")))
    np.testing.assert_allclose(road / 255, expected[1], atol=0.51 / 255)
    assert (tmp_path / "one_probability_ground.png").is_file()


def test_unreadable_images_are_named_and_skipped(run, pictures, tmp_path):
    data = (pictures / "one.png").read_bytes()
    (pictures / "broken.png").write_bytes(data[:200])
    np.save(pictures / "six.npy", np.zeros((8, 8, 6), np.uint8))
    said = []
    result = predict(run, [pictures], tmp_path / "out", say=said.append)
    assert len(result.written) == 3
    assert [file.name for file, _ in result.skipped] == ["broken.png", "six.npy"]
    assert said[0].startswith(f"skipped: {pictures / 'broken.png'} cannot be read as an image")
    assert "six.npy has 6 channels" in said[1]
    assert not list((tmp_path / "out").rglob("broken*"))


def test_which_files_are_meant(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [name for _, name in find_images(["pictures"])] == ["deeper/three", "one", "two"]
    assert [name for _, name in find_images(["pictures/*.png", "pictures/one.png"])] == ["one"]
    assert [name for _, name in find_images(["pictures/**/*.png"])] == ["three", "one"]
    with pytest.raises(FileNotFoundError, match=r"absent\.png does not exist"):
        find_images(["absent.png"])
    with pytest.raises(FileNotFoundError, match=r"no file matches pictures/\*\.bmp"):
        find_images(["pictures/*.bmp"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no images"):
        find_images(["empty"])
    Image.open(pictures / "one.png").save(tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"pictures/one\.png and one\.png would both be written as one\.png"):
        find_images(["pictures", "one.png"])


def test_overlays_show_deep_images_as_training_does(run, tmp_path):
    # 12-bit values in 16 bits: taken as 16 bits they would be nearly black
    deep = np.random.default_rng(0).integers(0, 4096, (300, 40, 3), np.uint16)
    np.save(tmp_path / "deep.npy", deep)
    predict(run, [tmp_path / "deep.npy"], tmp_path / "out")
    index = np.asarray(Image.open(tmp_path / "out" / "deep.png"))
    colors = np.array([[40, 54, 32], [255, 220, 60]])[index]
    overlay = np.asarray(Image.open(tmp_path / "out" / "deep_overlay.png"))
    np.testing.assert_allclose(overlay, (as_rgb(deep) + colors) / 2.0, atol=0.51)


def test_large_images_are_cut_into_windows(run, pictures, tmp_path, monkeypatch):
    from evenseg.engine import predict as module_function

    module = sys.modules[module_function.__module__]
    monkeypatch.setattr(module, "LARGEST_WHOLE", 1000)
    monkeypatch.setattr(module, "automatic_window", lambda width, classes: (16, 16))
    said = []
    predict(run, [pictures / "two.jpg"], tmp_path, probabilities="npy", say=said.append)
    assert said == ["two: 40 x 40 pixels, so windows of 16 x 16 are used"]
    pixels = np.asarray(Image.open(pictures / "two.jpg"))
    expected = probabilities(run, pixels, "evaluation.window=[16, 16]")
    np.testing.assert_allclose(np.load(tmp_path / "two_probabilities.npy"), expected, atol=1e-3)


def test_windows_for_large_images_keep_a_row_of_them_small():
    assert automatic_window(20000, 2) == (1024, 1024)
    assert automatic_window(20000, 19) == (320, 1024)
    assert automatic_window(20000, 150) == (256, 1024)


MEASURE = """
import re, sys
from pathlib import Path
from evenseg import engine

def memory(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

run, small, large, out = sys.argv[1:]
windows = ["evaluation.window=[102, 102]"]
engine.predict(run, [small], out, probabilities="npy", overrides=windows)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which was while importing
engine.predict(run, [large], out, probabilities="npy", overrides=windows)
print(before, memory("VmHWM"))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux to measure memory")
def test_memory_for_a_large_image(run, tmp_path):
    """A 100th of 20000 x 20000 pixels in windows of a 100th; the whole must stay below 4 GiB, so this below a 100th."""
    side = 2000
    for name, height in (("small", 102), ("large", side)):
        with PngWriter(tmp_path / f"{name}.png", height, side, rgb=True) as writer:
            row = np.arange(3 * side, dtype=np.uint8).reshape(side, 3)
            for y in range(height):
                writer.write(row[None] + np.uint8(y % 256))
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, run, tmp_path / "small.png", tmp_path / "large.png", tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
    )
    before, peak = (int(kib) / 2**10 for kib in found.stdout.split())
    ratio = (20000 / side) ** 2
    print(f"{before:.0f} MiB before, {peak:.0f} MiB at the peak")
    # the picture itself shows, so the peak was measured
    assert peak - before > side * side * 4 / 2**20
    assert before + (peak - before) * ratio < 4096
    assert np.load(tmp_path / "out" / "large_probabilities.npy", mmap_mode="r").shape == (2, side, side)
    with Image.open(tmp_path / "out" / "large.png") as image:
        assert image.size == (side, side)
