"""A run that was killed goes on as if nothing had happened; nothing that was saved is lost."""

import copy
import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from evenseg.cli import app
from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, files, resume, run_folder, train
from evenseg.engine.checkpoints import CheckpointFiles, list_checkpoints, step_of
from evenseg.engine.recorder import Recorder


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_line(*arguments):
    result = cli(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


def contents(run):
    return [(run / name).read_bytes() for name in ("metrics.jsonl", "metrics.csv", "checkpoints/best.safetensors")]


@pytest.fixture(scope="module")
def template(tiny_template):
    mapping = copy.deepcopy(tiny_template)
    # windows of rows, evaluations and checkpoints that do not fall together
    return mapping | {"iters": 5, "eval_interval": 3, "checkpoint_interval": 2, "log_interval": 4}


@pytest.fixture(scope="module")
def whole(template, tmp_path_factory):
    """The uninterrupted run."""
    return train(make_config(template), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def broken(template, tmp_path_factory):
    """A run that was broken off behind step 4, with checkpoints of the steps 3 and 4."""
    folder = tmp_path_factory.mktemp("broken") / "run"
    original = Recorder.on_train_batch_end

    def stop(self, trainer, *arguments):
        original(self, trainer, *arguments)
        if trainer.global_step == 4:
            raise RuntimeError("no power")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="no power"):
            train(make_config(template), folder)
    assert [step_of(file) for file in list_checkpoints(folder / "checkpoints")] == [4, 3]
    return folder


@pytest.fixture
def run(broken, tmp_path):
    """A copy of the broken run."""
    return Path(shutil.copytree(broken, tmp_path / "run"))


def test_a_kill_at_any_moment_changes_nothing(write_yaml, tiny, tmp_path):
    """Dropout, momentum, the losses' memory, phases, rows, best weights: all of them to the last bit."""
    lovasz = {"type": "LovaszSoftmaxLoss", "engine": "eager", "memory": 0.5}
    tiny["model"] = {"type": "WithDropout"}
    tiny["loss"] = {
        "types": [{"type": "CrossEntropyLoss", "engine": "eager", "memory": 0.5}],
        "coef": [1],
        "phases": [{"start": 3, "types": [lovasz]}],
    }
    tiny |= {"iters": 6, "eval_interval": 4, "checkpoint_interval": 2, "log_interval": 4}
    script = Path(__file__).with_name("kill_drill.py")
    done = subprocess.run(
        [sys.executable, str(script), str(write_yaml(tiny)), str(tmp_path)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    *reports, last = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for report in reports:
        assert report["killed"] == -signal.SIGKILL, report
        assert report["again"] in (None, 0, -signal.SIGKILL), report  # 0: the first kill came behind the end
        assert report["ended"] == 0, (report, done.stderr)
        assert report["different"] == [], report
        assert report["left over"] == [], report
    assert sum(report["again"] == -signal.SIGKILL for report in reports) > 3
    killed_at = {report["moment"] for report in reports}
    assert {"before rename to step-", "after rename to step-", "inside checkpoint", "before evaluation"} <= killed_at
    assert last["moments"]["before rename to step-"] == 3
    assert len(reports) > 18


def test_a_kill_from_outside_and_the_command_that_goes_on(template, write_yaml, tmp_path):
    mapping = template | {"iters": 60, "eval_interval": 20, "log_interval": 1}
    config, run = write_yaml(mapping), tmp_path / "killed"
    command = [sys.executable, "-m", "evenseg", "train", str(config), "--output", str(run)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list((run / "checkpoints").glob("step-*.ckpt")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "summary.json").exists()
    result = cli("train", "--resume", run)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(run)
    assert "going on from step" in result.stderr
    assert contents(run) == contents(train(make_config(mapping), tmp_path / "whole"))
    environment = json.loads((run / "environment.json").read_text())
    assert environment["resumed"][0]["step"] >= 2
    assert environment["resumed"][0]["versions"]["torch"] == torch.__version__


def test_seconds_of_all_parts_add_up(run, whole):
    before = json.loads((run / "times.jsonl").read_text().splitlines()[-1])["seconds"]
    resume(run)
    times = [json.loads(line)["seconds"] for line in (run / "times.jsonl").read_text().splitlines()]
    assert times == sorted(times)
    assert json.loads((run / "summary.json").read_text())["seconds"] >= before > 0
    assert contents(run) == contents(whole)


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_a_damaged_checkpoint_is_left_for_the_one_before(run, whole, damage, capfd):
    newest = list_checkpoints(run / "checkpoints")[0]
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resume(run)
    said = capfd.readouterr().err
    assert f"{newest} is damaged" in said
    assert "going back to the checkpoint before it" in said
    assert "going on from step 3 of 5" in said
    assert contents(run) == contents(whole)


def test_all_checkpoints_damaged(run):
    for file in list_checkpoints(run / "checkpoints"):
        file.write_bytes(b"")
    line = error_line("train", "--resume", run)
    assert "every checkpoint is damaged (step-4-" in line
    assert "step-3-" in line


def test_without_a_checkpoint_the_run_starts_again(run, whole):
    for file in list_checkpoints(run / "checkpoints"):
        file.unlink()
    resume(run)
    assert contents(run) == contents(whole)


def test_best_weights_of_a_later_step_than_the_checkpoint_are_not_taken_for_the_best(run, whole):
    """Where the kill came between the best weights and the checkpoint, on a device that does not repeat itself."""
    best = run / "checkpoints" / "best.safetensors"
    save_file({name: value * 0 for name, value in load_file(best).items()}, best, {"step": "5"})
    resume(run)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"]["step"] == 5
    # measured again, those weights give that row
    assert evaluate(run)["miou"] == summary["best"]["miou"]


def test_a_finished_run_is_left_as_it_is(whole):
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*")}
    result = cli("train", "--resume", whole)
    assert (result.exit_code, result.stdout.strip()) == (0, str(whole))
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*")} == before


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optimizer.lr=0.5", ["config.yaml: optimizer.lr: is 0.5", "was written with 0.01", "start a new run"]),
        ("model.widths=[4, 4]", ["model.widths[1]: is 4", "was written with 8"]),
        ("iters=9", ["iters: is 9"]),
        ("train_dataset.transforms=[{type: Normalize}]", ["train_dataset.transforms: is "]),
    ],
)
def test_what_decides_the_numbers_cannot_change_on_the_way(run, override, parts):
    before = contents(run)
    line = error_line("train", "--resume", run, "--set", override)
    for part in parts:
        assert part in line
    assert contents(run) == before
    assert len(list_checkpoints(run / "checkpoints")) == 2


def test_a_refused_change_leaves_no_trace(run):
    before = (run / "environment.json").read_text()
    error_line("train", "--resume", run, "--set", "iters=9")
    assert (run / "environment.json").read_text() == before


def test_a_finished_run_takes_no_change_either(whole):
    assert "iters: is 900" in error_line("train", "--resume", whole, "--set", "iters=900")


def test_what_does_not_decide_the_numbers_may(run, whole):
    assert cli("train", "--resume", run, "--set", "keep_checkpoints=3", "--set", "checkpoint_interval=1").exit_code == 0
    assert contents(run) == contents(whole)
    assert len(list_checkpoints(run / "checkpoints")) == 3


def test_resume_takes_no_other_configuration(run, tmp_path):
    assert "goes on with the run's own configuration" in error_line("train", "other.yml", "--resume", run)
    assert "goes on with the run's own configuration" in error_line("train", "--resume", run, "--overwrite")
    assert "give a CONFIG to train, or --resume RUN" in error_line("train")
    assert f"{tmp_path} is no run folder: it has no config.yaml" in error_line("train", "--resume", tmp_path)


def test_a_checkpoint_of_another_model(run):
    """Equal settings, other weights: as when files were mixed up by hand."""
    newest = list_checkpoints(run / "checkpoints")[0]
    checkpoint = torch.load(newest, weights_only=True)
    weights = checkpoint["state_dict"]
    weights["model.head.weight"] = weights["model.head.weight"][:1]
    del weights["model.head.bias"]
    weights["model.extra"] = torch.zeros(1)
    newest.unlink()
    CheckpointFiles().save_checkpoint(checkpoint, run / "checkpoints" / "step-4")
    line = error_line("train", "--resume", run)
    assert "the checkpoint does not fit the model LightUNet: of 38 tensors 1 missing (head.bias); 1 unknown (extra); " in line
    assert "1 of another shape (head.weight (1, 4, 1, 1) for (2, 4, 1, 1))" in line


def test_best_weights_of_another_model_or_damaged(whole, tmp_path):
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    best = run / "checkpoints" / "best.safetensors"
    weights = load_file(best)
    weights["head.bias"] = torch.zeros(7)
    save_file(weights, best)
    assert "best.safetensors does not fit the model LightUNet" in error_line("evaluate", run)
    best.write_bytes(best.read_bytes()[:50])
    assert "best.safetensors is damaged" in error_line("evaluate", run)
    best.unlink()
    assert "has no checkpoints/best.safetensors: the run was never evaluated" in error_line("evaluate", run)


def test_a_configuration_of_another_version(run):
    _, _, rest = (run / "config.yaml").read_text().partition("\n")
    (run / "config.yaml").write_text(f"# written by evenseg 0.0.7\n{rest}gamma_ray: 3\n")
    for command in (("train", "--resume"), ("evaluate",)):
        line = error_line(*command, run)
        assert "config.yaml: gamma_ray: unknown key" in line
        assert "the file was written by evenseg 0.0.7, this is 0." in line


def test_rows_that_were_cut_off_by_hand(run):
    (run / "metrics.jsonl").write_text("")
    assert "metrics.jsonl has 0 rows, but the checkpoint was written after 2; it cannot go on" in error_line(
        "train", "--resume", run
    )


def test_a_full_disk_is_one_line_and_loses_nothing(template, write_yaml, tmp_path):
    """The operating system itself refuses the writes: files may not grow beyond a limit below a checkpoint's size."""
    run, config = tmp_path / "full", write_yaml(template)
    original = Recorder._save_checkpoint
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_at_step_3(self, trainer):
        if self.steps == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        original(self, trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "_save_checkpoint", full_at_step_3)
        try:
            line = error_line("train", config, "--output", run)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert line.startswith(f"error: {run}: File too large while saving; what was saved before is intact: free some space")
    assert line.endswith(f"`evenseg train --resume {run}`")
    assert [step_of(file) for file in list_checkpoints(run / "checkpoints")] == [2]
    assert not list(run.rglob("*.tmp"))
    assert cli("train", "--resume", run).exit_code == 0
    assert contents(run) == contents(train(make_config(template), tmp_path / "whole"))


@pytest.mark.parametrize("owner", [(files, "to_disk"), (run_folder, "_append_line")], ids=lambda pair: pair[1])
def test_no_space_left_for_rows_and_weights(run, whole, owner):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*owner, full)
        line = error_line("train", "--resume", run)
    assert f"error: {run}: No space left on device while saving" in line
    assert cli("train", "--resume", run).exit_code == 0
    assert contents(run) == contents(whole)


def test_other_errors_of_the_system_are_not_called_a_full_disk(run):
    def vanished(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "_append_line", vanished)
        with pytest.raises(OSError, match="Input/output error"):
            resume(run)


def test_at_least_two_checkpoints_are_kept(tiny):
    with pytest.raises(ConfigError, match="keep_checkpoints: input should be greater than or equal to 2, got 1"):
        make_config(tiny | {"keep_checkpoints": 1})
