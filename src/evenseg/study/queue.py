"""The runs of a study as Optuna trials in a storage, shared by any number of processes and machines.

The run folders hold the results; the storage says who does what. A process takes the lock of a run folder before it
claims the run's trial and gives it back after the trial has ended. So among processes that share the study folder a
RUNNING trial whose lock is free belongs to a process that died, however it died and whatever the clocks say. Between
machines with folders of their own, databases tell by Optuna's heartbeat.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenseg.engine.lock import RunBusyError, run_lock

JOURNAL = "optuna_journal.log"
MAX_KILLED = 3  # a run that takes its process with it every time must not hold up the others for ever
HEARTBEAT = 60  # seconds
GRACE = 600  # seconds without a heartbeat after which a run on another machine counts as dead


@dataclass(frozen=True)
class Entry:
    """One run as the queue sees it.

    Attributes:
        key: names it within the study.
        folder: the run folder, whose lock goes with the trial.
        params: shown by Optuna's tools: loss, seed and the grid's values.
    """

    key: str
    folder: Path
    params: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """Where one run stands: "waiting", "running", "finished", "failed", "pruned" or "none"; and why, or by whom."""

    state: str
    reason: str = ""
    folder_id: str = ""


class Queue:
    """The trials of one study.

    Args:
        storage: a database URL (`sqlite:///study.db`, `postgresql://...`) or the path of a journal file.
        name: of the Optuna study: processes that give the same name share the work.
        entries: the runs of this study; trials of others under the same name are left alone.
        choices: for every categorical parameter all its values.
        folder_id: of the study folder; differs between machines that share the storage alone.
        pruner: Optuna's, None for never.

    Raises:
        ValueError: a storage that cannot be opened.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        entries: Sequence[Entry],
        choices: Mapping[str, Sequence[Any]],
        folder_id: str,
        pruner: Any = None,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.entries = {entry.key: entry for entry in entries}
        self.folder_id = folder_id
        self.busy: dict[str, str] = {}
        self._choices = {key: [_plain(value) for value in values] for key, values in choices.items()}
        self._storage = open_storage(storage, self._stale)
        with _refusing(storage):
            self.study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                sampler=optuna.samplers.RandomSampler(),  # never asked: the values of a run are known
                pruner=pruner or optuna.pruners.NopPruner(),
                load_if_exists=True,
            )

    def fill(self, *, again: Iterable[str] = (), overwrite: bool = False) -> None:
        """Queues every run that is neither waiting, running nor ended.

        Args:
            again: states to queue anew, of "finished", "failed" and "pruned".
            overwrite: queue every run that is not running, and mark it so that a finished one is trained again.
        """
        again = {"finished", "failed", "pruned"} if overwrite else set(again)
        for entry, state in zip(self.entries.values(), self.states().values(), strict=True):
            lost = state.state == "finished" and state.folder_id == self.folder_id and not _is_finished(entry.folder)
            if state.state == "none" or state.state in again or lost:
                self._enqueue(entry, {"overwrite": overwrite, "again": overwrite or lost})

    def states(self) -> dict[str, State]:
        """Returns where every run stands, by key."""
        found: dict[str, Any] = {}
        for trial in self._trials():
            key = trial.user_attrs.get("run")
            if key in self.entries and "duplicate" not in trial.user_attrs:
                found[key] = trial
        return {key: _state(found[key]) if key in found else State("none") for key in self.entries}

    @contextmanager
    def claim(self) -> Iterator[Claim | None]:
        """Takes the next waiting run for this process; None when there is none that this process could take.

        The run's lock is held inside the `with`. Inside it the caller ends the trial with `finish`, `fail`, `prune` or
        `put_back`; an exception that gets out puts it back.
        """
        self.reap()
        for entry, waiting in self._candidates():
            with ExitStack() as stack:
                try:
                    stack.enter_context(run_lock(entry.folder))
                except RunBusyError as error:
                    self.busy[entry.key] = str(error)
                    continue
                trial = waiting or self._ask(entry)
                if trial is None or not self._take(trial):
                    continue
                self.busy.pop(entry.key, None)
                claim = Claim(self, entry, trial)
                with self._heartbeat(trial._trial_id):
                    try:
                        yield claim
                    finally:
                        if not claim.ended:
                            claim.put_back()
                return
        yield None

    def reap(self) -> None:
        """Ends the trials of dead processes and queues their runs again, at most MAX_KILLED times in a row."""
        import optuna

        with _accepting_experiments():
            optuna.storages.fail_stale_trials(self.study)
        for trial in self._trials("RUNNING"):
            key = trial.user_attrs.get("run")
            if key not in self.entries or trial.user_attrs.get("folder_id") != self.folder_id:
                continue
            with suppress(RunBusyError), run_lock(self.entries[key].folder):
                # its process may have ended it between our look and our lock
                if self._storage.get_trial(trial._trial_id).state.name == "RUNNING" and self._end(trial, "FAIL"):
                    self._again(trial)

    def _candidates(self) -> Iterator[tuple[Entry, Any]]:
        """Yields runs that can be taken, with their waiting trial; None for one that has to be asked for."""
        for trial in self._trials("WAITING"):
            key = trial.user_attrs.get("run")
            if key in self.entries:
                yield self.entries[key], trial

    def _ask(self, entry: Entry) -> Any:
        """Returns a new, running trial for a run that had none; None where there is none to be had."""
        return None

    def times_killed(self, key: str) -> int:
        """Returns how many times in a row the run's process was killed."""
        count = 0
        for trial in reversed(self._trials()):
            if trial.user_attrs.get("run") == key and trial.state.is_finished():
                if trial.state.name != "FAIL" or "reason" in trial.user_attrs:
                    break
                count += 1
        return count

    def _again(self, trial: Any) -> None:
        if self.times_killed(trial.user_attrs["run"]) < MAX_KILLED:
            self._enqueue_like(trial)

    def _enqueue_like(self, trial: Any) -> None:
        """Queues the run of an ended trial again, with the values that it had."""
        from optuna.trial import TrialState, create_trial

        kept = {name: value for name, value in trial.user_attrs.items() if name not in ("folder_id", "reason", "duplicate")}
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING, params=trial.params, distributions=trial.distributions, user_attrs=kept
            )
        )

    def _stale(self, study: Any, trial: Any) -> None:
        """Called by Optuna for a trial of another machine that fell silent."""
        if trial.user_attrs.get("run") in self.entries:
            self._again(trial)

    def _trials(self, *states: str) -> list[Any]:
        from optuna.trial import TrialState

        wanted = tuple(TrialState[state] for state in states) or None
        return sorted(self.study.get_trials(deepcopy=False, states=wanted), key=lambda trial: trial.number)

    def _enqueue(self, entry: Entry, attributes: Mapping[str, Any]) -> None:
        from optuna.distributions import CategoricalDistribution, IntDistribution
        from optuna.trial import TrialState, create_trial

        distributions: dict[str, Any] = {key: CategoricalDistribution(values) for key, values in self._choices.items()}
        params = {key: _plain(value) for key, value in entry.params.items()}
        for key in params.keys() - distributions.keys():
            distributions[key] = IntDistribution(0, 2**53)
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=params,
                distributions=distributions,
                user_attrs={"run": entry.key, **attributes},
            )
        )

    def _take(self, trial: Any) -> bool:
        """Turns a waiting trial into a running one of ours; False when another process was faster."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            if trial.state == TrialState.WAITING:
                if not self._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                    return False
                self._storage.set_trial_user_attr(trial._trial_id, "folder_id", self.folder_id)
            # two processes that start together may both have queued a run: the first trial of it counts
            key = trial.user_attrs["run"]
            for other in self._trials("WAITING", "RUNNING", "COMPLETE"):
                if other.number >= trial.number or other.user_attrs.get("run") != key:
                    continue
                if other.state.name == "COMPLETE" and trial.user_attrs.get("again"):
                    continue
                self._storage.set_trial_user_attr(trial._trial_id, "duplicate", other.number)
                self._end(trial, "FAIL")
                return False
            return True
        return False

    def _end(self, trial: Any, state: str, value: float | None = None) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        values = None if value is None else [value]
        try:
            return self._storage.set_trial_state_values(trial._trial_id, TrialState[state], values)
        except UpdateFinishedTrialError:
            # this process was silent for so long that another gave the run up; the run folder holds the result
            return False

    @contextmanager
    def _heartbeat(self, trial_id: int) -> Iterator[None]:
        import optuna

        if not isinstance(self._storage, optuna.storages.RDBStorage):
            yield
            return
        stop = threading.Event()
        storage = self._storage
        storage.record_heartbeat(trial_id)

        def beat() -> None:
            while not stop.wait(HEARTBEAT):
                try:
                    storage.record_heartbeat(trial_id)
                except Exception as error:
                    # a database that is away for a moment must not end a training
                    logging.getLogger(__name__).warning("no heartbeat written: %s", error)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Claim:
    """A run that belongs to this process until it is ended."""

    def __init__(self, queue: Queue, entry: Entry, trial: Any) -> None:
        self.entry, self.ended = entry, False
        self.overwrite = bool(trial.user_attrs.get("overwrite"))
        self._queue, self._trial = queue, trial

    @property
    def params(self) -> dict[str, Any]:
        """The values of the trial."""
        return dict(self._trial.params)

    def live_trial(self) -> Any:
        """Returns Optuna's handle for reporting intermediate scores."""
        import optuna

        return optuna.trial.Trial(self._queue.study, self._trial._trial_id)

    def finish(self, score: float | None) -> None:
        """Records the run as finished with its best score."""
        # Optuna knows no finished trial without a value
        self._end("COMPLETE", 0.0 if score is None else score)

    def fail(self, reason: str) -> None:
        """Records the run as failed, and why."""
        self.note("reason", reason[:2000])
        self._end("FAIL")

    def prune(self, reason: str) -> None:
        """Records the run as stopped because it lagged behind."""
        self.note("reason", reason[:2000])
        self._end("PRUNED")

    def put_back(self) -> None:
        """Queues the run again, as when this process was interrupted."""
        self.note("reason", "interrupted")
        self._end("FAIL")
        self._queue._enqueue_like(self._trial)

    def note(self, name: str, value: Any) -> None:
        """Keeps something about the run in the storage."""
        from optuna.exceptions import UpdateFinishedTrialError

        with suppress(UpdateFinishedTrialError):
            self._queue._storage.set_trial_user_attr(self._trial._trial_id, name, value)

    def _end(self, state: str, value: float | None = None) -> None:
        self.ended = True
        self._queue._end(self._trial, state, value)


