import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from evenseg import __version__
from evenseg.cli import app
from evenseg.config import load_config


def run(*arguments):
    return CliRunner().invoke(app, ["config", *map(str, arguments)])


def test_show_prints_what_is_run_and_loads_no_torch(tiny, write_yaml):
    tiny["val_dataset"]["size"] = "${train_dataset.size}"
    write_yaml(tiny, "base.yml")
    file = write_yaml({"_base_": "base.yml", "iters": 8}, "child.yml")
    result = run("show", file, "--set", "train_dataset.size=64")
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert (shown["iters"], shown["val_dataset"]["size"], shown["sampler"]) == (8, 64, {"type": "Shuffle"})
    assert "_base_" not in shown
    assert result.stdout.startswith(f"# written by evenseg {__version__}\n")
    again = file.with_name("again.yml")
    again.write_text(result.stdout)
    assert load_config(again).model_dump() == load_config(file, ["train_dataset.size=64"]).model_dump()
    code = f"import sys; sys.argv[1:] = ['config', 'show', {str(file)!r}]\nfrom evenseg.cli import app\n"
    code += "try: app()\nexcept SystemExit: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_check_says_what_fits(tiny_study, write_yaml):
    result = run("check", write_yaml(tiny_study))
    assert result.exit_code == 0, result.output
    first, *lines = result.stdout.splitlines()
    assert first.endswith("tiny.yml: fits together")
    assert lines[0] == "  data set        SyntheticRoads: 2 classes (ground, road), 255 ignored"
    assert "LightUNet: 0.00 million parameters, 1 output" in lines[1]
    assert lines[3] == "  CE+LovaszHinge  1 (1 CrossEntropyLoss + 0.5 LovaszHingeLoss)"


def test_check_names_phases_and_data_that_is_not_there(tiny, write_yaml):
    tiny["train_dataset"] = {"type": "FolderDataset", "root": "no/where"}
    tiny["loss"]["phases"] = [{"start": 2, "types": [{"type": "LovaszSoftmaxLoss"}]}]
    result = run("check", write_yaml(tiny))
    assert result.exit_code == 0, result.output
    assert "FolderDataset: its classes are not known before no/where exists" in result.stdout
    assert "1 CrossEntropyLoss; from step 2 1 LovaszSoftmaxLoss" in result.stdout
    tiny["loss"]["phases"][0]["start"] = 0.4
    tiny["iters"] = 10
    assert "1 CrossEntropyLoss; from step 4 1 LovaszSoftmaxLoss" in run("check", write_yaml(tiny)).stdout


@pytest.mark.parametrize("command", ["show", "check"])
def test_mistakes_are_one_line(tiny, write_yaml, command):
    tiny["itres"] = 4
    result = run(command, write_yaml(tiny))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "tiny.yml: itres: unknown key 'itres'" in result.stderr


def test_schema_is_printed_as_json():
    result = run("schema")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["title"] == "evenseg configuration"
