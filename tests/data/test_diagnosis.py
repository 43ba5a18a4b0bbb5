"""Each disease is made, found, and cured by the line that the finding gives; healthy data has no finding."""

import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from evenseg.data import FolderDataset, SyntheticRoads, UnpairedFilesError
from evenseg.data.cityscapes import TRAIN_IDS
from evenseg.data.diagnosis import diagnose, scan, unpaired_files
from evenseg.data.diagnosis.borders import measure_borders
from evenseg.data.diagnosis.fingerprints import fingerprint, near_duplicates
from evenseg.data.diagnosis.unpaired import guess_suffixes

NAMES = ("ground", "road", "pole", "rider")


def shapes(labels, seed, size=(64, 80)):
    """Overlapping rectangles and discs, one of each label at least."""
    rng = np.random.default_rng(seed)
    mask = np.full(size, labels[0], np.uint8)
    rows, columns = np.indices(size)
    for label in [*labels[1:], *rng.choice(labels, 4)]:
        top, left = rng.integers(0, size[0] - 24), rng.integers(0, size[1] - 24)
        mask[top : top + 20, left : left + 14] = label
        mask[(rows - top - 12) ** 2 + (columns - left - 12) ** 2 < 64] = label
    for place, label in enumerate(labels):  # nothing is covered in full
        mask[1:5, 6 * place : 6 * place + 5] = label
    return mask


def picture(seed, size=(64, 80)):
    """Smooth noise of several sizes, as photographs have."""
    rng = np.random.default_rng([99, seed])
    pixels = np.zeros((*size, 3))
    for cells in (3, 6, 12):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8)).resize(size[::-1], Image.BICUBIC)
        pixels += np.asarray(noise, float) / 3
    return pixels.round().astype(np.uint8)


def as_jpeg(pixels, quality=75):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def enlarged(mask, factor=2.0, how=Image.BILINEAR):
    height, width = mask.shape
    return np.asarray(Image.fromarray(mask).resize((round(width * factor), round(height * factor)), how))


@pytest.fixture
def folder(tmp_path):
    """Writes splits of masks (arrays, or Pillow images) with pictures of the same size, and returns the root."""

    def write(splits, classes=NAMES[:2], colors=None, pictures=None):
        colors = colors or [[60 * i, 255 - 60 * i, 10] for i in range(len(classes))]
        entries = [{"id": i, "name": name, "color": colors[i]} for i, name in enumerate(classes)]
        (tmp_path / "classes.json").write_text(json.dumps({"classes": entries}))
        count = 0
        for split, masks in splits.items():
            for kind in ("images", "masks"):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
            for i, mask in enumerate(masks):
                mask = mask if isinstance(mask, Image.Image) else Image.fromarray(np.asarray(mask))
                mask.save(tmp_path / "masks" / split / f"m{i}.png")
                size = (mask.height, mask.width)
                pixels = picture(count, size) if pictures is None else pictures[split][i]
                Image.fromarray(pixels).save(tmp_path / "images" / split / f"m{i}.png")
                count += 1
        return tmp_path

    return write


def found(root, splits=("train",), **keywords):
    scans = [scan(FolderDataset(str(root), split, **keywords), f"{split}_dataset") for split in splits]
    return {finding.code: finding for finding in diagnose(scans)}


def several(labels, change=lambda mask: mask, count=4, **keywords):
    return {"train": [change(shapes(labels, seed, **keywords)) for seed in range(count)]}


def rgb(mask, colors):
    return np.array(colors, np.uint8)[mask]


