import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evenseg import __version__
from evenseg.cli import app, demo


def evenseg(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(*arguments):
    """Runs a command that must fail as the user's mistake; returns its one line."""
    result = evenseg(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_train_then_evaluate(tiny, write_yaml, tmp_path):
    result = evenseg("train", write_yaml(tiny), "--output", tmp_path / "run", "--set", "iters=2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2
    result = evenseg("evaluate", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "ground" in result.stdout
    assert "road" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tmp_path / "run" / "evaluation" / "val.html")
    row = json.loads((tmp_path / "run" / "evaluation" / "val.json").read_text())
    assert f"{100 * row['iou'][0]:.2f}" in result.stdout


def test_a_class_that_is_never_predicted_is_not_called_absent(tiny, write_yaml, tmp_path):
    tiny |= {"iters": 1, "optimizer": {"type": "SGD", "lr": 1e-9}}
    evenseg("train", write_yaml(tiny), "--output", tmp_path / "run")
    # weights that say ground everywhere
    file = tmp_path / "run" / "checkpoints" / "best.safetensors"
    weights = {name: torch.zeros_like(value) for name, value in load_file(file).items()}
    bias = next(name for name, value in reversed(weights.items()) if name.endswith("bias") and value.shape == (2,))
    weights[bias][0] = 9
    save_file(weights, file)
    result = evenseg("evaluate", tmp_path / "run")
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "run" / "evaluation" / "val.json").read_text())
    assert (row["iou"][1], row["precision"][1]) == (0, None)
    road = next(line for line in result.stdout.splitlines() if " road " in line)
    assert "never" in road
    assert "absent" not in road
    assert "“never predicted”: it is in the labels, so its IoU is 0" in result.stdout
    assert "“absent”" not in result.stdout


def test_compare_writes_the_report(tiny_study, write_yaml, tmp_path):
    result = evenseg("compare", write_yaml(tiny_study), "--seeds", 0, 3, "--output", tmp_path / "study")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "study" / "report.html")
    assert len(list((tmp_path / "study" / "runs").glob("*/seed-*/summary.json"))) == 4
    assert (tmp_path / "study" / "report.html").stat().st_size > 10_000


def test_train_one_loss_of_a_study_where_compare_finds_it(tiny_study, write_yaml, tmp_path):
    tiny_study["iters"] = 1
    tiny_study["output"] = str(tmp_path / "study")
    file = write_yaml(tiny_study)
    assert "losses: choose one with --loss: CE, CE+LovaszHinge" in fails("train", file)
    assert "did you mean 'CE+LovaszHinge'" in fails("train", file, "--loss", "CE+LovazHinge")
    result = evenseg("train", file, "--loss", "CE", "--seed", 5)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "study" / "runs" / "CE" / "seed-5")
    result = evenseg("compare", file, "--seeds", 5)
    assert result.exit_code == 0, result.output
    assert "CE, seed 5: finished before, kept" in result.stderr


def test_demo_runs_its_shipped_configuration(tmp_path, monkeypatch):
    from evenseg import config

    original = config.load_config
    short = ["iters=2", "eval_interval=2", "train_dataset.length=4", "val_dataset.length=2"]
    monkeypatch.setattr(config, "load_config", lambda file: original(file, short))
    monkeypatch.setattr(sys.modules[demo.__module__], "SEEDS", (0, 1))
    result = evenseg("demo", "--output", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "demo" / "report.html")
    assert Path(result.stdout.splitlines()[-1]).is_file()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("itres=4", ["itres: ", "did you mean 'iters'?"]),
        ("optimizer.momentm=0.9", ["optimizer.momentm: ", "unknown key 'momentm'"]),
        ("loss.types[0].wieght=[1, 2]", ["loss.types[0].wieght: ", "weight"]),
        ("loss.types[0].type=LovaszHingLoss", ["loss.types[0].type: ", "LovaszHingeLoss"]),
        ("loss.coef=[1, 0.4]", ["loss.coef: ", "has 1 output"]),
        ("loss.types[0].weight=[1, 2, 3]", ["loss.types[0].weight: ", "3", "2"]),
        ("train_dataset.split=trian", ["train_dataset.split: ", "got 'trian'"]),
        ("model.type=Enet", ["model.type: ", "did you mean 'ENet'?"]),
    ],
)
def test_config_errors_are_one_line_and_leave_nothing(tiny, write_yaml, tmp_path, override, parts):
    file = write_yaml(tiny)
    line = fails("train", file, "--output", tmp_path / "runs" / "one", "--set", override)
    assert line.startswith(f"error: {file}: ")
    for part in parts:
        assert part in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yml"]


@pytest.mark.parametrize("command", ["train", "compare"])
def test_masks_of_0_and_255_are_stopped_with_the_remedy(tiny, tiny_study, write_yaml, make_folder, tmp_path, command):
    mapping = tiny_study if command == "compare" else dict(tiny_study, loss=tiny_study["losses"]["CE"], losses=None)
    splits = ("train", "val", "test")
    root = make_folder({split: {"a": np.eye(8) * 255} for split in splits})
    for split in splits:
        mapping[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split}
    file = write_yaml(mapping)
    result = evenseg(command, file, "--output", tmp_path / "out")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    remedy = []
    for line, split in zip(lines, splits, strict=True):
        assert line.startswith(f"error: {file}: {split}_dataset: {root / 'masks' / split}: the masks hold only the values 0 ")
        assert "set `label_map: {255: 1}` in the data set's section" in line
        option = line.partition(", or type ")[2]
        assert option == f"--set '{split}_dataset.label_map={{255: 1}}'"
        remedy += shlex.split(option)
    assert not (tmp_path / "out").exists()
    result = evenseg(command, file, "--output", tmp_path / "out", *remedy)
    assert result.exit_code == 0, result.output


