"""`python -m benchmarks` measures, `python -m benchmarks report` writes the tables."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
PIXELS = (100_000, 250_000, 1_000_000, 4_000_000, 16_000_000)
SIZES = {1: PIXELS, 2: PIXELS, 19: PIXELS[:-1]}  # 19 classes at 16 million pixels want 5 GB
QUICK_SHAPES = ((4, 2, 512, 512),)
QUICK_SIZES = {2: PIXELS[:2]}


def shape_of(text: str) -> tuple[int, ...]:
    """Read "2,19,512,1024" as a shape."""
    try:
        shape = tuple(int(x) for x in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape N,C,H,W")
    return shape


def parser() -> argparse.ArgumentParser:
    from benchmarks.registry import PROVIDERS

    top = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    top.add_argument("--quick", action="store_true", help="one shape, 3 rounds: does it run?")
    top.add_argument("--shape", type=shape_of, action="append", metavar="N,C,H,W", help="measure at this shape (repeatable)")
    top.add_argument("--provider", choices=PROVIDERS, action="append", help="measure these libraries beside torch and evenseg")
    top.add_argument("--out", type=Path, help="result file; by default one in benchmarks/results, for --quick in build/")
    commands = top.add_subparsers(dest="command")
    report = commands.add_parser("report", help="write docs/performance.md from the newest committed result")
    report.add_argument("result", type=Path, nargs="?", help="this result instead")
    report.add_argument("--page", type=Path, default=PAGE)
    return top


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Gate, then every measurement in processes of their own."""
    import dataclasses

    from benchmarks import gate, machine, memory, schema, targets, worker
    from benchmarks.registry import MEMORY_SHAPES, PROVIDERS, SHAPES
    from benchmarks.speed import Plan
    from evenseg.bench.inputs import LOGITS

    start, load_before = time.perf_counter(), machine.load_average()
    checked = gate.check()
    print(f"values and gradients agree in {len(checked)} comparisons", flush=True)
    quick = arguments.quick
    plan = Plan(rounds=3, fewest=2, seconds=0.5) if quick else Plan()
    shapes = arguments.shape or (QUICK_SHAPES if quick else SHAPES)
    providers = [p for p in PROVIDERS if p in ("torch", "evenseg", *(arguments.provider or PROVIDERS))]
    speed: list[dict[str, Any]] = []
    sizes: list[dict[str, Any]] = []
    in_memory: list[dict[str, Any]] = []
    earlier: dict[str, dict[str, float]] = {}
    for regime in worker.REGIMES:
        print(f"time, {regime} allocator", flush=True)
        done = worker.run({
            "task": "speed", "regime": regime, "shapes": shapes, "logits": LOGITS, "providers": providers,
            "plan": dataclasses.asdict(plan), "earlier": earlier,
        })  # fmt: skip
        speed, earlier = speed + done["rows"], done["earlier"]
        print("  time per pixel", flush=True)
        of_channels = list((QUICK_SIZES if quick else SIZES).items())
        sizes += worker.run({"task": "sizes", "regime": regime, "sizes": of_channels, "rounds": plan.rounds})["rows"]
    unsupported = memory.supported()
    memory_shapes = arguments.shape or (QUICK_SHAPES if quick else MEMORY_SHAPES)
    if unsupported is None:
        # the baseline and ours in one process, every other library in one of its own
        groups = [["torch", "evenseg"], *([p] for p in providers if p not in ("torch", "evenseg"))]
        for group in groups:
            print(f"memory, {' and '.join(group)}", flush=True)
            job = {"task": "memory", "regime": "default", "shapes": memory_shapes, "providers": group}
            in_memory += worker.run(job)["rows"]
    result: dict[str, Any] = {
        "format": schema.FORMAT, "quick": quick,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1), "git": machine.commit(), "machine": machine.describe_machine(),
        "versions": machine.versions(), "regimes": worker.REGIMES, "load_before": load_before,
        "load_after": machine.load_average(), "gate": checked, "plan": dataclasses.asdict(plan),
        "memory_method": memory.METHOD if unsupported is None else None, "memory_skipped": unsupported,
        "speed": speed, "memory": in_memory, "sizes": sizes, "targets": [],
    }  # fmt: skip
    result["targets"] = targets.judge(result)
    schema.check(result)
    return result


def default_file(result: dict[str, Any]) -> Path:
    """Where a result goes if nobody says: quick ones are not kept."""
    if result["quick"]:
        return ROOT / "build" / "benchmarks" / "quick.json"
    stamp = result["date"][:19].replace(":", "").replace("T", "-")
    return RESULTS / f"{stamp}.json"


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    from benchmarks import report

    if arguments.command == "report":
        try:
            file = arguments.result or report.newest(RESULTS)
            loaded = report.load(file)
            text, charts = report.render(loaded), report.plots(loaded)
        except (OSError, ValueError) as e:
            print(f"error: {e}", file=sys.stderr)
            return 2
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        arguments.page.write_text(text, encoding="utf-8")
        folder = arguments.page.with_suffix("")
        folder.mkdir(exist_ok=True)
        for name, chart in charts.items():
            (folder / name).write_text(chart, encoding="utf-8")
        print(text)
        print(f"{arguments.page} from {file}")
        return 0
    from benchmarks.gate import GateError
    from benchmarks.worker import WorkerError

    try:
        result = measure(arguments)
    except GateError as e:
        print(f"error: the values are wrong, so no times: {e}", file=sys.stderr)
        return 1
    except WorkerError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    file = arguments.out or default_file(result)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(report.render(result))
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