CITYSCAPES = sorted(label for label in TRAIN_IDS if label != "*")
# name: (masks, classes, code, line); the line must cure
DISEASES = {
    "0 and 255": (several([0, 255]), NAMES[:2], "zero-255", "label_map: {255: 1}"),
    "from 1": (several([1, 2, 3]), NAMES[:3], "one-based", "reduce_zero_label: true"),
    "from 1, 0 unlabelled": (several([0, 1, 2, 3]), NAMES[:3], "one-based", "reduce_zero_label: true"),
    "from 1, the last class missing": (several([1, 2, 3]), NAMES, "absent-class", "reduce_zero_label: true"),
    "gaps": (several([0, 50, 100]), NAMES[:3], "gaps", "label_map: {0: 0, 50: 1, 100: 2}"),
    "gaps up to 255": (several([0, 128, 255]), NAMES[:3], "gaps", "label_map: {0: 0, 128: 1, 255: 2}"),
    "two grey levels": (several([38, 75]), NAMES[:2], "gaps", "label_map: {38: 0, 75: 1}"),
    "another label": (several([0, 1, 2, 7]), NAMES[:3], "outside", "label_map: {7: ignore}"),
    "labelIds": (
        several([0, 4, *CITYSCAPES], size=(80, 160)),
        tuple(f"c{i}" for i in range(19)),
        "cityscapes-ids",
        "label_map: {" + ", ".join(f'{k}: {v}' if k != "*" else f'"*": {v}' for k, v in TRAIN_IDS.items()) + "}",
    ),
    "JPEG, binary": (several([0, 255], as_jpeg), NAMES[:2], "jpeg", "threshold: 128"),
    "JPEG of worst quality": (several([0, 255], lambda m: as_jpeg(m, 20)), NAMES[:2], "jpeg", "threshold: 128"),
    "JPEG of best quality": (several([0, 255], lambda m: as_jpeg(m, 97)), NAMES[:2], "jpeg", "threshold: 128"),
    "JPEG, classes": (several([0, 1, 2, 255], as_jpeg), NAMES[:3], "jpeg", 'label_map: {0: 0, 1: 1, 2: 2, 255: 255, "*": ignore}'),
    "enlarged": (several([0, 255], enlarged), NAMES[:2], "resampled", "threshold: 128"),
    "shrunk": (several([0, 255], lambda m: enlarged(m, 0.7)), NAMES[:2], "resampled", "threshold: 128"),
    "bicubic": (several([0, 200], lambda m: enlarged(m, 1.5, Image.BICUBIC)), NAMES[:2], "jpeg", "threshold: 100"),
    "black and white in RGB": (
        several([0, 1], lambda m: rgb(m, [[0, 0, 0], [255, 255, 255]])), NAMES[:2], "color-masks", "threshold: 128"),
    "indices in RGB": (
        several([0, 1, 2], lambda m: np.stack([m] * 3, -1)), NAMES[:3], "color-masks", "mask_channel: 0"),
    "colours of the classes": (
        several([0, 1, 2], lambda m: rgb(m, [[0, 255, 10], [60, 195, 10], [120, 135, 10]])),
        NAMES[:3], "color-masks", "palette: classes"),
    "one more colour": (
        several([0, 1, 2], lambda m: rgb(m, [[0, 255, 10], [60, 195, 10], [9, 9, 9]])),
        NAMES[:2], "color-masks", 'palette: {"0,255,10": 0, "60,195,10": 1, "9,9,9": ignore}'),
    "unknown colours": (
        several([0, 1], lambda m: rgb(m, [[5, 5, 5], [200, 0, 0]])),
        NAMES[:2], "color-masks", 'palette: {"5,5,5": 0, "200,0,0": 1}'),
    "two codings": (
        {"train": [shapes([0, 1], 0), shapes([0, 255], 1), shapes([0, 1], 2)]},
        NAMES[:2], "two-codings", "label_map: {255: 1}"),
}  # fmt: skip
ONLY_WARNED_OF = {"absent-class", "two-codings"}


