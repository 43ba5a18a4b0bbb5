"""Several losses with several seeds on one configuration, into one study folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evenseg.config import Config, ConfigError, StudySection, dump_config
from evenseg.engine import is_finished, is_resumable
from evenseg.engine.placement import is_torchrun
from evenseg.engine.run_folder import check_free
from evenseg.study.folder import check_folder, device_name, read_facts, setup_lock, write_facts
from evenseg.study.plan import make_plan, make_variants
from evenseg.study.processes import work_in_processes
from evenseg.study.queue import JOURNAL, Queue, check_storage, study_name


def compare(
    config: Config,
    seeds: Sequence[int],
    output: str | Path,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    storage: str | None = None,
    workers: int | None = None,
    prune: bool | None = None,
    evaluate: Sequence[str] | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Trains every named loss with every seed (and every combination of the grid) and writes the report.

    Runs of one seed see the same samples in the same order and start from the same weights, whatever the loss. The runs
    are Optuna trials: any number of processes and machines that are given the same study folder and storage share the
    work, no run is trained twice, and a study that was broken off goes on. Finished runs of the same configuration are
    kept, a killed one goes on from its last checkpoint, one that failed stays in the report with its reason.

    Args:
        config: with `losses` (the first is the baseline), or with one `loss` and a grid. What is not given below is
            taken from its `study` section.
        seeds: of the runs.
        output: the study folder.
        grid: key path of the configuration -> the values to try, such as {"optimizer.lr": [0.01, 0.02]}.
        storage: a database URL or the path of a journal file; a journal in the study folder by default.
        workers: processes that train at the same time on this machine.
        prune: stop runs that lag far behind; never the baseline's.
        evaluate: splits ("val", "test") to measure the best weights of every run on.
        overwrite: train finished runs again.
        retry_failed: train failed runs again.
        say: takes one line about each run.

    Returns:
        Path of report.html.

    Raises:
        ConfigError: the configuration or the data cannot be used; nothing is written then.
        ValueError: seeds or a storage that cannot be used, or a finished run of another configuration in the folder.
    """
    from evenseg.study.worker import Experiments, Job, check_same, measure, work

    section = config.study or StudySection()
    grid = dict(section.grid if grid is None else grid)
    workers = section.workers if workers is None else workers
    prune = section.prune if prune is None else prune
    splits = section.evaluate if evaluate is None else tuple(evaluate)
    storage = section.storage if storage is None else storage
    if config.losses is None and not grid:
        raise ConfigError(
            "compare needs `losses`, a mapping of name to loss section, where this file has one `loss`",
            key_path="loss",
            file=config.source,
        )
    seeds = list(seeds)
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different whole numbers from 0 on, at least one, got {seeds}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if "test" in splits and config.test_dataset is None:
        raise ConfigError("the test split is to be evaluated, but there is none", key_path="test_dataset", file=config.source)
    study = Path(output)
    check_folder(study, "study.json")
    if storage is not None:
        check_storage(storage, study)
    variants = make_variants(config, grid)
    if is_torchrun() or any(variant.config.devices > 1 for variant in variants):
        # the processes of one run would each take runs of their own
        raise ConfigError(
            "compare trains every run on one device, several runs at a time with --workers; a run on several devices is "
            "trained with `evenseg train CONFIG --loss NAME`, where compare finds it",
            key_path="devices",
            file=config.source,
        )
    plan = make_plan(variants, seeds, study)
    for one in plan:
        if not overwrite and (is_finished(one.folder) or is_resumable(one.folder)):
            check_same(one.folder, one.config)
        else:
            check_free(one.folder, overwrite=overwrite)
    experiments = Experiments()
    classes = {tuple(experiments.of(variant).classes.names) for variant in variants}
    if len(classes) > 1:
        raise ConfigError("the values of the grid lead to data sets of different classes", key_path="study.grid")
    facts: dict[str, Any] = {
        "losses": [variant.name for variant in variants],
        "settings": {variant.name: dict(variant.settings) for variant in variants},
        "seeds": seeds,
        "classes": list(classes.pop()),
        "metric": "miou",
        "device": device_name(config),
    }
    study.mkdir(parents=True, exist_ok=True)
    with setup_lock(study):
        folder_id = str(read_facts(study).get("id") or secrets.token_hex(8))
        facts["id"] = folder_id
        job = Job(
            study=study,
            variants=variants,
            seeds=seeds,
            plan=plan,
            storage=str(study / JOURNAL) if storage is None else storage,
            name=study_name(study, [variant.config.model_dump() for variant in variants]),
            folder_id=folder_id,
            grid=grid,
            prune=prune,
            splits=splits,
        )
        write_facts(study, facts | {"seconds": 0.0, "unfinished": []})
        (study / "config.yaml").write_text(dump_config(config.model_copy(update={"output": None})), encoding="utf-8")
        queue = job.queue()
        queue.reap()
        again = [state for state, asked in (("failed", retry_failed), ("pruned", not prune)) if asked]
        queue.fill(again=again, overwrite=overwrite)
    _say_what_is_done(job, queue, say)

    def after_each(queue: Queue) -> None:
        write_facts(study, facts | _progress(job, queue))

    after_each(queue)
    if workers > 1:
        work_in_processes(min(workers, len(plan)), _worker, (job, dict(facts)), say)
    # what worker processes that died left behind, or everything where there is one worker
    work(job, queue, experiments, say, after_each)
    states = queue.states()
    for one in plan:  # finished in an earlier call that asked for other splits
        if states[one.key].state == "finished" and is_finished(one.folder):
            measure(one, splits)
    after_each(queue)
    for reason in queue.busy.values():
        say(f"left to others: {reason.partition(';')[0]}")
    from evenseg.report import write_study_report
    from evenseg.study.pictures import write_pictures

    write_pictures(study)
    return write_study_report(study)


def failures(study: str | Path) -> list[str]:
    """Returns one line for every run of a study that failed."""
    unfinished = read_facts(Path(study)).get("unfinished", [])
    return [f"{run['loss']}, seed {run['seed']}: {run['reason']}" for run in unfinished if run["state"] == "failed"]


def _say_what_is_done(job: Any, queue: Queue, say: Callable[[str], None]) -> None:
    states = queue.states()
    for one in job.plan:
        if states[one.key].state == "finished" and is_finished(one.folder):
            say(f"{job.title(one)}: finished before, kept")
        elif states[one.key].state in ("failed", "pruned"):
            retry = "--retry-failed trains it again" if states[one.key].state == "failed" else "without --prune it is trained"
            say(f"{job.title(one)}: {states[one.key].state} before ({retry}): {states[one.key].reason}")


def _worker(say: Callable[[str], None], job: Any, facts: Mapping[str, Any]) -> None:
    from evenseg.study.worker import Experiments, work

    work(job, job.queue(), Experiments(), say, lambda queue: write_facts(job.study, dict(facts) | _progress(job, queue)))


def _progress(job: Any, queue: Queue) -> dict[str, Any]:
    """Returns what study.json says about the runs: the training time of the finished ones, and what the others lack."""
    from evenseg.study.worker import why_not_finished

    states = queue.states()
    seconds, unfinished = 0.0, []
    for one in job.plan:
        if is_finished(one.folder) and states[one.key].state != "failed":
            seconds += float(json.loads((one.folder / "summary.json").read_text("utf-8"))["seconds"])
        elif states[one.key].state != "finished":
            state = states[one.key]
            row = {"loss": one.variant.name, "seed": one.seed, "state": state.state, "reason": why_not_finished(state)}
            unfinished.append(row)
    return {"seconds": round(seconds, 3), "unfinished": unfinished}
