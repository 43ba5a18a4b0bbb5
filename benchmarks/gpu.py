"""Everything that is to be checked and measured on one GPU, in parts that each fit into a few minutes.

    python -m benchmarks.gpu check --out $OUT      # the CUDA tests, then the gate in three types
    python -m benchmarks.gpu speed --out $OUT      # time and memory beside torch (eager, compiled), SMP and MONAI
    python -m benchmarks.gpu sizes --out $OUT      # time per pixel from 1 to 500 million pixels
    python -m benchmarks.gpu step --out $OUT       # the loss's share of a training step
    python -m benchmarks.gpu targets --out $OUT    # what is promised, against what the parts have found

Each part writes one JSON file into the folder; a part that was broken off is simply run again. `--tiny` runs the same code at
small sizes, on the CPU too: that is how it is tested.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, peers
from benchmarks.machine import ROOT
from evenseg.bench import GateError, check_kernels, make_batch, measure_losses
from evenseg.bench.inputs import Batch
from evenseg.bench.measure import DEFAULT_LOSSES, cross_entropy
from evenseg.bench.timing import spread, timed

SHAPES = ((8, 19, 1024, 2048), (8, 150, 512, 512), (16, 1, 1024, 1024))
TINY_SHAPES = ((2, 5, 32, 48), (2, 1, 32, 32))
TYPES = (torch.float32, torch.bfloat16)
PIXELS = (1, 4, 16, 64, 256, 500)  # millions
ROUNDS, PEER_ROUNDS = 20, 3
MIXES = {False: "CE + focal + Dice + Lovász", True: "BCE + focal + Dice + hinge"}
LOVASZ = {False: "LovaszSoftmaxLoss", True: "LovaszHingeLoss"}


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def described() -> dict[str, Any]:
    """Machine and versions; the GPU's name, memory and measured copy bandwidth."""
    found: dict[str, Any] = {"machine": machine.describe_machine(), "versions": machine.versions(), "git": machine.commit()}
    if device() == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = {"name": properties.name, "memory_bytes": properties.total_memory, "processors": properties.multi_processor_count}
        found["copy_bytes_per_second"] = copy_bandwidth()
    return found