@pytest.mark.parametrize("name", DISEASES)
def test_a_disease_is_found_and_its_line_cures_it(folder, name):
    masks, classes, code, line = DISEASES[name]
    root = folder(masks, classes)
    findings = found(root)
    assert code in findings, findings
    finding = findings[code]
    assert finding.severity == ("warning" if code in ONLY_WARNED_OF else "error")
    assert finding.line == line
    assert finding.files or code == "absent-class"
    assert not {other for other, f in findings.items() if f.severity == "error"} - {code}, "one disease, one error"
    cured = found(root, **yaml.safe_load(line))
    left = {other for other, f in cured.items() if f.severity != "info"}
    assert left <= ({"absent-class"} if name == "from 1, the last class missing" else set()), cured


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 255], [0, 1, 2, 3], [0, 1, 2, 3, 255]])
@pytest.mark.parametrize("factor", [1, 1.5])
def test_healthy_masks_have_no_finding(folder, labels, factor):
    clean = several(labels, lambda mask: enlarged(mask, factor, Image.NEAREST))
    clean["val"] = [enlarged(shapes(labels, seed), factor, Image.NEAREST) for seed in (10, 11)]
    classes = NAMES[: len([label for label in labels if label < 255])]
    assert found(folder(clean, classes), ("train", "val")) == {}


def test_synthetic_roads_have_no_finding():
    scans = [scan(SyntheticRoads(split, length=12, size=48), split) for split in ("train", "val")]
    assert diagnose(scans) == []


def test_labels_between_that_are_classes_are_found_too(folder):
    """Interpolation between 0 and 3 gives 1 and 2, which are classes: no value is odd, but the borders are."""
    masks = several([0, 3], lambda mask: enlarged(mask, 3))
    masks["train"] += [shapes([0, 1, 2, 3], seed, (192, 240)) for seed in range(10, 12)]
    findings = found(folder(masks, NAMES))
    assert findings["resampled"].severity == "warning"
    assert [name.split()[0] for name in findings["resampled"].files] == ["m0", "m1", "m2", "m3"]


def test_another_set_of_labels_is_not_taken_for_damage(folder):
    masks = several(list(range(0, 60, 3)), size=(96, 160))
    finding = found(folder(masks, NAMES))["outside"]
    assert finding.line == 'label_map: {0: 0, 3: 3, "*": ignore}'


def test_a_label_map_that_is_set_already_is_kept(folder):
    root = folder(several([0, 9, 7]))
    finding = found(root, label_map={9: 1})["outside"]
    assert finding.line == "label_map: {9: 1, 7: ignore}"
    assert found(root, **yaml.safe_load(finding.line)) == {}


def test_sizes_and_turned_masks(folder):
    root = folder(several([0, 1], count=3))
    Image.fromarray(shapes([0, 1], 0).T.copy()).save(root / "masks" / "train" / "m1.png")
    Image.fromarray(shapes([0, 1], 0)[:50]).save(root / "masks" / "train" / "m2.png")
    finding = found(root)["size-mismatch"]
    assert finding.files == ("m1 (mask 64x80, image 80x64)", "m2 (mask 80x50, image 80x64)")
    assert "1 are turned by 90 degrees" in finding.remedy
    assert "EXIF" in finding.remedy


def test_unreadable_files(folder):
    root = folder(several([0, 1]))
    (root / "images" / "train" / "m0.png").write_bytes(b"no image")
    mask = root / "masks" / "train" / "m2.png"
    mask.write_bytes(mask.read_bytes()[:60])
    findings = found(root)
    assert set(findings) == {"unreadable-image", "unreadable-mask"}
    assert findings["unreadable-image"].files[0].startswith("m0 (")
    assert findings["unreadable-mask"].files[0].startswith("m2 (")
    assert str(mask) in findings["unreadable-mask"].files[0]


