"""How often the pixels are read, and what for."""

import pytest
import torch
from cases import Case, batch, close
from torch.utils._python_dispatch import TorchDispatchMode

from evenseg import losses as L
from evenseg.losses import base, mixed
from evenseg.statistics import Members

SHAPE = Case("CrossEntropyLoss", oracle=None)
BINARY = Case("BinaryCrossEntropyLoss", oracle=None, channels=1)
PAIR = Case("CrossEntropyLoss", oracle=None, channels=2)


@pytest.fixture
def calls(monkeypatch):
    """Every pass: (activation, members), and every run of a CPU operator, forward and backward."""
    seen = {"passes": [], "forward": 0, "backward": 0}
    original = mixed.segment_statistics

    def counted(logits, target, members, **options):
        seen["passes"].append((options["activation"], members))
        return original(logits, target, members, **options)

    monkeypatch.setattr(mixed, "segment_statistics", counted)
    monkeypatch.setattr(base, "segment_statistics", counted)

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.name()
            if name.startswith("evenseg::") and "sums" in name:
                seen["backward" if "backward" in name else "forward"] += 1
            return func(*args, **(kwargs or {}))

    with Operators():
        yield seen


MIXES = {
    "BCE + Dice": (BINARY, ["BinaryCrossEntropyLoss", {"type": "DiceLoss", "mode": "binary"}]),
    "focal + Dice": (SHAPE, ["FocalLoss", "DiceLoss"]),
    "sigmoid focal + Dice": (BINARY, [{"type": "FocalLoss", "mode": "binary"}, {"type": "DiceLoss", "mode": "binary"}]),
    "OHEM + Lovász": (SHAPE, ["OhemCrossEntropyLoss", "LovaszSoftmaxLoss"]),
    "CE + Lovász": (SHAPE, ["CrossEntropyLoss", "LovaszSoftmaxLoss"]),
    "CE + Lovász hinge": (PAIR, ["CrossEntropyLoss", "LovaszHingeLoss"]),
    "BCE + Lovász hinge": (BINARY, ["LovaszHingeLoss", "BinaryCrossEntropyLoss"]),
    "everything at once": (
        SHAPE,
        [
            "CrossEntropyLoss", "FocalLoss", "OhemCrossEntropyLoss", "RecallLoss", "DiceLoss", "JaccardLoss", "MCCLoss",
            "GeneralizedDiceLoss", "ExponentialLogarithmicLoss", "LovaszSoftmaxLoss",
            {"type": "DiceLoss", "squared": True, "per_image": True},
        ],
    ),
    "two channels, everything binary": (
        PAIR,
        [
            "CrossEntropyLoss", {"type": "FocalLoss", "gamma": 1.5}, "OhemCrossEntropyLoss", "RecallLoss",
            {"type": "DiceLoss", "squared": True}, "JaccardLoss", "MCCLoss", "BinaryCrossEntropyLoss", "LovaszHingeLoss",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_is_one_pass(name, calls):
    case, parts = MIXES[name]
    parts = [part if isinstance(part, dict) else {"type": part} for part in parts]
    b = batch(case, spatial=(8, 8)).to(torch.float32)
    loss = L.MixedLoss(parts, [1.0] * len(parts))
    z = b.z.requires_grad_()
    value = loss(z, b.y)
    value.backward()
    assert len(calls["passes"]) == 1
    assert (calls["forward"], calls["backward"]) == (1, 1)
    expected = sum(part(b.z, b.y) for part in loss.losses)
    assert close(value, expected, 1e-5)
    if "hinge" in name or "binary" in name:
        assert calls["passes"][0][0] == "hinge"


APART = {
    "other ignored labels": [{"type": "CrossEntropyLoss", "ignore_index": 0}, {"type": "DiceLoss"}],
    "other engines": [{"type": "CrossEntropyLoss", "engine": "eager"}, {"type": "DiceLoss"}],
    "two sizes of histogram": [{"type": "LovaszSoftmaxLoss", "num_bins": 1024}, {"type": "LovaszSoftmaxLoss"}],
    "softmax and sigmoid": [{"type": "CrossEntropyLoss"}, {"type": "BinaryCrossEntropyLoss", "mode": "multiclass"}],
}


@pytest.mark.parametrize("name", APART)
def test_what_cannot_share_a_pass_does_not(name, calls):
    b = batch(SHAPE, ignored=0.0).to(torch.float32)
    loss = L.MixedLoss(APART[name], [1.0, 0.5])
    value = loss(b.z, b.y)
    assert len(calls["passes"]) == 2
    assert close(value, loss.losses[0](b.z, b.y) + 0.5 * loss.losses[1](b.z, b.y), 1e-6)


def test_sigmoid_and_hinge_histograms_are_two_passes(calls):
    b = batch(BINARY).to(torch.float32)
    loss = L.MixedLoss([L.LovaszSoftmaxLoss(mode="binary"), L.LovaszHingeLoss(), L.BinaryCrossEntropyLoss()], [1.0, 1.0, 1.0])
    value = loss(b.z, b.y)
    assert len(calls["passes"]) == 2
    assert close(value, sum(part(b.z, b.y) for part in loss.losses), 1e-6)


@pytest.mark.parametrize(
    ("loss", "members"),
    [
        (L.CrossEntropyLoss(), Members(nll=True)),
        (L.CrossEntropyLoss(label_smoothing=0.1), Members(nll=True, nll_all=True)),
        (L.DiceLoss(), Members(prob=True, overlap=True)),
        (L.LovaszSoftmaxLoss(), Members(errors=True, ranks=True)),
        (L.MixedLoss([L.FocalLoss(gamma=1.5), L.FocalLoss(), L.DiceLoss()], [1.0, 1.0, 1.0]),
         Members(focal=(1.5, 2.0), prob=True, overlap=True)),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_a_loss_asks_for_no_more_than_it_needs(loss, members, calls):
    b = batch(SHAPE).to(torch.float32)
    loss(b.z, b.y)
    assert [m for _, m in calls["passes"]] == [members]
