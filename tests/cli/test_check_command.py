import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from evenseg.cli import app


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


@pytest.fixture
def config(tiny, write_yaml, make_folder):
    """Writes a configuration over a folder with the given masks."""

    def write(masks, **keywords):
        root = make_folder(masks)
        for split in masks:
            tiny[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split} | keywords
        return write_yaml(tiny)

    return write


def blocks(seed, low, high):
    mask = np.full((40, 40), low)
    mask[seed : seed + 9, 3 : 20 + seed] = high
    return mask


def test_healthy_data(tiny, write_yaml, tmp_path):
    result = check(write_yaml(tiny), "--json", tmp_path / "new" / "found.json")
    assert result.exit_code == 0, result.output
    assert "nothing found" in result.stdout
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    assert found["findings"] == []
    assert (found["errors"], found["warnings"]) == (0, 0)
    train = found["datasets"]["train_dataset"]
    assert (train["pairs"], train["sizes"]) == (5, [{"height": 32, "width": 32, "images": 5}])
    assert [row["meaning"] for row in train["labels"]] == ["ground", "road"]
    assert sum(row["pixels"] for row in train["labels"]) == 5 * 32 * 32


def test_errors_come_with_the_lines_that_cure_them(config, tmp_path):
    masks = {split: {f"{split}{i}": blocks(i + j, 0, 255) for i in range(3)} for split, j in (("train", 0), ("val", 5))}
    file = config(masks)
    result = check(file, "--json", tmp_path / "found.json")
    assert result.exit_code == 1, result.output
    assert "2 errors, 0 warnings" in result.stdout
    # the block for the configuration is YAML as it stands
    block = result.stdout.split("that of the finding):\n")[1].split("2 errors")[0]
    assert yaml.safe_load(block) == {f"{split}_dataset": {"label_map": {255: 1}} for split in ("train", "val")}
    found = json.loads((tmp_path / "found.json").read_text())
    assert [finding["code"] for finding in found["findings"]] == ["zero-255", "zero-255"]
    assert found["findings"][0]["files"] == ["train0", "train1", "train2"]
    assert found["datasets"]["val_dataset"]["labels"][1]["meaning"] == "ignored"
    cures = [f"--set={split}_dataset.label_map={{255: 1}}" for split in ("train", "val")]
    assert check(file, *cures).exit_code == 0


def test_unpaired_files_do_not_hide_the_rest(config, tmp_path):
    file = config({"train": {"a": blocks(0, 0, 1), "b": blocks(1, 0, 9)}, "val": {"c": blocks(9, 0, 1)}})
    (tmp_path / "pictures" / "masks" / "train" / "a.png").unlink()
    result = check(file, "--json", tmp_path / "found.json")
    assert result.exit_code == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(f["code"], f["line"]) for f in found["findings"] if f["severity"] == "error"] == [
        ("unpaired", "on_unpaired: skip"), ("gaps", "label_map: {0: 0, 9: 1}")]  # fmt: skip
    assert "  on_unpaired: skip  # 1" in result.stdout


def test_unreadable_files(config, tmp_path):
    file = config({"train": {"a": blocks(0, 0, 1), "b": blocks(1, 0, 1)}, "val": {"c": blocks(9, 0, 1), "d": blocks(8, 0, 1)}})
    for split, name in (("train", "a"), ("val", "c")):
        (tmp_path / "pictures" / "images" / split / f"{name}.jpg").write_bytes(b"damaged")
    result = check(file)
    assert result.exit_code == 1
    # one line for both, at the top level
    assert "\non_unreadable: skip  # 1, 2\n" in result.stdout
    result = check(file, "--set", "on_unreadable=skip")
    assert result.exit_code == 0, result.output
    assert "0 errors, 2 warnings" in result.stdout


