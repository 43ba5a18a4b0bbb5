"""Who trains what: no run twice, a dead process's run again."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from evenseg.engine.lock import RunBusyError, lock_file, run_lock
from evenseg.study.queue import JOURNAL, MAX_KILLED, Entry, Queue


def work(folder, storage, me, hang, runs, ready):
    """Claims runs until none is left and leaves a line for each; or stays in the first."""
    queue = make(folder, storage, runs)
    queue.fill()
    while True:
        with queue.claim() as claim:
            if claim is None:
                return
            with (folder / "log").open("a") as file:
                file.write(f"{claim.entry.key} {me}\n")
            if hang:
                ready.set()
                time.sleep(600)
            claim.entry.folder.mkdir(exist_ok=True)
            (claim.entry.folder / "summary.json").write_text("{}")
            claim.finish(0.5)


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, tmp_path):
    return str(tmp_path / JOURNAL) if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"


def make(folder, storage, runs=2, folder_id="here"):
    entries = [Entry(f"r{i}", folder / f"r{i}", {"loss": "CE", "seed": i}) for i in range(runs)]
    return Queue(storage, "test", entries, {"loss": ["CE"]}, folder_id)


def start(folder, storage, me="a", hang=False, runs=2):
    # forked, which is quick: these processes use no torch
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=work, args=(folder, storage, me, hang, runs, ready))
    process.start()
    return process, ready


def states(queue):
    return [state.state for state in queue.states().values()]


def test_processes_on_one_storage_never_take_a_run_twice(tmp_path, storage):
    processes = [start(tmp_path, storage, str(i), runs=24)[0] for i in range(3)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    taken = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(taken) == sorted(f"r{i}" for i in range(24))
    assert states(make(tmp_path, storage, 24)) == ["finished"] * 24


def test_the_run_of_a_killed_process_is_taken_again(tmp_path, storage):
    for kills in range(1, MAX_KILLED + 1):
        process, ready = start(tmp_path, storage, hang=True, runs=1)
        assert ready.wait(60)
        queue = make(tmp_path, storage, 1)
        queue.reap()
        assert states(queue) == ["running"], "its lock is held: it is alive"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        queue.reap()
        assert states(queue) == (["waiting"] if kills < MAX_KILLED else ["failed"])
    assert "killed" in queue.states()["r0"].reason
    queue.fill(again=["failed"])
    with queue.claim() as claim:
        claim.finish(0.5)
    assert states(queue) == ["finished"]


def test_what_two_processes_queued_at_once_is_run_once(tmp_path, storage):
    first = make(tmp_path, storage, 1)
    first.fill()
    first._enqueue(first.entries["r0"], {})
    done = []
    for _ in range(3):
        with first.claim() as claim:
            if claim is not None:
                done.append(claim.entry.key)
                claim.entry.folder.mkdir()
                (claim.entry.folder / "summary.json").write_text("{}")
                claim.finish(0.5)
    assert done == ["r0"]


def test_an_interrupted_run_is_put_back(tmp_path, storage):
    queue = make(tmp_path, storage, 1)
    queue.fill()
    with pytest.raises(KeyboardInterrupt), queue.claim():
        raise KeyboardInterrupt
    assert states(queue) == ["waiting"]
    with queue.claim() as claim:
        claim.fail("the loss became nan")
    assert queue.states()["r0"].reason == "the loss became nan"
    queue.fill()
    assert states(queue) == ["failed"], "failed runs stay failed"


def test_a_run_of_another_machine_is_known_by_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr("evenseg.study.queue.GRACE", 1)
    monkeypatch.setattr("evenseg.study.queue.HEARTBEAT", 60)
    url = f"sqlite:///{tmp_path}/study.db"
    there, here = make(tmp_path / "there", url, 1, "there"), make(tmp_path / "here", url, 1, "here")
    there.fill()
    with there.claim() as claim:
        here.reap()
        assert states(here) == ["running"], "a free lock in another folder says nothing"
        time.sleep(2.5)
        here.reap()
        assert states(here) == ["waiting"], "no heartbeat for longer than the grace period"
        claim.finish(0.5)  # it was alive after all: no error, and its folder holds the result


def test_finished_runs_whose_folder_is_gone_are_queued_again(tmp_path):
    queue = make(tmp_path, str(tmp_path / JOURNAL), 1)
    queue.fill()
    with queue.claim() as claim:
        claim.finish(0.5)
    queue.fill()
    assert states(queue) == ["waiting"]
    there = make(tmp_path / "there", str(tmp_path / JOURNAL), 1, "there")
    with there.claim() as claim:
        assert claim is not None
        claim.finish(0.5)
    queue.fill()
    assert states(queue) == ["finished"], "another machine keeps its folder"


def test_optuna_shows_what_was_run(tmp_path):
    queue = make(tmp_path, str(tmp_path / JOURNAL), 2)
    queue.fill()
    assert [trial.params for trial in queue.study.get_trials()] == [{"loss": "CE", "seed": 0}, {"loss": "CE", "seed": 1}]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all.db", r"the storage 'sqlite:////nowhere/at/all.db' cannot be opened: .*unable to open"),
        ("mysterydb://host/db", r"the storage 'mysterydb://host/db' cannot be opened: .*mysterydb"),
        ("/proc/nowhere/study.log", r"the storage '/proc/nowhere/study.log' cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened(tmp_path, storage, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, storage)


@pytest.fixture
def hold(tmp_path):
    """Another process that holds a run's lock."""
    held = []

    def start(folder):
        file = lock_file(folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        code = """if True:
            import sys, filelock, time
            lock = filelock.FileLock(sys.argv[1])
            lock.acquire()
            open(sys.argv[1], "w").write('{"pid": 7, "host": "elsewhere", "since": "noon"}')
            print("held", flush=True)
            time.sleep(600)
            """
        held.append(subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True))
        assert held[-1].stdout.readline() == "held\n"
        return held[-1]

    yield start
    for process in held:
        process.kill()
        process.wait()


