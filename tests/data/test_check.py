import io

import numpy as np
import pytest
from PIL import Image

from evenseg.data import FolderDataset, SyntheticRoads, check_data


def mask_of(*values):
    return np.array(values, np.uint8).reshape(1, -1)


def test_clean_masks_are_counted(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 0, 1, 255), "b": mask_of(1, 1)}})
    facts = check_data(FolderDataset(str(root)))
    assert facts.counts == {0: 2, 1: 3, 255: 1}
    assert facts.class_counts.tolist() == [[2, 1], [0, 2]]
    assert facts.sizes == ((1, 2), (1, 4))


def test_values_outside_the_classes_are_named_with_files_and_counts(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 1, 7, 7), "b": mask_of(0, 1, 7, 204), "c": mask_of(0, 1, 1, 1)}})
    with pytest.raises(ValueError, match=r"masks.train: 2 of 3 masks hold values outside the classes 0..1") as caught:
        check_data(FolderDataset(str(root)))
    message = str(caught.value)
    assert "a (value 7: 2 pixels), b (value 7: 1 pixel, value 204: 1 pixel)" in message
    assert "in all value 7: 3 pixels, value 204: 1 pixel" in message
    assert "set `label_map: {7: ignore, 204: ignore}`" in message


def test_masks_of_0_and_255_say_what_to_set(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 255, 255), "b": mask_of(0, 0, 0)}})
    with pytest.raises(ValueError, match=r"0 \(4 pixels\) and 255 \(2 pixels, the ignore value\)") as caught:
        check_data(FolderDataset(str(root)))
    assert "set `label_map: {255: 1}`" in str(caught.value)
    assert check_data(FolderDataset(str(root), label_map={255: 1})).counts[1] == 2


def test_masks_of_0_and_255_with_another_ignore_value(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 255, 255)}}, ignore_index=254)
    with pytest.raises(ValueError, match=r"255 \(2 pixels, no class\).*set `label_map: \{255: 1\}`"):
        check_data(FolderDataset(str(root)))


def test_masks_saved_as_jpeg_are_recognised(make_folder):
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 20:40] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "JPEG", quality=75)
    root = make_folder({"train": {"a": np.asarray(Image.open(file))}})
    with pytest.raises(ValueError, match=r"come from masks saved as JPEG.*set `threshold: 128`"):
        check_data(FolderDataset(str(root)))


def test_size_mismatch_is_named(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 1, 1)}}, image_size=(4, 4))
    with pytest.raises(ValueError, match=r"1 of 1 masks differ in size from their image: a \(mask 3x1, image 4x4\)"):
        check_data(FolderDataset(str(root)))


def test_each_data_set_is_read_once(make_folder, monkeypatch):
    root = make_folder({"train": {"a": mask_of(0, 1)}})
    check_data(FolderDataset(str(root)))
    again = FolderDataset(str(root))
    monkeypatch.setattr(again, "read_mask", lambda index: pytest.fail("the masks were read a second time"))
    check_data(again)


def test_a_changed_mask_is_read_again(make_folder):
    root = make_folder({"train": {"a": mask_of(0, 1)}})
    check_data(FolderDataset(str(root)))
    make_folder({"train": {"a": mask_of(0, 9)}})
    with pytest.raises(ValueError, match="value 9"):
        check_data(FolderDataset(str(root)))


def test_synthetic_roads_are_clean():
    facts = check_data(SyntheticRoads("val", length=4, size=32))
    assert facts.sizes == ((32, 32),)
    assert facts.counts[0] + facts.counts[1] == 4 * 32 * 32
