"""Searching the numbers of a loss on short runs: Auto Seg-Loss for one's own data."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import optuna

from evenseg.config import Config, ConfigError, SearchSection, Section, dump_config, override_config, unknown_name
from evenseg.engine import is_finished
from evenseg.engine.placement import is_torchrun
from evenseg.report.folders import SCORES
from evenseg.study.folder import check_folder, device_name, read_facts, setup_lock, write_facts
from evenseg.study.plan import Variant, choose_loss
from evenseg.study.processes import work_in_processes
from evenseg.study.queue import JOURNAL, Claim, Entry, Queue, check_storage, study_name
from evenseg.study.search_result import CSV, FACTS, LOSS, facts_of, write_csv, write_loss
from evenseg.study.search_samplers import NUMBER, PPO2Sampler, make_sampler
from evenseg.study.search_space import Space, make_space

if TYPE_CHECKING:
    from evenseg.study.worker import Experiments

Say = Callable[[str], None]
WAIT = 1.0  # seconds between two looks at a round that others have not finished


@dataclass(frozen=True)
class Job:
    """What every process of a search needs to know; travels to worker processes.

    Attributes:
        folder: of the search.
        config: as it was given.
        loss: name of the loss that is searched, where there are several.
        section: the `search` section, options of the command line applied.
        space: what is searched.
        storage: Optuna's.
        name: of the Optuna study.
        device: on which the runs are computed, in words.
        folder_id: of the folder.
        classes: names.
    """

    folder: Path
    config: Config
    loss: str | None
    section: SearchSection
    space: Space
    storage: str
    name: str
    device: str
    folder_id: str = ""
    classes: tuple[str, ...] = ()

    def queue(self) -> SearchQueue:
        """Opens the queue."""
        return SearchQueue(self)

    def config_of(self, number: int, values: Mapping[str, Any]) -> Config:
        """Returns the configuration of a proxy run, but for its seed."""
        settings = {**self.section.proxy, **self.space.settings(values)}
        return single_loss(self.config, self.loss, settings).model_copy(update={"name": trial_key(number)})

    def run_folders(self, number: int) -> list[Path]:
        """Returns where the runs of a trial lie, one for each seed."""
        return [self.folder / "trials" / trial_key(number) / f"seed-{seed}" for seed in self.section.seeds]

    def score(self, row: Mapping[str, Any]) -> float | None:
        """Returns the metric of a validation row."""
        name, _, of_class = self.section.metric.partition(".")
        value = row["iou"][self.classes.index(of_class)] if of_class else row[name]
        return None if value is None else float(value)


class SearchQueue(Queue):
    """The trials of a search, of which a sampler proposes the values when they are taken."""

    def __init__(self, job: Job) -> None:
        self.job = job
        entries = [Entry(trial_key(n), job.folder / "trials" / trial_key(n), {}) for n in range(job.section.trials)]
        self.numbers = {entry.key: number for number, entry in enumerate(entries)}
        super().__init__(job.storage, job.name, entries, {}, job.folder_id, _pruner(job) if job.section.prune else None)

    def unfinished(self) -> bool:
        """Tells whether a trial has not begun yet, one that waits for a round to end among them."""
        return any(state.state in ("none", "waiting") for state in self.states().values())

    def trials(self) -> dict[int, Any]:
        """Returns the newest trial of every number."""
        found = {}
        for trial in self._trials():
            if trial.user_attrs.get("run") in self.entries and "duplicate" not in trial.user_attrs:
                found[self.numbers[trial.user_attrs["run"]]] = trial
        return found

    def begin(self) -> None:
        """Queues the first trial, the loss as it is written, whatever samples."""
        first = next(iter(self.entries))
        if self.states()[first].state == "none":
            space = self.job.space
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.WAITING, params=space.start, distributions=space.distributions(),
                    user_attrs={"run": first, NUMBER: 0},
                )
            )  # fmt: skip

    def _candidates(self) -> Iterator[tuple[Entry, Any]]:
        yield from super()._candidates()
        states = {self.numbers[key]: state.state for key, state in self.states().items()}
        ended = {number for number, state in states.items() if state in ("finished", "failed", "pruned")}
        sampler = self._sampler(0)
        for key, number in self.numbers.items():
            if states[number] == "none":
                if isinstance(sampler, PPO2Sampler) and not sampler.ready(number, ended):
                    return
                yield self.entries[key], None

    def _ask(self, entry: Entry) -> Any:
        if self.states()[entry.key].state != "none":
            return None  # another process was faster
        number, kept = self.numbers[entry.key], self.study.sampler
        # not by Study.ask, which would take a trial that waits to be trained again
        trial_id = self.study._storage.create_new_trial(self.study._study_id)
        self.study.sampler = self._sampler(number)
        trial = optuna.trial.Trial(self.study, trial_id)
        for dimension in self.job.space.dimensions:
            dimension.suggest(trial)
        self.study.sampler = kept
        # first by whom: a trial without a run is nobody's, should this process die here
        for name, value in (("folder_id", self.folder_id), (NUMBER, number), ("run", entry.key)):
            self._storage.set_trial_user_attr(trial_id, name, value)
        return self._storage.get_trial(trial_id)

    def _sampler(self, number: int) -> Any:
        return make_sampler(self.job.section.sampler, self.job.space, self.job.section.seed, number)


def search(
    config: Config,
    output: str | Path,
    *,
    loss: str | None = None,
    trials: int | None = None,
    storage: str | None = None,
    workers: int | None = None,
    say: Say = lambda line: None,
) -> Path:
    """Tries values of a loss on short runs and writes the best as a loss section, a table and a report.

    The trials are those of one Optuna study: any number of processes and machines that are given the same folder or
    storage share the work, and a search that was broken off goes on, also to more trials than before. The first trial is
    the loss as it is written.

    Args:
        config: with a `search` section and one `loss`, or several of which one is chosen.
        output: folder of the search.
        loss: name of one of the configuration's `losses`.
        trials: how many sets of values are tried, in place of the section's.
        storage: a database URL or the path of a journal file, likewise.
        workers: processes that train at the same time on this machine, likewise.
        say: takes one line about each trial.

    Returns:
        Path of search.html.

    Raises:
        ConfigError: the configuration or the data cannot be used; nothing is written then.
        ValueError: a storage that cannot be used, or a search of another configuration in the folder.
    """
    from evenseg.study.worker import Experiments

    folder = Path(output)
    section = _section(config, trials, storage, workers)
    with _naming_the_file(config):
        written = single_loss(config, loss, {})
        _check_proxy(config, loss, section)
        space = make_space(written, section.parameters)
        make_sampler(section.sampler, space, section.seed)
    check_folder(folder, FACTS, "trials")
    storage = section.storage or str(folder / JOURNAL)
    check_storage(storage, folder)
    free = {"trials", "storage", "workers"}
    identity = [written.model_dump(exclude={"output", "name", "device", "num_workers"}), section.model_dump(exclude=free)]
    job = Job(folder, config, loss, section, space, storage, study_name(folder, identity), device_name(config))
    experiments = Experiments()
    job = replace(job, classes=tuple(experiments.of(_variant(job, 0, space.start)).classes.names))
    allowed = [*SCORES, *(f"iou.{name}" for name in job.classes)]
    if section.metric not in allowed:
        raise ConfigError(unknown_name("metric", section.metric, allowed), key_path="search.metric", file=config.source)
    folder.mkdir(parents=True, exist_ok=True)
    with setup_lock(folder):
        before = read_facts(folder, FACTS)
        if before and before["study"] != job.name:
            raise ValueError(f"{folder} holds a search of another configuration; choose another --output")
        job = replace(job, folder_id=str(before.get("id") or secrets.token_hex(8)))
        kept = dump_config(written.model_copy(update={"output": None, "search": section}))
        (folder / "config.yaml").write_text(kept, encoding="utf-8")
        queue = job.queue()
        queue.reap()
        queue.begin()
        _write(job, queue)
    if section.workers > 1:
        work_in_processes(min(section.workers, section.trials), _worker, (job,), say)
    # what worker processes that died left behind, or everything where there is one worker
    work(job, queue, experiments, say)
    _write(job, queue)
    from evenseg.report import write_search_report

    return write_search_report(folder)


def work(job: Job, queue: SearchQueue, experiments: Experiments, say: Say) -> None:
    """Trains trials until there is none left that this process could take; waits for rounds that others are finishing."""
    waiting = False
    while True:
        with queue.claim() as claim:
            if claim is not None:
                waiting = False
                _train(job, queue.numbers[claim.entry.key], claim, experiments, say)
        if claim is not None:
            _write(job, queue)
        elif queue.unfinished():
            if not waiting:
                say("waiting for the trials of other processes, which the next ones depend on")
            waiting = True
            time.sleep(WAIT)
        else:
            return


def single_loss(config: Config, loss: str | None, settings: Mapping[str, Any]) -> Config:
    """Returns a configuration with one loss and values changed, read from its file again so that interpolations follow.

    Args:
        config: as it was given.
        loss: name of one of its `losses`, None where it has one `loss`.
        settings: key path -> value; the loss is at `loss`, also where it is one of several.
    """
    if config.losses is None:
        if loss is not None:
            raise ConfigError(f"--loss {loss}: the file has one `loss` only", key_path="loss")
    elif loss is None:
        raise ConfigError(f"say with --loss which of them is searched: {', '.join(config.losses)}", key_path="losses")
    else:
        choose_loss(config, loss)
        settings = {_among(key, loss): value for key, value in settings.items()}
    changed = override_config(config, settings) if settings else config
    if loss is not None:
        changed = choose_loss(changed, loss)
    return changed.model_copy(update={"search": None, "study": None})


def _among(key: str, loss: str) -> str:
    return f"losses.{loss}{key.removeprefix('loss')}" if key.startswith(("loss.", "loss[")) else key


def _check_proxy(config: Config, loss: str | None, section: SearchSection) -> None:
    for key in section.proxy:
        if key.split(".")[0].split("[")[0] in ("seed", "study", "search", "output", "name", "loss", "losses"):
            raise ConfigError("cannot be changed in a proxy run", key_path=f"search.proxy.{key}")
        try:
            single_loss(config, loss, {key: section.proxy[key]})
        except ConfigError as error:
            raise ConfigError(error.message.removeprefix("--set: "), key_path=f"search.proxy.{key}") from error


@contextmanager
def _naming_the_file(config: Config) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise error.in_file(config.source) from error


def trial_key(number: int) -> str:
    """Returns what a trial is called."""
    return f"trial-{number:04d}"


def _section(config: Config, trials: int | None, storage: str | None, workers: int | None) -> SearchSection:
    if config.search is None:
        raise ConfigError("there is no `search` section that says what to search", key_path="search", file=config.source)
    given = {"trials": trials, "storage": storage, "workers": workers}
    for name in ("trials", "workers"):
        value = given[name]
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if is_torchrun() or config.devices > 1:
        raise ConfigError(
            "search trains every proxy run on one device, several at a time with --workers", key_path="devices", file=config.source
        )
    return config.search.model_copy(update={name: value for name, value in given.items() if value is not None})


def _pruner(job: Job) -> Any:
    import optuna

    iters = job.config_of(0, job.space.start).iters
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=iters // 3)


def _variant(job: Job, number: int, values: Mapping[str, Any]) -> Variant:
    config = job.config_of(number, values)
    return Variant(trial_key(number), trial_key(number), {}, config, config.model_copy(update={"name": None}))


def _worker(say: Say, job: Job) -> None:
    from evenseg.study.worker import Experiments

    work(job, job.queue(), Experiments(), say)


def _train(job: Job, number: int, claim: Claim, experiments: Experiments, say: Say) -> None:
    from evenseg.study.worker import ReportScores, check_same, settle, train_or_go_on

    title = f"trial {number} of {job.section.trials}"
    values = claim.params

    def train() -> float:
        experiment = experiments.of(_variant(job, number, values))
        scores, seconds = [], 0.0
        for seed, folder in zip(job.section.seeds, job.run_folders(number), strict=True):
            config = experiment.config.model_copy(update={"seed": seed})
            if is_finished(folder):
                check_same(folder, config)
            else:
                first = seed == job.section.seeds[0]
                reports = ReportScores(
                    claim.live_trial(), prunable=job.section.prune and number > 0, score=job.score, name=job.section.metric,
                    lagging="in the lower half",
                )  # fmt: skip
                train_or_go_on(replace(experiment, config=config), folder, title, [reports] if first else [])
            summary = json.loads((folder / "summary.json").read_text("utf-8"))
            score = job.score(summary["last"])
            scores.append(0.0 if score is None else score)
            seconds += float(summary["seconds"])
            # of no use to anyone, and large
            for name in ("checkpoints", "overlays"):
                shutil.rmtree(folder / name, ignore_errors=True)
        claim.note("seconds", seconds)
        mean = fmean(scores)
        say(f"{title}: {job.section.metric} {100 * mean:.2f} %, {seconds:.0f} s")
        return mean

    settle(claim, title, say, train)


def _write(job: Job, queue: SearchQueue) -> None:
    """Writes search.json, search.csv and best_loss.yml as the trials stand."""
    facts = {
        "study": job.name,
        "id": job.folder_id,
        "metric": job.section.metric,
        "trials": job.section.trials,
        "seeds": list(job.section.seeds),
        "iters": job.config_of(0, job.space.start).iters,
        "sampler": sampler_text(job.section.sampler),
        "samples": _samples(job),
        "device": job.device,
        "start": dict(job.space.start),
        "curves": [{"key": c.key, "metric": c.metric, "start": c.numbers(job.space.start)} for c in job.space.curves],
    }
    rows = facts_of(queue.trials(), job.space)
    write_facts(job.folder, facts | {"rows": rows}, FACTS)
    write_csv(job.folder / CSV, rows, list(job.space.start))
    best = max((row for row in rows if row["value"] is not None), key=lambda row: row["value"], default=None)
    if best is not None:
        chosen = single_loss(job.config, job.loss, best["settings"])
        write_loss(job.folder / LOSS, chosen.loss or {}, facts | {"rows": rows}, best)


def _samples(job: Job) -> int | None:
    sampler = make_sampler(job.section.sampler, job.space, job.section.seed)
    return sampler.samples if isinstance(sampler, PPO2Sampler) else None


def sampler_text(section: Section) -> str:
    """Returns a sampler with its keywords, like `PPO2(samples=8)`."""
    keywords = ", ".join(f"{key}={value}" for key, value in section.keywords.items())
    return f"{section.type}({keywords})" if keywords else section.type


