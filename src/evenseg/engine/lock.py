"""One process at a time writes to a run folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path


class RunBusyError(ValueError):
    """Another process is training into the run folder."""


@contextmanager
def run_lock(path: Path, *, tidy: bool = False) -> Iterator[None]:
    """Holds the lock of a run folder; the operating system releases it when the process ends, however it ends.

    The lock file lies beside the folder, `.NAME.lock`, and is no part of the run. A process may take the lock again that
    it holds already.

    Args:
        path: the run folder, which need not exist.
        tidy: where the run folder does not exist in the end, take away the lock file and the folders made for it.

    Raises:
        RunBusyError: another process holds the lock; says which.
    """
    from filelock import FileLock, Timeout

    path = path.resolve()
    file = lock_file(path)
    made_parents = [parent for parent in path.parents if not parent.exists()]
    for attempt in range(10):
        path.parent.mkdir(parents=True, exist_ok=True)
        # not at once: a lock that another process tries and gives back in the same moment is not held
        lock = FileLock(file, timeout=0.2, poll_interval=0.02, is_singleton=True)
        try:
            lock.acquire()
            break
        except Timeout:
            raise RunBusyError(f"{path} is being trained by {_holder(file)}; wait for it or choose another --output") from None
        except FileNotFoundError:
            # a process that left no trace took the folders away just now
            if attempt == 9:
                raise
    try:
        if lock.lock_counter == 1:
            facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "seconds")}
            file.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        yield
    finally:
        if tidy and lock.lock_counter == 1 and not path.exists():
            # nothing was written: leave no trace
            file.unlink()
            for parent in made_parents:
                # not ours to remove once others have put something there
                with suppress(OSError):
                    parent.rmdir()
        lock.release()


def lock_file(path: Path) -> Path:
    """Returns where the lock of a run folder lies."""
    return path.parent / f".{path.name}.lock"


def _holder(file: Path) -> str:
    try:
        facts = json.loads(file.read_text("utf-8"))
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        # it has taken the lock this moment and has not yet signed
        return "another process"
