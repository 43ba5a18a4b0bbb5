"""One measuring process: reads a job from a JSON file, writes its rows to another.

The allocator reads its settings when a process starts, so every regime needs a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

REGIMES: dict[str, dict[str, str]] = {
    "default": {},
    "kept": {
        "MALLOC_TOP_PAD_": "1000000000",
        "MALLOC_MMAP_THRESHOLD_": "4000000000",
        "MALLOC_TRIM_THRESHOLD_": "8000000000",
    },
}


class WorkerError(Exception):
    """A measuring process failed."""


def environment(regime: str) -> dict[str, str]:
    """The variables of a measuring process: this process's, with the regime's allocator settings and no others."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    return plain | REGIMES[regime]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in a fresh process and return what it wrote; WorkerError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder, "job.json"), Path(folder, "rows.json")
        asked.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.worker", str(asked), str(answer)]
        done = subprocess.run(command, cwd=ROOT, env=environment(job["regime"]))
        if done.returncode or not answer.exists():
            raise WorkerError(f"the process for {job['task']} ({job['regime']}) ended with code {done.returncode}")
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return result


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Rows of a job: task "speed", "memory" or "sizes"."""
    if job["task"] == "memory":
        from benchmarks.memory import measure_memory

        return {"rows": [row for shape in job["shapes"] for row in measure_memory(tuple(shape), job["providers"])]}
    from benchmarks.speed import Plan, measure_shape, measure_sizes

    if job["task"] == "sizes":
        return {"rows": [row for c, pixels in job["sizes"] for row in measure_sizes(c, pixels, job["regime"], job["rounds"])]}
    rows, slow = [], job["earlier"]
    for shape in job["shapes"]:
        earlier = slow.setdefault("x".join(map(str, shape)), {})
        for kind in job["logits"]:
            print(f"  {tuple(shape)}, {kind}-like logits", flush=True)
            rows += measure_shape(tuple(shape), job["regime"], kind, job["providers"], Plan(**job["plan"]), earlier)
    return {"rows": rows, "earlier": slow}


def main(arguments: list[str]) -> None:
    asked, answer = map(Path, arguments)
    Path(answer).write_text(json.dumps(work(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
