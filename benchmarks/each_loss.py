"""`python -m benchmarks.each_loss` times every loss of LOSSES beside cross-entropy and writes docs/losses.md.

Forward + backward with default options, float32, at two shapes, in turns with F.cross_entropy on the same logits; then the
peak memory. `--page` only writes the page again, from the newest committed measurement.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine, memory, peers
from benchmarks.losses_page import chart, render
from benchmarks.machine import ROOT
from benchmarks.registry import baseline, mix_of
from evenseg.bench.inputs import IGNORE, Batch, make_batch
from evenseg.bench.timing import spread, timed

SHAPES = ((2, 19, 512, 1024), (4, 2, 512, 512))
RESULT = ROOT / "benchmarks" / "each_loss.json"
PAGE = ROOT / "docs" / "losses.md"
ROUNDS, SECONDS, FEWEST = 7, 4.0, 3  # a slow loss gets as many rounds as fit into the seconds


def build(name: str, shape: tuple[int, ...]) -> nn.Module:
    """The loss as a user of that many classes would take it, with default options."""
    from evenseg.losses import LOSSES

    if name == "MixedLoss":
        return mix_of(binary=False)
    cls = LOSSES[name]
    if name == "SemanticEdgeAwareLoss":
        from evenseg.losses.edge_network import EdgeNetwork

        return cls(edges=EdgeNetwork(shape[1]))
    return cls()


def prepare(name: str, batch: Batch) -> Callable[[], Tensor]:
    """The forward pass of a loss on a batch."""
    loss = build(name, tuple(batch.logits.shape))
    generator = torch.Generator().manual_seed(1)
    N, _, H, W = batch.logits.shape
    every = {
        "image": torch.rand(N, 3, H, W, generator=generator),
        "features": torch.randn(N, 16, H // 8, W // 8, generator=generator),
    }
    context = {key: every[key] for key in getattr(loss, "requires", ())}
    return lambda: loss(batch.logits, batch.target, **context)


def smp(batch: Batch, name: str) -> Callable[[], Tensor]:
    """A loss of segmentation-models-pytorch."""
    kind = "binary" if batch.binary else "multiclass"
    loss = getattr(peers.load("smp"), name)(kind, ignore_index=IGNORE)
    return lambda: loss(batch.logits, batch.target)


def monai(batch: Batch, name: str) -> Callable[[], Tensor]:
    """A loss of MONAI; it knows no ignore index."""
    made = getattr(peers.load("monai"), name)
    if name == "SoftclDiceLoss":
        loss = made()
        onehot = torch.nn.functional.one_hot(batch.without_ignored(), batch.channels).movedim(-1, 1).float()
        return lambda: loss(onehot, batch.logits.softmax(1))
    loss = made(to_onehot_y=True, softmax=True)
    target = batch.without_ignored().unsqueeze(1)
    return lambda: loss(batch.logits, target)


# the same loss elsewhere; Hausdorff's distances are SciPy's there
PEERS: dict[str, tuple[Callable[[Batch, str], Callable[[], Tensor]], str]] = {
    "FocalLoss": (smp, "FocalLoss"), "DiceLoss": (smp, "DiceLoss"), "JaccardLoss": (smp, "JaccardLoss"),
    "TverskyLoss": (smp, "TverskyLoss"), "LovaszSoftmaxLoss": (smp, "LovaszLoss"), "LovaszHingeLoss": (smp, "LovaszLoss"),
    "GeneralizedDiceLoss": (monai, "GeneralizedDiceLoss"), "HausdorffLoss": (monai, "HausdorffDTLoss"),
    "ClDiceLoss": (monai, "SoftclDiceLoss"),
}  # fmt: skip
PEER_SECONDS = 8.0  # a call that takes longer is not repeated


def measure_peer(name: str, batch: Batch) -> dict[str, Any] | None:
    """Time of another library's loss beside cross-entropy, or why there is none; None where there is no such loss."""
    if name not in PEERS:
        return None
    provider, other = PEERS[name]
    row: dict[str, Any] = {"name": f"{peers.DISTRIBUTIONS[provider.__name__]} {other}", "ratio": None, "skipped": None}
    try:
        call = provider(batch, other)
        first, _ = timed(call, batch)
    except Exception as error:  # whatever another library raises is the row's reason
        return row | {"skipped": " ".join(f"{type(error).__name__}: {error}".split())[:160]}
    reference = baseline(batch)
    rounds = 1 if first > PEER_SECONDS else 3
    pairs = [(timed(reference, batch)[0], first if rounds == 1 else timed(call, batch)[0]) for _ in range(rounds)]
    return row | {"ratio": spread(b / a for a, b in pairs)}


def measure_one(name: str, batch: Batch) -> dict[str, Any]:
    """Time beside cross-entropy and extra peak memory of one loss at one shape."""
    row: dict[str, Any] = {
        "loss": name,
        "shape": list(batch.logits.shape),
        "ratio": None,
        "seconds": None,
        "extra_bytes": None,
        "skipped": None,
    }
    try:
        call = prepare(name, batch)
        first, _ = timed(call, batch)
    except (ValueError, RuntimeError) as error:
        return row | {"skipped": " ".join(str(error).split())[:200]}
    reference = baseline(batch)
    timed(reference, batch)
    if first < 1:
        first, _ = timed(call, batch)  # the first call compiles
    rounds = min(ROUNDS, max(FEWEST, int(SECONDS / first)))
    pairs = [(timed(reference, batch)[0], timed(call, batch)[0]) for _ in range(rounds)]
    row |= {"rounds": rounds, "ratio": spread(b / a for a, b in pairs), "seconds": spread(b for _, b in pairs)}
    row["baseline_seconds"] = spread(a for a, _ in pairs)
    if memory.supported() is None:
        extra = sorted(memory.extra_peaks(call, batch))
        of_baseline = sorted(memory.extra_peaks(reference, batch))
        row |= {"extra_bytes": extra[len(extra) // 2], "baseline_extra_bytes": of_baseline[len(of_baseline) // 2]}
    return row


def measure(shapes: tuple[tuple[int, ...], ...] = SHAPES) -> dict[str, Any]:
    """Every loss at every shape."""
    from evenseg.losses import LOSSES

    start, load = time.perf_counter(), machine.load_average()
    rows = []
    for shape in shapes:
        several, one = make_batch(shape, "untrained"), make_batch((shape[0], 1, *shape[2:]), "untrained")
        for name, loss in LOSSES.items():
            # binary losses take one logit; their baseline is torch's binary cross-entropy
            batch = one if getattr(loss, "default_mode", "multiclass") == "binary" else several
            rows.append(measure_one(name, batch))
            shown = rows[-1]["ratio"]
            print(shape, name, f"{shown['median']:.2f} x CE" if shown else rows[-1]["skipped"], flush=True)
            gc.collect(1)
    # the others at the end: the memory that they leave with the allocator would change what ours are measured against
    for row in rows:
        if row["loss"] in PEERS:
            row["peer"] = measure_peer(row["loss"], make_batch(tuple(row["shape"]), "untrained"))
            gc.collect(1)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "git": machine.commit(),
        "seconds": round(time.perf_counter() - start, 1), "machine": machine.describe_machine(), "versions": machine.versions(),
        "load_before": load, "load_after": machine.load_average(), "memory_method": memory.METHOD, "rows": rows,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.each_loss", description=__doc__)
    parser.add_argument("--page", action="store_true", help="write docs/losses.md from the last measurement")
    if not parser.parse_args(arguments).page:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(render(result), encoding="utf-8")
    PAGE.with_suffix(".svg").write_text(chart(result), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
