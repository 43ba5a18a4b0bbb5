"""Kills a training run with SIGKILL at many moments and lets it go on; run by test_resume.py in a process of its own.

Every run is a fork of this process, which has trained once on one thread, so that a kill costs no start-up and leaves
nothing behind. `python kill_drill.py CONFIG FOLDER` prints one JSON object per line: what was killed where, and
whether the run that went on is equal to the uninterrupted one.
"""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import torch
from torch.nn import functional as F

from evenseg.config import load_config
from evenseg.engine import checkpoints, recorder, resume, run_folder, train
from evenseg.models import MODELS, LightUNet

LARGE = 4 * 9 * 4 * 8  # bytes of one tensor of the network, which every checkpoint writes once and an optimiser twice


class Clock:
    """Counts the moments at which a kill could hurt, and kills at the chosen one."""

    def __init__(self, deadly=None):
        self.deadly, self.seen = deadly, []

    def tick(self, label):
        """Returns True when the caller must do half its work and then die."""
        self.seen.append(label)
        return self.deadly == len(self.seen) - 1

    def around(self, owner, name, label):
        original = getattr(owner, name)

        def ticking(*args, **keywords):
            if self.tick(f"before {label(*args)}"):
                die()
            result = original(*args, **keywords)
            if self.tick(f"after {label(*args)}"):
                die()
            return result

        setattr(owner, name, ticking)

    def install(self):
        self.around(os, "replace", lambda source, target: f"rename to {kind(target)}")
        self.around(recorder.Recorder, "on_train_batch_end", lambda *_: "step")
        self.around(recorder.Recorder, "on_validation_end", lambda *_: "evaluation")
        append, write = run_folder._append_line, checkpoints._HashingWriter.write

        def half_a_line(file, row):
            if self.tick(f"inside row of {file.name}"):
                with file.open("a") as stream:
                    stream.write(json.dumps(row)[:7])
                die()
            append(file, row)

        def half_a_write(writer, data):
            if len(data) == LARGE and self.tick("inside checkpoint"):
                write(writer, data[: len(data) // 2])
                writer.flush()
                die()
            return write(writer, data)

        run_folder._append_line, checkpoints._HashingWriter.write = half_a_line, half_a_write


def kind(target):
    name = Path(target).name
    return "overlay" if name.startswith("val_") else "step-" if name.startswith("step-") else name.partition(".")[0]


class WithDropout(LightUNet):
    """A network whose weights depend on the random numbers of every step."""

    def __init__(self, num_classes, widths=(4, LARGE // 4 // 9 // 4)):
        super().__init__(num_classes, widths)

    def forward(self, image):
        return super().forward(F.dropout(image, 0.2, self.training))


MODELS["WithDropout"] = WithDropout


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fork(work):
    """Runs `work` in a fork; returns the signal or exit code it ended with."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def result(run):
    """The bytes that must not depend on a kill."""
    found = {"metrics": (run / "metrics.jsonl").read_bytes(), "best": (run / "checkpoints/best.safetensors").read_bytes()}
    last = torch.load(checkpoints.latest_checkpoint(run / "checkpoints"), weights_only=True)
    found |= {name: tensor.numpy().tobytes() for name, tensor in last["state_dict"].items()}
    for number, state in last["optimizer_states"][0]["state"].items():
        found |= {f"optimizer {number} {name}": tensor.numpy().tobytes() for name, tensor in state.items()}
    summary = json.loads((run / "summary.json").read_text())
    return found | {key: summary[key] for key in ("best", "last", "steps")}


def start(config, run, clock):
    clock.install()
    train(load_config(config), run)


def go_on(run, clock):
    clock.install()
    if (run / "config.yaml").is_file():
        resume(run)
    else:  # killed before there was a run folder
        train(load_config(sys.argv[1]), run)


def main(config, folder):
    torch.set_num_threads(1)
    train(load_config(config), folder / "warm")
    whole = folder / "whole"

    def uninterrupted():
        clock = Clock()
        start(config, whole, clock)
        (folder / "moments.json").write_text(json.dumps(clock.seen))

    assert fork(uninterrupted) == 0
    expected = result(whole)
    moments = json.loads((folder / "moments.json").read_text())
    places = {}
    for number, label in enumerate(moments):
        places.setdefault(label, []).append(number)
    # one moment of every kind, in the middle of the run; all those at which a checkpoint gets its name. What follows a
    # rename is the same as what precedes the next moment, but for the names that decide how a run goes on
    deadly = sorted(
        number
        for label, numbers in places.items()
        if not label.startswith("after rename") or label.endswith(("step-", "best", "whole", "summary"))
        for number in (numbers if label.endswith("step-") else numbers[len(numbers) // 2 :][:1])
    )
    for number in deadly:
        run = folder / f"killed-{number}"
        killed = fork(lambda: start(config, run, Clock(number)))  # noqa: B023
        # every third run is killed once more on its way
        again = fork(lambda: go_on(run, Clock(3))) if number % 3 == 0 else None  # noqa: B023
        ended = fork(lambda: go_on(run, Clock()))  # noqa: B023
        report = {"moment": moments[number], "killed": killed, "again": again, "ended": ended}
        if ended == 0:
            found = result(run)
            report["different"] = [key for key in expected if found.get(key) != expected[key]]
            report["left over"] = [str(file.relative_to(run)) for file in run.rglob(".*")]
        print(json.dumps(report), flush=True)
    print(json.dumps({"moments": Counter(moments)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
