import numpy as np
import pytest
from PIL import Image

from evenseg.data import SynthiaRand, SynthiaSeqs, check_data

CAMERAS = [f"{stereo}/{view}" for stereo in ("Stereo_Left", "Stereo_Right") for view in ("Omni_F", "Omni_L")]


def labels(*classes):
    """Pixels as the files hold them: the class in red, the instance in green, 16 bits each."""
    return np.array([[[c, 1000 + c, 0] for c in classes]], np.uint16)


@pytest.fixture
def sequence(tree):
    for camera in CAMERAS:
        for number in range(10):
            name = f"{camera}/{number:06d}.png"
            tree.image(f"RGB/{name}", size=(1, 4))
            tree.image(f"GT/COLOR/{name}", size=(1, 4))
            tree.wide_png(f"GT/LABELS/{name}", labels(0, 8, 15, number))
    return tree


def test_the_class_is_read_from_the_red_channel_of_sixteen_bits(sequence):
    file = sequence.root / "GT/LABELS" / CAMERAS[0] / "000003.png"
    assert not np.asarray(Image.open(file))[..., 0].any()  # the trap: everything would be void
    dataset = SynthiaSeqs(str(sequence), "all")
    assert len(dataset) == 40
    np.testing.assert_array_equal(dataset.read_mask(3), [[0, 8, 15, 3]])
    assert dataset.name(3) == "Stereo_Left_Omni_F_000003"
    assert dataset.classes.names[15] == "traffic light"
    assert check_data(dataset).counts[8] == 44
    void_ignored = SynthiaSeqs(str(sequence), "all", label_map={0: "ignore"})
    np.testing.assert_array_equal(void_ignored.read_mask(3), [[255, 8, 15, 3]])


def test_the_parts_take_their_shares_of_every_camera(sequence):
    names = {}
    for split, count in (("train", 7), ("val", 1), ("test", 2)):
        dataset = SynthiaSeqs(str(sequence), split)
        names[split] = [dataset.name(index) for index in range(len(dataset))]
        for camera in CAMERAS:
            assert sum(name.startswith(camera.replace("/", "_")) for name in names[split]) == count
    assert len(set(names["train"] + names["val"] + names["test"])) == 40


def test_the_random_images_have_the_classes_of_cityscapes(tree):
    expected = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13, 18: 14,
                19: 15, 20: 16, 12: 17, 11: 18}  # fmt: skip
    for name in ("0000000", "0000001"):
        tree.image(f"RGB/{name}.png", size=(1, 23))
        tree.wide_png(f"GT/LABELS/{name}.png", labels(*range(23)))
    dataset = SynthiaRand(str(tree), "all")
    assert dataset.classes.names[0] == "road"
    np.testing.assert_array_equal(dataset.read_mask(0), [[expected.get(value, 255) for value in range(23)]])
    assert len(SynthiaRand(str(tree), "val", val_share=0.5)) == 1


def test_what_is_missing_is_named(sequence, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"elsewhere does not exist"):
        SynthiaSeqs(str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"RGB.RGB does not exist; .*RGB holds Stereo_Left, Stereo_Right"):
        SynthiaRand(str(sequence.root / "RGB"))
    (sequence.root / "GT/LABELS" / CAMERAS[1] / "000000.png").unlink()
    with pytest.raises(ValueError, match=r"1 images have no mask \(000000\.png\)"):
        SynthiaSeqs(str(sequence))
