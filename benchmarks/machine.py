"""What a figure depends on: machine, versions, commit, load."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "numpy", "numba", "segmentation-models-pytorch", "monai", "kornia")


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    import psutil
    import torch

    return {
        "cpu": cpu_model(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads(), "system": platform.system(),
        "machine": platform.machine(), "libc": " ".join(platform.libc_ver()).strip() or None,
        "memory_bytes": psutil.virtual_memory().total,
    }  # fmt: skip


def versions() -> dict[str, str | None]:
    """Python and the packages; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git(*arguments: str) -> str | None:
    """Output of a git command in the checkout, None outside of one."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def commit() -> dict[str, Any]:
    """The commit and whether the measured code differs from it."""
    head = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/results")
    return {"commit": head.strip() if head else None, "changed": None if changed is None else bool(changed.strip())}


def load_average() -> list[float] | None:
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