def copy_bandwidth(megabytes: int = 2048) -> float:
    """Bytes read and written per second by a copy from one block of memory to another."""
    a = torch.empty(megabytes << 20, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    seconds = []
    for _ in range(12):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        b.copy_(a)
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return 2 * a.numel() / sorted(seconds)[len(seconds) // 2]


def check(tiny: bool) -> dict[str, Any]:
    """The CUDA tests and the gate; the exit code of the tests, and what the gate compared."""
    tests = [sys.executable, "-m", "pytest", "-q", "tests/statistics/test_triton.py", "-k", "not compiles_for_a_gpu"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = None if tiny else subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    types = (torch.float32,) if tiny else (torch.float32, torch.bfloat16, torch.float16)
    gate: dict[str, dict[str, Any]] = {}
    for kind in types:
        try:
            gate[str(kind)] = {"lines": check_kernels(device(), kind), "error": None}
        except GateError as error:
            gate[str(kind)] = {"lines": [], "error": str(error)}
    return {
        "tests": None if done is None else {"code": done.returncode, "tail": done.stdout[-3000:]},
        "gate": gate,
        "sanitizer": sanitizer(tiny),
    }


def sanitizer(tiny: bool) -> dict[str, Any] | None:
    """compute-sanitizer over one small mix, where it is installed."""
    if tiny or device() != "cuda":
        return None
    program = (
        "from evenseg.bench import make_batch; from evenseg.bench.measure import MIX; from evenseg.losses import build_loss\n"
        "b = make_batch((2, 19, 64, 64), 'untrained', device='cuda'); build_loss(MIX).cuda()(b.logits, b.target).backward()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    try:
        done = subprocess.run(
            ["compute-sanitizer", "--error-exitcode", "9", sys.executable, "-c", program],
            env=environment, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"code": None, "tail": str(error)}
    return {"code": done.returncode, "tail": done.stdout[-1500:]}


def speed(tiny: bool) -> dict[str, Any]:
    """Ours and torch's at every shape and type, then the other libraries in float32."""
    rows: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for shape in TINY_SHAPES if tiny else SHAPES:
        for kind in TYPES[: 1 if tiny else 2]:
            for like in ("untrained", "trained"):
                costs = measure_losses(
                    shape, DEFAULT_LOSSES[shape[1] == 1], device=device(), dtype=kind, kind=like, rounds=3 if tiny else ROUNDS,
                    compiled=not tiny,
                )  # fmt: skip
                rows += [c.as_json() | {"logits": like} for c in costs]
                _free()
        others += [_peer(name, make, shape) for name, make in PEERS.items()]
        _free()
    return {"rows": rows, "peers": others}


PEERS: dict[str, Callable[[Batch], Callable[[], torch.Tensor]]] = {
    "segmentation-models-pytorch LovaszLoss": peers.smp_lovasz,
    "MONAI DiceFocalLoss": peers.monai_dice_focal,
    "kornia lovasz": peers.kornia_lovasz,
}


def _peer(name: str, make: Callable[[Batch], Callable[[], torch.Tensor]], shape: tuple[int, ...]) -> dict[str, Any]:
    """Seconds of another library's loss beside torch's cross-entropy in float32."""
    row: dict[str, Any] = {"peer": name, "shape": list(shape), "ratio": None, "seconds": None, "skipped": None}
    batch = make_batch(shape, "untrained", device=device())
    try:
        call = make(batch)
        timed(call, batch)
        reference = cross_entropy(batch)
        pairs = [(timed(reference, batch)[0], timed(call, batch)[0]) for _ in range(PEER_ROUNDS)]
    except (peers.UnavailableError, RuntimeError) as error:
        return row | {"skipped": " ".join(str(error).split())[:200]}
    return row | {"ratio": spread(b / a for a, b in pairs), "seconds": spread(b for _, b in pairs)}


def sizes(tiny: bool) -> dict[str, Any]:
    """Nanoseconds per pixel of Lovász with two channels in bfloat16, over sizes."""
    rows = []
    for millions in (0.001, 0.004) if tiny else PIXELS:
        side = max(16, round((millions * 1e6) ** 0.5 / 16) * 16)
        cost = measure_losses(
            (1, 2, side, side), {"LovaszSoftmaxLoss": {"type": "LovaszSoftmaxLoss"}}, device=device(), dtype=torch.bfloat16, rounds=5
        )[0]
        rows.append(
            {"pixels": side * side, "ns_per_pixel": cost.nanoseconds_per_pixel, "baseline_seconds": cost.baseline_seconds["median"]}
        )
        _free()
    found = [r["ns_per_pixel"] for r in rows]
    return {"rows": rows, "flatness": max(found) / min(found)}


def step(tiny: bool) -> dict[str, Any]:
    """Seconds of a training step of ENet and OCRNet, and of the loss alone on its outputs: torch's cross-entropy, then the mix."""
    import evenseg._torchvision  # noqa: F401
    from evenseg.models.enet import ENet
    from evenseg.models.ocrnet import OCRNet

    rows = []
    networks: dict[str, Callable[[], torch.nn.Module]] = {"ENet": lambda: ENet(num_classes=19)}
    if not tiny:
        networks["OCRNet-W18"] = lambda: OCRNet(num_classes=19)
    shape = (1, 3, 32, 32) if tiny else (4, 3, 512, 1024)
    for name, make in networks.items():
        network = make().to(device()).train()
        image = torch.randn(shape, device=device())
        target = torch.randint(0, 19, (shape[0], *shape[2:]), device=device())
        for loss_name, section in (("F.cross_entropy", None), (MIXES[False], DEFAULT_LOSSES[False][MIXES[False]])):
            rows.append(_step(name, network, image, target, loss_name, section, 2 if tiny else 10))
        _free()
    return {"rows": rows}


def _step(
    name: str, network: torch.nn.Module, image: torch.Tensor, target: torch.Tensor, loss_name: str, section: Any, rounds: int
) -> dict[str, Any]:
    from torch.nn import functional as F

    from evenseg.losses import build_loss

    built = None if section is None else build_loss(section).to(image.device)

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target) if built is None else built(logits, target)

    def outputs() -> torch.Tensor:
        found = network(image)
        main = found if isinstance(found, torch.Tensor) else found[0]
        return main if main.shape[2:] == target.shape[1:] else F.interpolate(main, target.shape[1:], mode="bilinear")

    with torch.no_grad():
        frozen = Batch(outputs().detach().clone().requires_grad_(), target)
    alone = [timed(lambda: loss_of(frozen.logits), frozen)[0] for _ in range(rounds + 1)][1:]
    frozen.logits.grad = None
    whole = [timed(lambda: loss_of(outputs()), frozen)[0] for _ in range(rounds + 1)][1:]
    return {
        "network": name, "loss": loss_name, "step_seconds": spread(whole), "loss_seconds": spread(alone),
        "share": spread(alone)["median"] / spread(whole)["median"],
    }  # fmt: skip


def targets(folder: Path) -> dict[str, Any]:
    """Every promise, with what was measured; parts that are missing are named."""
    missing = [part for part in ("speed", "sizes") if not (folder / f"gpu_{part}.json").exists()]
    if missing:
        raise ValueError(f"{folder} lacks the results of {' and '.join(missing)}; run them first")
    found, by_size = (json.loads((folder / f"gpu_{part}.json").read_text(encoding="utf-8")) for part in ("speed", "sizes"))
    rows = []

    def judge(what: str, where: str, measured: float, limit: float, at_most: bool = True) -> None:
        met = measured <= limit if at_most else measured >= limit
        rows.append({"what": what, "where": where, "measured": measured, "limit": limit, "at_most": at_most, "met": met})

    bandwidth = found.get("copy_bytes_per_second")
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        groups.setdefault((tuple(row["shape"]), row["dtype"], row["logits"]), {})[row["loss"]] = row
    for (shape, dtype, like), by_name in groups.items():
        binary = shape[1] == 1
        where = f"{shape}, {dtype}, {like}-like"
        lovasz, mix = by_name[LOVASZ[binary]], by_name[MIXES[binary]]
        judge("Lovász, x eager cross-entropy", where, lovasz["ratio"]["median"], 0.7)
        compiled = by_name.get("torch.compile(F.cross_entropy)")
        if compiled:
            judge("Lovász, x compiled cross-entropy", where, lovasz["seconds"]["median"] / compiled["seconds"]["median"], 1.0)
        judge("mix, x eager cross-entropy", where, mix["ratio"]["median"], 1.0)
        if bandwidth:
            judge("share of the copy bandwidth, Lovász", where, lovasz["gigabytes_per_second"] * 1e9 / bandwidth, 0.6, at_most=False)
        if lovasz["extra_bytes"] is not None:
            judge("extra memory, x cross-entropy's", where, lovasz["extra_bytes"] / lovasz["baseline_extra_bytes"], 0.3)
        for peer in found["peers"]:
            if tuple(peer["shape"]) == shape and dtype == "float32" and like == "untrained" and peer["seconds"]:
                ours = lovasz if "ovasz" in peer["peer"] else mix
                limit = 10.0 if "MONAI" in peer["peer"] else 50.0
                judge(
                    f"times faster than {peer['peer']}", where, peer["seconds"]["median"] / ours["seconds"]["median"], limit, at_most=False
                )
    judge("flatness of the time per pixel", "(1, 2, *), bfloat16", by_size["flatness"], 1.3)
    return {"rows": rows, "met": sum(r["met"] for r in rows), "of": len(rows)}


def _free() -> None:
    gc.collect()
    if device() == "cuda":
        torch.cuda.empty_cache()


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {"check": check, "speed": speed, "sizes": sizes, "step": step}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "targets"])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run?")
    given = parser.parse_args(arguments)
    if device() == "cpu" and not given.tiny and given.part != "targets":
        print("error: there is no CUDA device; --tiny runs the same code at small sizes on the CPU", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        result = targets(given.out) if given.part == "targets" else described() | PARTS[given.part](given.tiny)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    file = given.out / f"gpu_{given.part}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(file)
    failed = given.part == "check" and any(g["error"] for g in result["gate"].values())
    return 1 if failed or ((result.get("tests") or {}).get("code") or 0) else 0


if __name__ == "__main__":
    sys.exit(main())
