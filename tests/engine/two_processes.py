"""Trains with one process and with two, as torchrun starts them; run by test_distributed.py in a process of its own.

The processes are forks of this one, which has imported everything and computed on one thread at most. `python two_processes.py FOLDER
NAME=CONFIG...` trains every configuration both ways, into FOLDER/NAME-1 and FOLDER/NAME-2; a NAME alone lets a copy of the
latter go on from its last checkpoint but one, in FOLDER/NAME-resumed. It prints the exit codes as JSON.
"""

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from evenseg.config import load_config
from evenseg.engine import resume, train
from evenseg.engine.checkpoints import list_checkpoints
from evenseg.models import MODELS


class Plain(nn.Module):
    """A network without batch normalisation: what it makes of an image does not depend on the rest of the batch."""

    num_outputs, stride = 2, 1

    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.features = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.head, self.auxiliary = nn.Conv2d(8, num_classes, 1), nn.Conv2d(8, num_classes, 1)

    def forward(self, image):
        features = F.relu(self.features(image))
        return [self.head(features), self.auxiliary(F.avg_pool2d(features, 2))]


MODELS["Plain"] = Plain


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def processes(count, work):
    """Runs `work` in that many forks with the environment that torchrun gives; returns their exit codes."""
    port, children = free_port(), []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            if count > 1:
                numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                numbers |= {"GROUP_WORLD_SIZE": 1, "MASTER_PORT": port}
                os.environ |= {name: str(number) for name, number in numbers.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
            try:
                work()
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(folder, *jobs):
    torch.set_num_threads(1)
    for job in jobs:
        name, _, config = job.partition("=")
        if config:
            codes = {
                count: processes(count, lambda: train(load_config(config), folder / f"{name}-{count}"))  # noqa: B023
                for count in (1, 2)
            }
        else:
            run = Path(shutil.copytree(folder / f"{name}-2", folder / f"{name}-resumed"))
            (run / "summary.json").unlink()
            list_checkpoints(run / "checkpoints")[0].unlink()
            codes = {2: processes(2, lambda: resume(run))}  # noqa: B023
        print(json.dumps({"job": job, "codes": codes}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
