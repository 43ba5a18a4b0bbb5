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


def test_show_with_the_defaults_of_every_part_is_the_same_run(tiny, write_yaml, tmp_path):
    tiny["train_dataset"] = {"type": "FolderDataset", "root": "no/where", "transforms": [{"type": "RandomCrop", "size": [16, 16]}]}
    mix = {"type": "MixedLoss", "losses": [{"type": "FocalLoss"}, {"type": "torch.nn.CrossEntropyLoss"}], "coef": [1, 2]}
    tiny["loss"] = {"types": [mix], "coef": [1], "phases": [{"start": 2, "types": [{"type": "LovaszSoftmaxLoss"}]}]}
    result = run("show", write_yaml(tiny), "--defaults")
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert shown["optimizer"]["betas"] == [0.9, 0.999]
    assert (shown["lr_scheduler"]["power"], shown["ema"], shown["model"]["widths"]) == (0.9, None, [4, 8])
    data = shown["train_dataset"]
    assert (data["split"], data["images"], data["channels"], data["on_unpaired"]) == ("train", "images", 3, "stop")
    assert list(data)[-1] == "transforms"
    assert data["transforms"][0] == {"type": "RandomCrop", "size": [16, 16]} | {
        key: value for key, value in data["transforms"][0].items() if key not in ("type", "size")
    }
    focal, entropy = shown["loss"]["types"][0]["losses"]
    assert (focal["gamma"], focal["per_image"], entropy["label_smoothing"]) == (2.0, False, 0.0)
    assert shown["loss"]["phases"][0]["types"][0]["method"] == "histogram"
    assert "ignore_index" not in focal
    again = tmp_path / "again.yml"
    again.write_text(result.stdout)
    assert run("show", again, "--defaults").stdout == result.stdout
    assert run("show", write_yaml(tiny | {"iters": 1, "optimizer": {"type": "SDG"}}), "--defaults").exit_code == 2


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


def test_all_mistakes_are_listed(tiny_study, write_yaml, tmp_path):
    """Of the fixed form, of every part, and of what does not fit, one line each."""
    tiny_study |= {"itres": 4, "eval_interval": -1, "evaluation": {"flp": True, "window": [0, 3]}}
    tiny_study["optimizer"] |= {"momentm": 0.9, "lr": "fast"}
    tiny_study["model"]["widht"] = 3
    tiny_study["train_dataset"]["transforms"][0] = {"type": "RandomFlop"}
    tiny_study["losses"]["CE"]["types"][0] |= {"wieght": [1, 2], "gama": 1}
    tiny_study["losses"]["CE+LovaszHinge"]["types"][0]["coef"] = [1]
    tiny_study["losses"]["CE+LovaszHinge"]["types"][0]["losses"][1]["type"] = "LovaszHing"
    file = write_yaml(tiny_study)
    expected = {
        "itres", "eval_interval", "evaluation.flp", "evaluation.window[0]", "optimizer.momentm", "optimizer.lr", "model.widht",
        "train_dataset.transforms[0].type", "losses.CE.types[0].wieght", "losses.CE.types[0].gama",
        "losses.CE+LovaszHinge.types[0].coef", "losses.CE+LovaszHinge.types[0].losses[1].type",
    }  # fmt: skip
    result = run("check", file)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert all(line.startswith(f"error: {file}: ") for line in lines)
    assert {line.split(": ")[2] for line in lines} == expected
    assert len(lines) == len(expected)
    for command, loss in (("train", ["--loss", "CE"]), ("compare", [])):
        again = CliRunner().invoke(app, [command, str(file), *loss, "--output", str(tmp_path / "out")])
        assert (again.exit_code, again.stderr) == (2, result.stderr)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_listed_beside_what_is_misspelt(tiny, write_yaml):
    tiny["optimizer"]["momentm"] = 0.9
    tiny["loss"]["types"][0]["weight"] = [1, 2, 3]
    tiny["train_dataset"]["transforms"].insert(0, {"type": "RandomCrop", "size": [1, 1]})
    tiny["evaluation"] = {"window": [1, 1]}
    lines = run("check", write_yaml(tiny), "--set", "itres=3", "--set", "optimiser.lr=1").stderr.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "itres", "optimiser", "optimizer.momentm", "loss.types[0].weight", "evaluation.window", "train_dataset.transforms[0].size",
    ]  # fmt: skip
