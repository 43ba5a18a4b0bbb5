"""Auto Seg-Loss: its curves, its published numbers, what it has in common with other losses, and mistakes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from golden_cases import REPO
from test_golden_papers import PAPERS, needs_shared

from evenseg.losses import AutoSegLoss, JaccardLoss, maps
from evenseg.losses.auto_seg import METRICS
from evenseg.losses.curves import MIN_GAP, bend, decode, encode, identity_numbers, read_curves
from oracles.auto_seg import curve as oracle_curve

# values of the authors' code in float64
AUTHORS = {
    ("mIoU", "published"): 0.563374525,
    ("mIoU", "identity"): 0.814774729,
    ("FWIoU", "published"): 0.602774037,
    ("mAcc", "published"): 0.392928553,
    ("gAcc", "published"): 0.493469814,
    ("BIoU", "published"): 0.604277051,
    ("BF1", "published"): 0.1205268,
    ("BF1", "identity"): 0.125593142,
}


@pytest.mark.parametrize(("metric", "parameters"), AUTHORS)
def test_values_of_the_authors(metric, parameters):
    with np.load(REPO / "tests" / "golden" / "papers.npz") as z:
        logits, labels = (z[name] for name in ("recall_class__random_noignore|logits", "ref_explog__random|labels"))
        # the small file names an equal array instead of repeating it
        logits, labels = (z[str(x)] if x.dtype.kind == "U" else x for x in (logits, labels))
    loss = AutoSegLoss(metric=metric, parameters=parameters, edges_in_ignored=True)
    value = loss(torch.from_numpy(logits).double(), torch.from_numpy(labels)).item()
    assert value == pytest.approx(AUTHORS[metric, parameters], abs=2e-9)


@needs_shared
def test_published_curves():
    with np.load(PAPERS / "asl_bezier_curves.npz") as z:
        names = [name for name in z.files if "_theta" in name]
        assert len(names) == 15
        for name in names:
            (curve,) = read_curves(name, z[name].tolist(), 1)
            y = z[name.replace("theta", "y")]
            assert np.abs(bend(torch.from_numpy(z["x"]).double(), curve).numpy() - y).max() < 2e-15
            assert np.abs(bend(torch.from_numpy(z["x"]).float(), curve).numpy() - y).max() < 5e-7


def test_the_numbers_shipped_are_curves():
    for metric in METRICS.values():
        assert len(metric.read("published")) == len(metric.read("identity")) == metric.curves
        assert len(metric.read("identity")[0]) == metric.pieces


def rows(numbers):
    return list(zip(numbers[::2], numbers[1::2]))


THREE_PIECES = [0.1, 0.1, 0.2, 0.2, 0.3, 0.9, 0.5, 0.9, 0.9, 1.0]


@pytest.mark.parametrize("numbers", [[0.2, 0.9], [0.02, 0.3, 0.4, 0.35, 0.41, 0.99], THREE_PIECES])
def test_curve_and_slope(numbers):
    (curve,) = read_curves("c", numbers, 1)
    x = torch.linspace(0, 1, 403, dtype=torch.float64)[1:-1].requires_grad_()
    y = bend(x, curve)
    assert np.abs(y.detach().numpy() - oracle_curve(rows(numbers), x.detach().numpy())).max() < 1e-14
    (slope,) = torch.autograd.grad(y.sum(), x)
    inner = torch.tensor([p.x0 for p in curve[1:]])
    smooth = ((x[:, None] - inner).abs() > 1e-5).all(1)  # a knot has two slopes
    step = 1e-7
    up, down = (oracle_curve(rows(numbers), x.detach().numpy() + d) for d in (step, -step))
    by_difference = (up - down) / (2 * step)
    assert np.allclose(slope[smooth].numpy(), by_difference[smooth.numpy()], rtol=1e-5, atol=1e-6)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float32, requires_grad=True)
    assert bend(ends, curve).tolist() == pytest.approx([0, 1], abs=1e-7)
    assert torch.autograd.grad(bend(ends, curve).sum(), ends)[0].isfinite().all()


@pytest.mark.parametrize("off", [0, 1e-8, 3e-7, 1e-5, -1e-4, 1e-3])
def test_precise_where_the_textbook_solution_is_not(off):
    """The search starts at the identity, where (a - sqrt(a² + (1 - 2a) s)) / (2a - 1) is 0/0."""
    x = torch.linspace(0, 1, 1001)
    for numbers in ([0.5 + off, 0.5], [0.3333, 0.3333, 2 / 3, 2 / 3, 0.8333, 0.8333 + off]):
        (curve,) = read_curves("c", numbers, 1)
        assert np.abs(bend(x, curve).numpy() - oracle_curve(rows(numbers), x.double().numpy())).max() < 3e-7


def test_gradients_are_finite_at_the_steepest_curves():
    steep = [MIN_GAP, 1.0, 0.5, 1.0, 1 - MIN_GAP, 1.0]
    flat = [MIN_GAP, 0.0, 0.5, 0.0, 1 - MIN_GAP, 0.0]
    z = torch.tensor([[[30.0, -30.0, 0.0]], [[90.0, -1e4, 1e4]]]).repeat(1, 2, 1)
    z[:, 1] *= -1
    z.requires_grad_()
    loss = AutoSegLoss(metric=["mIoU", "mAcc"], parameters={"mIoU": steep + flat, "mAcc": flat})
    loss(z, torch.tensor([[0, 1, 1], [1, 1, 0]])).backward()
    assert z.grad.isfinite().all()


def test_every_share_is_a_curve():
    generator = torch.manual_seed(0)
    for pieces in (1, 2, 3):
        for spread in (0.01, 1.0, 50.0):
            shares = torch.rand(2 * (4 * pieces - 2), generator=generator).sub(0.5).mul(spread).add(0.5).clamp(0, 1).tolist()
            assert len(read_curves("c", decode(shares, 2), 2)[1]) == pieces
    shares = [0.3, 0.1, 0.5, 0.9, 0.2, 0.0]
    assert encode(decode(shares, 1), 1) == pytest.approx(shares)
    identity = identity_numbers(4, 2)
    assert decode(encode(identity, 4), 4) == pytest.approx(identity)


def batch(classes=4, size=(9, 11), seed=0):
    g = torch.manual_seed(seed)
    z, y = torch.randn(2, classes, *size, generator=g), torch.randint(0, classes, (2, *size), generator=g)
    return z, torch.where(torch.rand(y.shape, generator=g) < 0.1, 255, y)


def test_identity_is_the_jaccard_loss():
    z, y = batch()
    assert AutoSegLoss(parameters="identity")(z, y).item() == pytest.approx(JaccardLoss(classes="all")(z, y).item(), abs=1e-6)


@pytest.mark.parametrize("parameters", ["published", "identity", [0.1, 0.6, 0.9, 0.2]])
def test_hard_predictions_have_the_metric_itself(parameters):
    z, y = batch()
    predicted, valid = z.argmax(1), y != 255
    iou = [((predicted == c) & (y == c)).sum() / (((predicted == c) | (y == c)) & valid).sum() for c in range(4)]
    hard = torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1) * 2e3 - 1e3
    assert AutoSegLoss(parameters=parameters)(hard, y).item() == pytest.approx(1 - sum(iou).item() / 4, abs=1e-6)
    accuracy = ((predicted == y) & valid).sum() / valid.sum()
    assert AutoSegLoss(metric="gAcc")(hard, y).item() == pytest.approx(1 - accuracy.item(), abs=1e-6)


def test_binary_is_two_classes():
    z, y = batch(2)
    for metric in METRICS:
        pair = AutoSegLoss(metric=metric, tolerance=2)(z, y)
        single = AutoSegLoss(metric=metric, tolerance=2, mode="binary")(z[:, 1] - z[:, 0], y)
        assert single.item() == pytest.approx(pair.item(), abs=1e-6)


def test_terms_of_a_sum():
    z, y = batch()
    loss = AutoSegLoss(metric={"mIoU": 2, "BF1": 1})
    value = loss(z, y)
    assert set(loss.terms) == {"mIoU", "BF1"}
    assert value.item() == pytest.approx((2 * loss.terms["mIoU"] + loss.terms["BF1"]).item())


@pytest.mark.parametrize("metric", ["BIoU", "BF1"])
def test_no_edge_costs_nothing(metric):
    z = batch()[0].requires_grad_()
    value = AutoSegLoss(metric=metric)(z, torch.full((2, 9, 11), 2))
    value.backward()
    assert value.item() == 0
    assert not z.grad.any()


def test_sums_of_the_global_batch(monkeypatch):
    """Each of two ranks has one image; the second adds what the first found."""
    z, y = batch()
    metric = list(METRICS)
    first = []
    monkeypatch.setattr(maps, "sums_over_ranks", lambda *sums: first.append(sums) or sums)
    AutoSegLoss(metric=metric, tolerance=1, sync=True)(z[:1], y[:1])
    assert len(first) == len(metric)
    monkeypatch.setattr(maps, "sums_over_ranks", lambda *sums: [a + b for a, b in zip(sums, first.pop(0))])
    value = AutoSegLoss(metric=metric, tolerance=1, sync=True)(z[1:], y[1:])
    assert value.item() == pytest.approx(AutoSegLoss(metric=metric, tolerance=1)(z, y).item(), abs=1e-6)


def test_volumes_and_signals():
    for size in ((30,), (5, 6, 7)):
        z, y = batch(3, size)
        z.requires_grad_()
        AutoSegLoss(metric=list(METRICS), tolerance=1)(z, y).backward()
        assert z.grad.isfinite().all()


def test_ignored_pixels_count_as_in_the_authors_code_if_asked_to():
    z, y = batch()
    changed = torch.where((y == 255)[:, None], -z, z)
    for asked in (False, True):
        loss = AutoSegLoss(metric="BF1", edges_in_ignored=asked, tolerance=1)
        assert torch.equal(loss(z, y), loss(changed, y)) != asked


def test_little_is_kept_for_the_way_back():
    z, y = batch(8, (32, 32))
    z.requires_grad_()
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        AutoSegLoss()(z, y)
    # the probabilities, the mask of logits, and maps of one channel
    assert sum(kept.values()) < 3.5 * z.numel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "miou"}, "metric: unknown name 'miou'; did you mean 'mIoU'?"),
        ({"metric": []}, "metric is empty; allowed: mIoU, "),
        ({"metric": ["mIoU", "mIoU"]}, "metric must be a name, a list of different ones or"),
        ({"metric": {"mIoU": 0}}, "metric: the weight of mIoU must lie in (0, inf]"),
        ({"parameters": "publisched"}, "parameters of mIoU must be 'published', 'identity' or a list of numbers, got 'publisched'"),
        ({"parameters": [0.5] * 5}, "parameters of mIoU needs 4, 12, 20, ... numbers (2 curves of 1, 2, 3, ... pieces), got 5"),
        ({"metric": "mAcc", "parameters": [0.5, 1.5]}, "parameters of mAcc: entry 1 must lie in [0, 1], got 1.5"),
        ({"metric": "mAcc", "parameters": [0.0, 0.5]}, "parameters of mAcc: curve 1: x must rise by at least 0.0001"),
        ({"metric": "mAcc", "parameters": [0.1, 0.5, 0.2, 0.4, 0.3, 0.6]}, "curve 1: y must not fall, got [0.5, 0.4, 0.6]"),
        ({"metric": ["mIoU", "mAcc"], "parameters": [0.5, 0.5]}, "parameters of several metrics are a mapping, {mIoU: [...], mAcc: [...]}"),
        ({"parameters": {"mAcc": "identity"}}, "parameters: 'mAcc' is no metric of this loss"),
        ({"tolerance": 0}, "tolerance must be a number of pixels, at least 1, got 0"),
        ({"mode": "multilabel"}, "mode must be one of 'multiclass', 'binary', got 'multilabel'"),
    ],
)  # fmt: skip
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        AutoSegLoss(**options)
