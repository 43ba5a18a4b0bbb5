"""What the options shared by all layouts make of a mask."""

import numpy as np
import pytest
import torch

from evenseg.config import check_keywords
from evenseg.data import EvaluationSamples, FolderDataset, Pipeline, check_data
from evenseg.data.base import Classes
from evenseg.data.labels import MaskReader, label_table

TWO = Classes(("ground", "road"), ((0, 0, 0), (200, 100, 50)))


def test_reduce_zero_label_shifts_all_but_the_ignore_value(tree):
    tree.mask("a.png", [[0, 1, 2, 150, 255]])
    reader = MaskReader(Classes(("a",) * 150, ((0, 0, 0),) * 150), reduce_zero_label=True)
    np.testing.assert_array_equal(reader.read(tree.root / "a.png"), [[255, 0, 1, 149, 255]])
    mapped = MaskReader(TWO, reduce_zero_label=True, label_map={1: 0, 149: "ignore"})
    np.testing.assert_array_equal(mapped.read(tree.root / "a.png"), [[255, 0, 0, 255, 255]])


def test_thresholds_of_grey_masks_also_stored_as_colours(tree):
    tree.mask("grey.png", [[0, 3, 127, 128, 255]])
    tree.image("rgb.png", size=(1, 2), value=130)
    reader = MaskReader(TWO, threshold=128)
    np.testing.assert_array_equal(reader.read(tree.root / "grey.png"), [[0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(reader.read(tree.root / "rgb.png"), [[1, 1]])
    tree.mask("deep.png", [[0, 700, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(MaskReader(TWO, threshold=700).read(tree.root / "deep.png"), [[0, 1, 1]])


COLORS = np.array([[[0, 0, 0], [200, 100, 50], [255, 0, 255]]], np.uint8)


def save_colors(tree, name="a.png", pixels=COLORS):
    from PIL import Image

    Image.fromarray(pixels).save(tree.root / name)
    return tree.root / name


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ([(0, 0, 0), (200, 100, 50), (255, 0, 255)], [0, 1, 2]),
        ({"0,0,0": 0, "#c86432": 1, "[255, 0, 255]": "ignore"}, [0, 1, 255]),
        ({"200, 100, 50": 1, "*": 0}, [0, 1, 0]),
        ({"0,0,0": 0, "200,100,50": 300, "255,0,255": 7}, [0, 300, 7]),
    ],
)
def test_palettes(tree, palette, expected):
    file = save_colors(tree)
    checked = check_keywords(MaskReader, {"classes": TWO, "palette": palette})
    np.testing.assert_array_equal(MaskReader(**checked).read(file), [expected])


def test_the_palette_of_the_classes_and_of_paletted_files(tree):
    from PIL import Image

    reader = MaskReader(TWO, palette="classes")
    np.testing.assert_array_equal(reader.read(save_colors(tree, pixels=COLORS[:, :2])), [[0, 1]])
    paletted = Image.fromarray(np.array([[5, 6]], np.uint8))
    paletted.putpalette([0] * 15 + [200, 100, 50] + [0, 0, 0])
    paletted.save(tree.root / "p.png")
    np.testing.assert_array_equal(reader.read(tree.root / "p.png"), [[1, 0]])


def test_colours_that_the_palette_does_not_name_are_listed(tree):
    message = r"a\.png holds colours that the palette does not name: \[255, 0, 255\] \(1 pixels\); '\*' stands for the rest"
    with pytest.raises(ValueError, match=message):
        MaskReader(TWO, palette="classes").read(save_colors(tree))


def test_the_channel_that_holds_the_labels(tree):
    tree.wide_png("a.png", [[[1, 40000, 0], [300, 2, 9]]])
    for channel, expected in enumerate([[1, 300], [40000, 2], [0, 9]]):
        np.testing.assert_array_equal(MaskReader(TWO, mask_channel=channel).read(tree.root / "a.png"), [expected])


def test_a_label_map_of_sixteen_bits(tree):
    tree.mask("a.png", [[0, 26001, 40000]], dtype=np.uint16)
    reader = MaskReader(TWO, label_map={26001: 1, 40000: "ignore"})
    np.testing.assert_array_equal(reader.read(tree.root / "a.png"), [[0, 1, 255]])
    np.testing.assert_array_equal(label_table({"*": "ignore", 65535: 3}, 255)[[0, 65534, 65535]], [255, 255, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"palette": "classes", "threshold": 3}, "palette and threshold are two ways to read the same masks"),
        ({"threshold": 0}, r"threshold must be in 1\.\.65535, got 0"),
        ({"mask_channel": 4}, r"mask_channel must be in 0\.\.3, got 4"),
        ({"palette": {"1,2": 0}}, r"palette: a colour is \[r, g, b\] with values 0\.\.255, got \[1, 2\]"),
        ({"palette": {"red": 0}}, r"palette: a colour is .* got 'red'"),
        ({"palette": {"#ff0000": 0, "255,0,0": 1}}, "the colour 255,0,0 stands for 0 and for 1"),
        ({"palette": {"0,0,0": 70000}}, r"palette: values must be 0\.\.65535 or 'ignore', got 70000"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MaskReader(TWO, **options)


def test_masks_of_sixteen_bits_go_through_checks_samples_losses_and_metrics(tree):
    import evenseg
    from evenseg.metrics import ConfusionMatrix, confusion_matrix

    many = 300
    labels = np.arange(many).reshape(15, 20)
    tree.image("images/train/a.png", size=(15, 20))
    tree.mask("masks/train/a.png", labels, dtype=np.uint16)
    dataset = FolderDataset(str(tree), classes=many, ignore_index=1000)
    facts = check_data(dataset)
    assert [facts.counts[label] for label in range(many)] == [1] * many
    assert facts.class_counts.shape == (1, many)
    sample = EvaluationSamples(dataset, Pipeline([]))[0]
    assert sample.mask.dtype == torch.int32
    np.testing.assert_array_equal(sample.mask, labels)
    target = torch.from_numpy(labels.astype(np.uint16))[None]
    logits = torch.zeros(1, many, 15, 20).scatter_(1, target.long()[:, None], 9.0)
    loss = evenseg.build_loss({"types": [{"type": "CrossEntropyLoss", "engine": "eager"}], "coef": [1]})
    assert loss([logits], target).item() == pytest.approx(loss([logits], target.long()).item())
    for one in (target, target.to(torch.uint32), target.to(torch.uint64)):
        assert confusion_matrix(logits, one, many, None).diagonal().tolist() == [1] * many
        assert confusion_matrix(one, one, many, None).diagonal().tolist() == [1] * many
    metric = ConfusionMatrix(many, ignore_index=299)
    metric.update(logits, target)
    assert int(metric.compute().sum()) == many - 1


def test_labels_beyond_the_classes_of_sixteen_bit_masks_are_named(tree):
    tree.image("images/train/a.png", size=(1, 3))
    tree.mask("masks/train/a.png", [[0, 1, 26001]], dtype=np.uint16)
    dataset = FolderDataset(str(tree), classes=2)
    with pytest.raises(ValueError, match=r"1 of 1 masks hold values outside the classes .*: a \(value 26001: 1 pixel\)"):
        check_data(dataset)
    with pytest.raises(ValueError, match=r"the mask of a holds the label 26001, beyond 8 bits"):
        EvaluationSamples(dataset, Pipeline([]))[0]


def test_sixteen_bit_images_keep_their_range(tree):
    tree.wide_png("images/train/a.png", [[[0, 32768, 65535]]])
    tree.mask("masks/train/a.png", [[1]])
    sample = EvaluationSamples(FolderDataset(str(tree), classes=2), Pipeline([]))[0]
    torch.testing.assert_close(sample.image.flatten(), torch.tensor([0.0, 32768 / 65535, 1.0]))
