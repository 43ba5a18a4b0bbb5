"""Several worker processes on one machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

Say = Callable[[str], None]


def work_in_processes(count: int, worker: Callable[..., None], arguments: tuple[Any, ...], say: Say) -> None:
    """Runs `worker(say, *arguments)` in several processes, on a GPU each where there are several, and waits for them all.

    Args:
        count: of processes.
        worker: a function of a module, since it travels to the processes; so do the arguments.
        arguments: of the worker behind its `say`.
        say: takes one line about each process that ended badly.
    """
    # forked processes beside a running OpenMP pool hang
    context = multiprocessing.get_context("spawn")
    processes = []
    gpus = _visible_gpus()
    for number in range(count):
        # read by CUDA when the worker starts; the parent has its own by now
        kept = os.environ.get("CUDA_VISIBLE_DEVICES")
        if len(gpus) > 1:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        process = context.Process(target=_process, args=(worker, arguments, number + 1, count))
        process.start()
        if len(gpus) > 1:
            if kept is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = kept
        processes.append(process)
    for number, process in enumerate(processes, start=1):
        process.join()
        if process.exitcode:
            say(f"worker {number} ended with exit code {process.exitcode}")


def _process(worker: Callable[..., None], arguments: tuple[Any, ...], number: int, count: int) -> None:
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        worker(lambda line: print(f"worker {number}: {line}", file=sys.stderr, flush=True), *arguments)
    except KeyboardInterrupt:
        # the parent got it too and reports it
        sys.exit(130)


def _visible_gpus() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]