def test_palettes_of_single_files(folder):
    """What `quantize` and many paint programs make: every file numbers its colours on its own."""
    colors = [[0, 255, 10], [60, 195, 10], [120, 135, 10]]

    def indexed(seed, order):
        mask = Image.fromarray(np.argsort(order).astype(np.uint8)[shapes([0, 1, 2], seed)])
        mask.putpalette([value for label in order for value in colors[label]])
        return mask

    root = folder({"train": [indexed(0, [0, 1, 2]), indexed(1, [1, 2, 0])]}, NAMES[:3])
    finding = found(root)["palettes-differ"]
    assert (finding.severity, finding.line) == ("error", "palette: classes")
    assert found(root, palette="classes") == {}
    np.testing.assert_array_equal(FolderDataset(str(root), palette="classes").read_mask(1), shapes([0, 1, 2], 1))

    root = folder({"train": [indexed(0, [1, 2, 0]), indexed(1, [1, 2, 0])]}, NAMES[:3])
    finding = found(root)["palette-order"]
    assert (finding.severity, finding.line) == ("warning", "palette: classes")
    assert "label 0 in the colour of 'road', which is class 1" in finding.message


def test_masks_of_the_class_palette_are_healthy(folder):
    masks = []
    for seed in range(3):
        mask = Image.fromarray(shapes([0, 1], seed))
        mask.putpalette([0, 255, 10, 60, 195, 10, 9, 9, 9])
        masks.append(mask)
    assert found(folder({"train": masks})) == {}


def test_colours_without_end(folder):
    root = folder(several([0, 1], lambda mask: as_jpeg(rgb(mask, [[0, 255, 10], [200, 0, 30]]))))
    finding = found(root)["color-masks"]
    assert finding.line is None
    assert "too many for classes" in finding.remedy


def test_contents(folder):
    empty = np.full((64, 80), 255, np.uint8)
    masks = {"train": [shapes([0, 1], 0), empty, np.zeros((64, 80), np.uint8)], "val": [shapes([0, 1], 3)]}
    findings = found(folder(masks, NAMES[:3]), ("train", "val"))
    assert findings["only-ignored"].files == ("m1",)
    assert findings["only-ignored"].severity == "warning"
    assert findings["single-class"].files == ("m2",)
    assert findings["single-class"].severity == "info"
    assert findings["absent-class"].severity == "warning"
    assert "no mask holds a pixel of pole" in findings["absent-class"].message


def test_duplicates_across_splits(folder):
    masks = {split: [shapes([0, 1], seed) for seed in seeds] for split, seeds in (("train", range(4)), ("val", (4, 5, 6)))}
    pictures = {split: [picture(i + 10 * (split == "val")) for i in range(len(m))] for split, m in masks.items()}
    pictures["val"][0] = pictures["train"][2]
    brighter = np.clip(pictures["train"][3] * 1.1, 0, 255).astype(np.uint8)
    pictures["val"][1] = as_jpeg(brighter, 60)
    findings = found(folder(masks, pictures=pictures), ("train", "val"))
    exact, near = findings["duplicates-across-splits"], findings["near-duplicates-across-splits"]
    assert (exact.severity, exact.section, exact.files) == ("error", "val_dataset", ("m2 = m0",))
    assert (near.severity, near.section, near.files) == ("warning", "val_dataset", ("m3 = m1",))


def test_duplicates_within_a_split(folder):
    masks = {"train": [shapes([0, 1], 0), shapes([0, 1], 0), shapes([0, 1], 1), shapes([0, 1], 2)]}
    pictures = {"train": [picture(0), picture(0), picture(1), picture(1)]}
    findings = found(folder(masks, pictures=pictures))
    assert findings["duplicates"].files == ("m0 = m1",)
    assert findings["contradicting-masks"].files == ("m2 = m3",)


def test_two_sections_of_the_same_files(folder):
    root = folder(several([0, 1]))
    scans = [scan(FolderDataset(str(root)), name) for name in ("train_dataset", "val_dataset")]
    assert [finding.code for finding in diagnose(scans)] == ["same-data"]


