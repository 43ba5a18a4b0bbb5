"""Losses that remember the statistics of earlier batches."""

import pytest
import torch
from cases import Case, batch, close, relative

from evenseg import losses as L

SHAPE = Case("CrossEntropyLoss", oracle=None)
LOSSES = [
    "CrossEntropyLoss", "FocalLoss", "RecallLoss", "DiceLoss", "JaccardLoss", "GeneralizedDiceLoss", "MCCLoss",
    "ExponentialLogarithmicLoss", "LovaszSoftmaxLoss", "LogCoshDiceLoss",
]  # fmt: skip


def three_batches():
    """Three batches of different images, with different numbers of valid pixels."""
    out = [batch(SHAPE, seed=s, ignored=share) for s, share in enumerate((0.1, 0.4, 0.2))]
    return [(b.z, b.y) for b in out], (torch.cat([b.z for b in out]), torch.cat([b.y for b in out]))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("engine", ["eager", "numba"])
def test_accumulating_gives_the_loss_of_the_union(name, engine):
    parts, (z_all, y_all) = three_batches()
    remembering, plain = L.LOSSES[name](memory="accumulate", engine=engine), L.LOSSES[name](engine=engine)
    for z, y in parts[:-1]:
        remembering(z, y)
    z = parts[-1][0].clone().requires_grad_()
    value = remembering(z, parts[-1][1])
    whole = z_all.clone().requires_grad_()
    expected = plain(whole, y_all)
    assert close(value, expected, 1e-9)
    (gradient,), (full,) = torch.autograd.grad(value, z), torch.autograd.grad(expected, whole)
    assert relative(gradient, full[-len(z) :]) < 1e-6  # the last micro-batch has exactly its share of the gradient
    remembering.memory.reset()
    assert close(remembering(*parts[0]), plain(*parts[0]), 1e-12)


def test_decay_is_its_formula():
    """S = S_t + d S_{t-1} + d² S_{t-2}; the gradient of S_t is scaled by the ratio of the valid pixels."""
    parts, _ = three_batches()
    d = 0.5
    loss = L.DiceLoss(memory=d)
    for z, y in parts[:-1]:
        loss(z, y)
    z, y = parts[-1]
    z = z.clone().requires_grad_()
    value = loss(z, y)

    def sums(z, y):
        valid = (y != 255)[:, None]
        p = z.softmax(1) * valid
        t = torch.nn.functional.one_hot(y.where(y != 255, 0), 4).movedim(-1, 1) * valid
        return [x.sum((0, 2, 3)) for x in (p * t, p, t.double(), valid.double())]

    every = [sums(*part) for part in parts[:-1]] + [sums(z, y)]
    tp, p, n, valid = (every[2][i] + d * every[1][i].detach() + d * d * every[0][i].detach() for i in range(4))
    expected = (1 - 2 * tp / (p + n)).mean()
    assert close(value, expected, 1e-12)
    (gradient,), (raw,) = torch.autograd.grad(value, z), torch.autograd.grad(expected, z)
    assert relative(gradient, raw * valid / every[2][3]) < 1e-12


def test_memory_counts_exactly():
    """Counts beyond 2^24, where float32 stops counting."""
    memory = L.CrossEntropyLoss(memory="accumulate")
    z, y = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    memory(z, y)
    memory.memory.valid.fill_(2**24 + 1)
    memory.memory.labels.copy_(torch.tensor([[2**24 + 1, 0]]))
    memory.memory.pixels.fill_(2**24 + 1)
    memory(z, y)
    assert memory.memory.labels.tolist() == [[2**24 + 17, 0]]
    decaying = L.CrossEntropyLoss(memory=0.5)
    for _ in range(2):
        decaying(z, y)
    assert decaying.memory.labels.tolist() == [[24.0, 0.0]]
    assert decaying.memory.labels.dtype == torch.float64


@pytest.mark.parametrize("keep", ["accumulate", 0.9])
def test_memory_lies_in_the_state_dict(keep):
    parts, _ = three_batches()
    loss = L.MixedLoss([L.CrossEntropyLoss(memory=keep), L.LovaszSoftmaxLoss(memory=keep)], [1.0, 0.5])
    for z, y in parts[:2]:
        loss(z, y)
    state = {k: v.clone() for k, v in loss.state_dict().items()}
    assert state
    fresh = L.MixedLoss([L.CrossEntropyLoss(memory=keep), L.LovaszSoftmaxLoss(memory=keep)], [1.0, 0.5])
    assert not fresh.state_dict()
    fresh.load_state_dict(state)
    assert torch.equal(fresh(*parts[2]), loss(*parts[2]))
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, loss.state_dict()[name])
        assert tensor.dtype == loss.state_dict()[name].dtype
        assert not tensor.requires_grad
    moved = L.CrossEntropyLoss(memory=keep)
    moved(*parts[0])
    assert next(iter(moved.to("meta").state_dict().values())).device.type == "meta"


def test_evaluation_neither_reads_nor_writes_the_memory():
    parts, _ = three_batches()
    loss = L.DiceLoss(memory=0.9)
    loss(*parts[0])
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss.eval()
    assert close(loss(*parts[1]), L.DiceLoss()(*parts[1]), 1e-12)
    assert all(torch.equal(v, before[k]) for k, v in loss.state_dict().items())
    loss.train()
    assert not close(loss(*parts[1]), L.DiceLoss()(*parts[1]), 1e-6)


def test_a_batch_of_ignored_pixels_keeps_the_memory():
    parts, _ = three_batches()
    loss = L.DiceLoss(memory=0.9)
    first = loss(*parts[0])
    z = parts[1][0].clone().requires_grad_()
    value = loss(z, torch.full_like(parts[1][1], 255))
    value.backward()
    assert close(value, first, 1e-12)
    assert not z.grad.any()


def test_memory_says_when_the_loss_has_changed():
    parts, _ = three_batches()
    loss = L.LovaszSoftmaxLoss(memory=0.9)
    loss(*parts[0])
    with pytest.raises(ValueError, match=r"other statistics than the loss now asks for \(pixels\); call reset\(\)"):
        loss(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


def test_losses_without_state_have_an_empty_state_dict():
    for name, cls in L.LOSSES.items():
        if name not in ("MixedLoss", "SemanticEdgeAwareLoss"):  # the latter holds a network
            assert not cls().state_dict(), name
    weighted = L.CrossEntropyLoss(weight=[1.0, 2.0])
    weighted.load_state_dict(weighted.state_dict())
    assert weighted.double().weight.dtype == torch.float64