def test_a_locked_run_is_left_alone(tmp_path, hold):
    queue = make(tmp_path, str(tmp_path / JOURNAL), 2)
    queue.fill()
    hold(tmp_path / "r0")
    with queue.claim() as claim:
        assert claim.entry.key == "r1"
        claim.finish(0.1)
    with queue.claim() as claim:
        assert claim is None
    assert "r0 is being trained by process 7 on elsewhere since noon" in queue.busy["r0"]


def test_train_and_compare_do_not_write_to_one_folder(tmp_path, hold, tiny, tiny_study, write_yaml):
    """One line and exit code 2 for train; compare does what is left."""
    from typer.testing import CliRunner

    from evenseg.cli import app

    tiny_study["iters"] = 1
    config, study = write_yaml(tiny_study), tmp_path / "study"
    hold(study / "runs" / "CE" / "seed-0")
    done = CliRunner().invoke(app, ["train", str(config), "--loss", "CE", "--set", f"output={study}"])
    assert done.exit_code == 2
    assert "CE/seed-0 is being trained by process 7 on elsewhere since noon; wait for it or choose" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (study / "runs" / "CE" / "seed-0").exists()
    done = CliRunner().invoke(app, ["compare", str(config), "--seeds", "0", "-o", str(study)])
    assert done.exit_code == 0
    assert "left to others: " in done.stderr
    assert (study / "runs" / "CE+LovaszHinge" / "seed-0" / "summary.json").is_file()
    assert not (study / "runs" / "CE" / "seed-0").exists()


def test_a_lock_leaves_no_trace_where_nothing_was_trained(tmp_path):
    with run_lock(tmp_path / "a" / "b" / "run", tidy=True), run_lock(tmp_path / "a" / "b" / "run"):
        assert lock_file(tmp_path / "a" / "b" / "run").is_file()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_free(tmp_path, hold):
    process = hold(tmp_path / "run")
    with pytest.raises(RunBusyError, match="process 7 on elsewhere"), run_lock(tmp_path / "run"):
        pass
    process.kill()
    process.wait()
    with run_lock(tmp_path / "run"):
        assert str(os.getpid()) in lock_file(tmp_path / "run").read_text()