def test_plain_pictures_are_no_near_duplicates():
    plain = [fingerprint(np.full((40, 50, 3), value, np.uint8)) for value in (10, 11)]
    assert plain[0].digest != plain[1].digest
    assert all(entry.grid is None for entry in plain)


@pytest.mark.parametrize("size", [(40, 36), (64, 80), (300, 211)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_copies_of_another_size_and_type_are_near_duplicates(size, dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    originals = [fingerprint((picture(i, size).astype(float) * scale).astype(dtype)) for i in range(3)]
    copies = []
    for i in range(3):
        copy = Image.fromarray(picture(i, size)).resize((size[1] * 3 // 2, size[0] * 3 // 2), Image.BILINEAR)
        copies.append(fingerprint(np.asarray(copy)))
    assert sorted(near_duplicates(originals, copies)) == [(0, 0), (1, 1), (2, 2)]


def test_borders_by_hand():
    legal, ignored = np.zeros(65536, bool), np.zeros(65536, bool)
    legal[[0, 3, 255]], ignored[255] = True, True
    labels = np.array([[0, 0, 1, 3, 3, 0, 255, 255]], np.uint8)
    borders = measure_borders(labels, legal, ignored)
    # neighbours of columns 1 to 6: 0|1 0|3 1|3 3|0 3|255 0|255
    assert (borders.steps, borders.ramps) == (5, 1)
    assert (borders.outside, borders.outside_ramps, borders.coherence) == (1, 1, 0)


@pytest.mark.parametrize(
    ("images", "masks", "suffixes"),
    [
        (["a1", "a2", "b1"], ["a1_mask", "a2_mask", "b1_mask"], ("", "_mask")),
        (["7_sat", "12_sat"], ["7_mask", "12_mask"], ("_sat", "_mask")),
        (["0001", "0002"], ["0003", "0004"], None),
        (["a", "b"], [], None),
        (["x1", "x2", "x3", "x4", "x5"], ["x1_gt"], None),
    ],
)
def test_suffixes_are_guessed(images, masks, suffixes):
    assert guess_suffixes(images, masks) == suffixes


def test_unpaired_files_and_the_suffix_that_pairs_them(folder):
    root = folder(several([0, 1]))
    (root / "masks" / "train" / "m1.png").unlink()
    with pytest.raises(UnpairedFilesError, match=r"1 images have no mask \(m1.png\)") as caught:
        FolderDataset(str(root))
    finding = unpaired_files("train_dataset", caught.value)
    assert (finding.severity, finding.line, finding.files) == ("error", "on_unpaired: skip", ("m1.png",))
    assert len(FolderDataset(str(root), **yaml.safe_load(finding.line))) == 3

    for mask in sorted((root / "masks" / "train").iterdir()):
        mask.rename(mask.with_name(f"{mask.stem}_mask.png"))
    (root / "images" / "train" / "m1.png").unlink()
    with pytest.raises(UnpairedFilesError) as caught:
        FolderDataset(str(root))
    finding = unpaired_files("train_dataset", caught.value)
    assert finding.line == "mask_suffix: _mask"
    assert len(FolderDataset(str(root), **yaml.safe_load(finding.line))) == 3


def test_every_finding_has_its_chapter():
    from pathlib import Path

    import evenseg.data.diagnosis as diagnosis

    text = (Path(__file__).parents[2] / "docs" / "label_doctor.md").read_text()
    source = "".join(file.read_text() for file in Path(diagnosis.__file__).parent.glob("*.py"))
    codes = {disease[2] for disease in DISEASES.values()} | {
        "unreadable-image", "unreadable-mask", "size-mismatch", "palettes-differ", "palette-order", "only-ignored",
        "single-class", "duplicates", "contradicting-masks", "duplicates-across-splits", "near-duplicates-across-splits",
        "same-data", "unpaired",
    }  # fmt: skip
    for code in codes:
        assert f"`{code}`" in text, code
        assert f'"{code}"' in source or code.startswith("unreadable"), code
