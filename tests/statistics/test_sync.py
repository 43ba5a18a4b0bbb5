"""sync=True under data parallelism is one process on the joined batch: value and parameter gradients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks
import torch

from evenseg.losses import LOSSES


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """{name: (loss, gradients)} of each of two ranks, from one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(Path(ranks.__file__))]
    arguments = ["2", str(folder / "store"), str(folder / "out")]
    processes = [
        subprocess.Popen([*command, str(r), *arguments], env=environment, stderr=subprocess.PIPE, text=True) for r in range(2)
    ]
    try:
        errors = [p.communicate(timeout=400)[1] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"out.{r}", weights_only=True) for r in range(2)]


def expected(name):
    x, y = ranks.data()
    if name == "Lovasz absent twice":  # both ranks hold the largest error of the absent class
        x, y, name = torch.cat([x[2:], x[2:]]), torch.cat([y[2:], y[2:]]), "Lovasz absent"
    name, _, case = name.partition(" rank without") if "rank without" in name else name.partition(" without")
    if case:
        y = y.clone()
        y[: 2 if "rank" in _ else 4] = 255
    # sync=True in one process is the joined batch, with the histogram's weights for all: across ranks nobody knows the order
    # inside a bin, so exact ranks are left out of both sides
    return ranks.result(name, ranks.losses(True)[name], ranks.network(), x, y)


# one with a sister of the same sums here
NOT_HERE = {"BinaryCrossEntropyLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss", "LogCoshDiceLoss"}
NAMES = [*ranks.losses(False), *(f"{n}{s} without pixels" for n in ("CE", "Lovasz") for s in ("", " rank")), "Lovasz absent twice"]


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_are_one_process(two_ranks, name):
    value, gradients = expected(name)
    for rank in two_ranks:
        got, got_gradients = rank[name]
        torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-12)
        a, b = torch.cat([g.flatten() for g in got_gradients]), torch.cat([g.flatten() for g in gradients])
        assert (a - b).norm() <= 1e-8 * b.norm()
    assert gradients[0].any() or " without" in name


def test_without_sync_the_ranks_differ(two_ranks):
    """The data are such that a mean of the ranks' own losses is something else; else the test above shows nothing."""
    x, y = ranks.data()
    for name in ("CE", "Lovasz", "Dice", "GDL", "OHEM"):
        loss = ranks.losses(False)[name]
        halves = [ranks.result(name, loss, ranks.network(), x[s], y[s])[0] for s in (slice(0, 2), slice(2, 4))]
        assert abs(sum(halves) / 2 - two_ranks[0][name][0]) > 1e-3


@pytest.mark.parametrize("name", ranks.map_losses({}))
def test_every_loss_on_maps_needs_sync(two_ranks, name):
    """None of them is the mean of the ranks' own losses, but for the unnormalised energy, which is a plain mean over images."""
    x, y = ranks.data()
    loss = ranks.losses(False)[name]
    halves = [ranks.result(name, loss, ranks.network(), x[s], y[s])[0] for s in (slice(0, 2), slice(2, 4))]
    difference = abs(sum(halves) / 2 - two_ranks[0][name][0])
    assert difference < 1e-12 if name == "CRF sum" else difference > 1e-6


def test_every_loss_of_the_table_is_here():
    losses = ranks.losses(True).values()
    kinds = {type(part).__name__ for loss in losses for part in loss.modules()}
    assert kinds >= {name for name in LOSSES if name not in NOT_HERE}


def test_sync_is_a_yes_or_no():
    for name in ("RMILoss", "DenseCRFLoss", "HausdorffLoss"):
        with pytest.raises(ValueError, match="sync must be true or false, got 1"):
            LOSSES[name](sync=1)