def test_all_data_sets_that_are_not_there_are_named(tiny, write_yaml, make_folder, tmp_path):
    root = make_folder({"val": {"a": np.eye(8)}})
    for split in ("train", "val", "test"):
        tiny[f"{split}_dataset"] = {"type": "FolderDataset", "root": str(root), "split": split}
    result = evenseg("train", write_yaml(tiny), "--output", tmp_path / "out")
    assert result.exit_code == 2
    train, test = result.stderr.splitlines()
    assert f"train_dataset: the folder {root / 'images' / 'train'} does not exist; {root / 'images'} holds val" in train
    assert test.endswith("holds val; --set test_dataset=null trains without it")
    for split in ("train", "val", "test"):
        tiny[f"{split}_dataset"]["root"] = "no/where"
    assert fails("train", write_yaml(tiny), "--output", tmp_path / "out").endswith(
        f"train_dataset: the data set folder no/where does not exist (looked in {Path.cwd()}); "
        "--set train_dataset.root=FOLDER names another (so it is for val_dataset and test_dataset)"
    )
    assert not (tmp_path / "out").exists()


def test_missing_files(tmp_path):
    assert fails("train", tmp_path / "absent.yml") == f"error: {tmp_path / 'absent.yml'}: no such file"
    assert "is no run folder" in fails("evaluate", tmp_path)


def test_wrong_paths_are_found_before_anything_heavy_is_imported(tiny_study, write_yaml, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/best.safetensors"):
        (run / name).touch()
    (tmp_path / "study" / "runs" / "CE" / "seed-0").mkdir(parents=True)
    for name in ("study.json", "runs/CE/seed-0/config.yaml"):
        (tmp_path / "study" / name).touch()
    cases = [
        ["train", "absent.yml"],
        ["compare", "absent.yml"],
        ["config", "show", "comparre.yml"],
        ["check", "study"],
        ["train", "losses.yml", "--loss", "ce"],
        ["train", "--resume", "absent"],
        ["evaluate", "absent"],
        ["evaluate", "study"],
        ["evaluate", "run", "--split", "tset"],
        ["export", "absent"],
        ["predict", "absent", "a.png"],
        ["predict", "run", "a.png"],
    ]
    (tmp_path / "compare.yml").touch()
    tiny_study["output"] = "out"
    write_yaml(tiny_study, "losses.yml")
    code = (
        "import json, sys\n"
        "from typer.testing import CliRunner\n"
        "from evenseg.cli import app\n"
        "for case in json.loads(sys.argv[1]):\n"
        "    print(CliRunner().invoke(app, case).stderr.strip())\n"
        "print({'torch', 'lightning', 'optuna'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    absent = f"error: the run folder absent does not exist (looked in {tmp_path})"
    assert done.stdout.splitlines() == [
        "error: absent.yml: no such file",
        "error: absent.yml: no such file",
        "error: comparre.yml: no such file; did you mean 'compare.yml' there?",
        "error: study: is a folder; name a YAML file",
        "error: losses.yml: losses: unknown loss 'ce'; allowed: CE, CE+LovaszHinge; did you mean 'CE'?",
        absent,
        absent,
        "error: study is the folder of a study; name one of its 1 runs, such as study/runs/CE/seed-0",
        "error: unknown --split 'tset'; allowed: train, val, test; did you mean 'test'?",
        absent,
        absent,
        "error: a.png does not exist",
        "set()",
    ]


def test_a_finished_run_is_not_overwritten(tiny, write_yaml, tmp_path):
    tiny["iters"] = 1
    arguments = ("train", write_yaml(tiny), "--output", tmp_path / "run")
    assert evenseg(*arguments).exit_code == 0
    assert "holds a finished run" in fails(*arguments)
    assert evenseg(*arguments, "--overwrite").exit_code == 0


def test_debug_lets_the_traceback_through(tmp_path):
    result = evenseg("train", tmp_path / "absent.yml", "--debug")
    assert type(result.exception).__name__ == "ConfigError"


def test_help_and_version_load_nothing_heavy():
    assert evenseg("version").stdout.strip() == __version__
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from evenseg.cli import app\n"
        "result = CliRunner().invoke(app, ['compare', '--help'])\n"
        "assert result.exit_code == 0 and '--seeds' in result.output, result.output\n"
        "heavy = {'lightning', 'torchvision', 'torchmetrics', 'segmentation_models_pytorch', 'omegaconf', 'plotly'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_says_that_kernels_are_compiled(monkeypatch, capsys):
    from evenseg import _notice, cli

    monkeypatch.setattr(_notice, "on_compiling", None)
    monkeypatch.setattr(_notice, "_told", False)
    monkeypatch.setattr(sys, "argv", ["evenseg", "version"])
    with pytest.raises(SystemExit):
        cli.main()
    for _ in range(2):
        _notice.compiling()
    assert capsys.readouterr().err == "compiling the CPU kernels, once per machine: about half a minute\n"
