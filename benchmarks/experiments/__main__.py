"""`python -m benchmarks.experiments`

run NAME --out FOLDER --minutes 9   # as far as the time allows; the folder goes on with what an earlier call packed
merge NAME STUDY                    # the study's section of docs/results.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

from benchmarks.experiments.plan import EXPERIMENTS, Experiment
from benchmarks.experiments.results import merge, section
from benchmarks.machine import ROOT

PAGE = ROOT / "docs" / "results.md"
KEPT = (".json", ".csv", ".jsonl", ".yaml", ".log")  # of a run: what results are made of, not the weights


def config_of(experiment: Experiment, folder: Path) -> Path:
    """The experiment as a configuration of its own."""
    file = folder / f"{experiment.name}.yml"
    content = {"_base_": [str(ROOT / experiment.recipe)], "losses": experiment.losses, **experiment.settings}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def run(experiment: Experiment, out: Path, minutes: float, packed: Path | None, settings: list[str]) -> int:
    """Train as many runs as fit into the time; pack the study so that the next call can go on."""
    study = out / experiment.name
    study.parent.mkdir(parents=True, exist_ok=True)
    if packed is not None:
        with tarfile.open(packed) as archive:
            archive.extractall(out, filter="data")
    words = [
        sys.executable, "-m", "evenseg", "compare", str(config_of(experiment, out)), "--output", str(study), "--evaluate", "test",
        "--seeds", *map(str, range(experiment.seeds)), *[w for s in settings for w in ("--set", s)],
    ]  # fmt: skip
    try:
        code = subprocess.run(words, cwd=ROOT, timeout=60 * minutes, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{minutes:g} minutes are over; run it again with --packed", flush=True)
        code = 0
    with tarfile.open(out / f"{experiment.name}.tar.gz", "w:gz") as archive:
        for file in sorted(study.rglob("*")):
            finished = (
                "runs" not in file.relative_to(study).parts or (study / Path(*file.relative_to(study).parts[:3]) / "summary.json").exists()
            )
            if file.is_file() and file.suffix in KEPT and finished:
                archive.add(file, file.relative_to(out))
    return code


def write(name: str, study: Path, text: str, title: str | None) -> None:
    """Put the study's section into docs/results.md."""
    known = EXPERIMENTS.get(name)
    heading = title or (known.title if known else name)
    PAGE.write_text(merge(PAGE.read_text(encoding="utf-8"), name, section(study, heading, text)), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    go = commands.add_parser("run", help="train within a time limit")
    go.add_argument("name", choices=list(EXPERIMENTS))
    go.add_argument("--out", type=Path, required=True, help="folder for the study and its archive")
    go.add_argument("--minutes", type=float, default=9.0)
    go.add_argument("--packed", type=Path, help="archive of an earlier call")
    go.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    put = commands.add_parser("merge", help="write a study's section into docs/results.md")
    put.add_argument("name")
    put.add_argument("study", type=Path)
    put.add_argument("--title")
    put.add_argument("--text", type=Path, required=True, help="Markdown: what was run, where, and what it shows")
    given = parser.parse_args(arguments)
    try:
        if given.command == "run":
            return run(EXPERIMENTS[given.name], given.out, given.minutes, given.packed, given.settings)
        write(given.name, given.study, given.text.read_text(encoding="utf-8"), given.title)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