def test_names_that_pair_by_a_suffix(config, tmp_path):
    file = config({"train": {"a": blocks(0, 0, 1), "b": blocks(1, 0, 1)}, "val": {"c": blocks(9, 0, 1)}})
    for name in "ab":
        mask = tmp_path / "pictures" / "masks" / "train" / f"{name}.png"
        mask.rename(mask.with_name(f"{name}_mask.png"))
    result = check(file)
    assert result.exit_code == 1
    assert "  mask_suffix: _mask  # 1" in result.stdout
    assert check(file, "--set", "train_dataset.mask_suffix=_mask").exit_code == 0


def test_not_one_pair_is_left(config, tmp_path):
    file = config({"train": {"a": blocks(0, 0, 1)}, "val": {"c": blocks(9, 0, 1)}})
    mask = tmp_path / "pictures" / "masks" / "train" / "a.png"
    mask.rename(mask.with_name("zebra.png"))
    result = check(file, "--json", tmp_path / "found.json")
    assert result.exit_code == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert [f["code"] for f in found["findings"] if f["severity"] == "error"] == ["unpaired"]
    assert list(found["datasets"]) == ["val_dataset"]


def test_unpaired_files_do_not_hide_what_else_stops(config, tmp_path):
    file = config({"train": {"a": blocks(0, 0, 1), "b": blocks(1, 0, 1)}, "val": {"c": blocks(9, 0, 1)}})
    (tmp_path / "pictures" / "masks" / "train" / "a.png").unlink()
    result = check(file, "--set", "train_dataset.channels=0")
    assert result.exit_code == 2
    assert "channels must be at least 1, got 0" in result.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_dataset.root=absent", "train_dataset: the data set folder absent does not exist"),
        ("train_dataset.rot=x", "did you mean 'root'"),
        ("val_dataset.type=FolderDatset", "did you mean 'FolderDataset'"),
    ],
)
def test_a_configuration_that_cannot_be_used(config, override, message):
    file = config({"train": {"a": blocks(0, 0, 1)}, "val": {"b": blocks(1, 0, 1)}})
    result = check(file, "--set", override)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {file}: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["ListDataset", "CSVDataset"])
def test_missing_files_of_a_list_are_a_finding_and_the_rest_is_looked_at(tiny, write_yaml, make_folder, tmp_path, kind):
    root = make_folder({"train": {f"t{i}": blocks(i, 0, 255) for i in range(3)}, "val": {"v": blocks(4, 0, 1)}})
    rows = [("images", "masks"), *[(f"images/train/t{i}.jpg", f"masks/train/t{i}.png") for i in range(5)]]
    suffix, comma = (".csv", ",") if kind == "CSVDataset" else (".txt", " ")
    head = "image,mask" if comma == "," else "# the pairs"
    (root / f"train{suffix}").write_text("\n".join([head, *(comma.join(row) for row in rows[1:])]) + "\n")
    tiny["train_dataset"] = {"type": kind, "root": str(root), "file": f"train{suffix}"}
    tiny["val_dataset"] = {"type": "FolderDataset", "root": str(root), "split": "val"}
    file = write_yaml(tiny)
    result = check(file, "--json", tmp_path / "found.json")
    assert result.exit_code == 1, result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(finding["code"], finding["section"]) for finding in found["findings"] if finding["severity"] == "error"] == [
        ("missing-files", "train_dataset"),
        ("zero-255", "train_dataset"),
    ]
    missing = found["findings"][0]
    assert missing["message"] == "4 of the 10 files that the list names do not exist"
    assert missing["files"][0] == f"line 5: {root / 'images' / 'train' / 't3.jpg'}"
    assert missing["line"] == "on_unpaired: skip"
    assert (found["datasets"]["train_dataset"]["pairs"], found["datasets"]["val_dataset"]["pairs"]) == (3, 1)
    cures = [f"--set=train_dataset.{line}" for line in ("on_unpaired=skip", "label_map={255: 1}")]
    cured = check(file, *cures, "--json", tmp_path / "found.json")
    assert cured.exit_code == 0, cured.output
    for i in range(3):
        (root / "masks" / "train" / f"t{i}.png").unlink()
    check(file, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["findings"][0]["code"], len(found["findings"][0]["files"])) == ("missing-files", 7)
    assert list(found["datasets"]) == ["val_dataset"]
