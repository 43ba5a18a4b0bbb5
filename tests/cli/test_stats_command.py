import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from evenseg.cli import app
from evenseg.config import make_config
from evenseg.engine import check_signatures, cross_check


def stats(*arguments):
    return CliRunner().invoke(app, ["stats", *map(str, arguments)])


def test_table_json_and_page(tiny, write_yaml, tmp_path):
    files = tmp_path / "new" / "stats.json", tmp_path / "pages" / "stats.html"
    result = stats(write_yaml(tiny), "--json", files[0], "--html", files[1])
    assert result.exit_code == 0, result.output
    for part in ("road", "effective number", "LovaszHingeLoss", "image sizes, height x width: 32x32 (5)"):
        assert part in result.stdout
    assert result.stdout.splitlines()[-1] == str(files[1])
    found = json.loads(files[0].read_text())
    assert [split["section"] for split in found["splits"]] == ["train_dataset", "val_dataset"]
    road = found["splits"][0]["classes"][1]
    assert 0 < road["share"] < 0.2
    assert f"{100 * road['share']:.2f}" in result.stdout
    assert sum(row["pixels"] for row in found["splits"][0]["classes"]) == 5 * 32 * 32
    assert len(road["area_quantiles"]) == 11
    assert len(found["weights"]["median frequency"]) == 2
    page = files[1].read_text()
    assert found["suggestion"]["reason"] in page
    assert "<script src" not in page
    assert page.count("data-chart=") >= 3
    # what is suggested is a configuration
    suggested = found["suggestion"]
    tiny["loss"] = suggested["loss"]
    check_signatures(make_config(tiny))


def test_the_printed_suggestion_is_yaml_that_fits_the_model(tiny, write_yaml, make_folder):
    masks = {}
    for split in ("train", "val"):
        masks[split] = {f"{split}{i}": np.zeros((40, 40)) for i in range(4)}
        masks[split][f"{split}1"][4:8, 4:9] = 1
        tiny[f"{split}_dataset"] = {"type": "FolderDataset", "root": "later", "split": split}
    root = make_folder(masks)
    for split in masks:
        tiny[f"{split}_dataset"]["root"] = str(root)
    tiny["model"] = {"type": "OCRNet", "pretrained": "none"}
    result = stats(write_yaml(tiny))
    assert result.exit_code == 0, result.output
    suggested = yaml.safe_load(result.stdout[result.stdout.index("\nloss:\n") :])
    assert suggested["loss"]["coef"] == [1.0, 0.4]
    assert suggested["sampler"] == {"type": "Equibatch"}
    check_signatures(make_config(tiny | suggested))


@pytest.mark.parametrize(
    ("value", "message"), [(255, "label_map: {255: 1}"), (7, "gives them to ground, crack in this order")]
)
def test_odd_labels_are_answered_as_training_does(tiny, write_yaml, make_folder, value, message):
    root = make_folder({"train": {"a": np.eye(12) * value}, "val": {"b": np.eye(12)}})
    for split in ("train", "val"):
        tiny[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split}
    file = write_yaml(tiny)
    result = stats(file)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {file}: train_dataset: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_suggestion_has_a_coefficient_for_every_output_of_a_network_of_ones_own(tiny, write_yaml, tmp_path, monkeypatch):
    (tmp_path / "twin.py").write_text(
        "from torch import nn\n"
        "class Twin(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.main, self.side = nn.Conv2d(3, num_classes, 1), nn.Conv2d(3, num_classes, 1)\n"
        "    def forward(self, image):\n"
        "        return [self.main(image), self.side(image)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny["model"] = {"type": "twin.Twin"}
    result = stats(write_yaml(tiny), "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    tiny["loss"] = json.loads((tmp_path / "found.json").read_text())["suggestion"]["loss"]
    assert tiny["loss"]["coef"] == [1.0, 0.4]
    assert cross_check(make_config(tiny)).model is not None