def open_storage(storage: str, stale: Any = None) -> Any:
    """Opens an Optuna storage: a database URL, else the path of a journal file.

    Args:
        storage: where.
        stale: called with study and trial for a trial whose heartbeat stopped.

    Raises:
        ValueError: it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    for attempt in range(10):
        try:
            if "://" in storage:
                with _accepting_experiments():
                    return optuna.storages.RDBStorage(
                        storage, heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=stale
                    )
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            return optuna.storages.JournalStorage(JournalFileBackend(storage))
        except Exception as error:
            # drivers of every database raise their own; all mean that the user's address does not work, but for the
            # clash of two processes that make the tables of a new database at once
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if attempt == 9 or not ("UNIQUE" in first or "already exists" in first or "locked" in first):
                raise ValueError(f"the storage {storage!r} cannot be opened: {first}") from error
            time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError("unreachable")


def check_storage(storage: str, study: Path) -> None:
    """Looks whether a storage can be used, before anything is made for a study; makes nothing itself.

    Args:
        storage: a database URL or the path of a journal file.
        study: the study folder, which may be made later and may hold the storage.

    Raises:
        ValueError: it cannot be made or opened, or holds something else than Optuna's studies.
    """
    if re.match(r"[A-Za-z][\w+]*:/(?!/)", storage) or not storage.strip():
        raise ValueError(f"the storage {storage!r} is neither a database URL, like sqlite:///study.db, nor the path of a journal file")
    file = Path(storage.removeprefix("sqlite:///"))
    if "://" not in storage.removeprefix("sqlite:///"):
        if file.is_dir():
            raise ValueError(f"the storage {storage!r} is a folder; name a file in it, or a database URL like sqlite:///study.db")
        if not file.exists():
            if not file.parent.is_dir() and study.resolve() != file.parent.resolve():
                raise ValueError(f"the storage {storage!r} cannot be made: there is no folder {file.parent}")
            return
    opened = open_storage(storage)
    with _refusing(storage):
        opened.get_all_studies()


@contextmanager
def _refusing(storage: str) -> Iterator[None]:
    """Turns what a storage of something else than studies raises into one line."""
    try:
        yield
    except Exception as error:
        # every backend and database driver raises its own
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"the storage {storage!r} cannot be used: {first}") from error


def study_name(folder: Path, facts: Any) -> str:
    """Returns the Optuna study's name: the study folder's name and a digest of what is compared."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return f"{folder.resolve().name}-{digest[:12]}"


def _state(trial: Any) -> State:
    state, attributes = trial.state.name, trial.user_attrs
    folder_id = str(attributes.get("folder_id", ""))
    if state == "FAIL":
        killed = "its process was killed (by the system for want of memory, perhaps), each time it was tried"
        return State("failed", attributes.get("reason", killed), folder_id)
    names = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "finished", "PRUNED": "pruned"}
    return State(names[state], attributes.get("reason", ""), folder_id)


@contextmanager
def _accepting_experiments() -> Iterator[None]:
    """Silences Optuna's notice that heartbeats may still change, which a user can do nothing about."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _plain(value: Any) -> Any:
    """Returns a value as Optuna's categories take them."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, default=str)


def _is_finished(folder: Path) -> bool:
    return (folder / "summary.json").is_file()
