"""Options that exist because other libraries do otherwise, against plain sums over the pixels."""

import math

import numpy as np
import pytest
import torch

from evenseg import losses as L
from oracles import segmentation as oracle

W = [1.0, 2.0, 0.5, 3.0]


@pytest.fixture
def batch():
    """Three images of four classes; the last image is wholly ignored, class 3 is in the second image only."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    target = torch.randint(0, 3, (3, 5, 6))
    target[1, 0] = 3
    target[0, 1] = 255
    target[2] = 255
    return logits, target


def flat(logits, target):
    return logits.flatten(2).numpy(), target.flatten(1).numpy()


def same(value, expected):
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("divisor", "divide_by"), [("valid", 54), ("pixels", 90), ("entries", 360)])
@pytest.mark.parametrize("weight", [None, W])
def test_divisor_of_cross_entropy(batch, divisor, divide_by, weight):
    z, y = flat(*batch)
    total = 0.0
    logp = oracle.log_softmax(z)
    for n in range(3):
        for i in range(30):
            if y[n, i] != 255:
                total -= (1 if weight is None else weight[y[n, i]]) * logp[n, y[n, i], i]
    same(L.CrossEntropyLoss(divisor=divisor, weight=weight)(*batch), total / divide_by)
    mean = L.CrossEntropyLoss(weight=weight, reduction="sum")(*batch)
    same(mean, total)


def test_divisor_of_one_vs_rest_focal(batch):
    mean = L.FocalLoss(activation="sigmoid")(*batch).item()
    assert oracle.focal(*flat(*batch), act="sigmoid") == pytest.approx(mean, rel=1e-12)
    same(L.FocalLoss(activation="sigmoid", divisor="valid")(*batch), 4 * mean)
    same(L.FocalLoss(activation="sigmoid", divisor="entries")(*batch), mean * 54 / 90)


def test_divisor_is_the_same_in_a_mix_image_by_image_and_in_both_engines(batch):
    logits, target = batch[0].float(), batch[1]
    for per_image in (False, True):
        loss = L.CrossEntropyLoss(divisor="pixels", per_image=per_image)
        alone = loss(logits, target).item()
        mixed = L.MixedLoss([loss, L.DiceLoss(per_image=True)], [1.0, 0.0])(logits, target)
        assert mixed.item() == pytest.approx(alone, rel=1e-6)
        eager = L.CrossEntropyLoss(divisor="pixels", per_image=per_image, engine="eager")(logits, target)
        assert eager.item() == pytest.approx(alone, rel=1e-6)


def test_divisor_of_nothing_valid_is_zero_with_a_graph(batch):
    logits = batch[0].requires_grad_()
    value = L.CrossEntropyLoss(divisor="entries")(logits, torch.full_like(batch[1], 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("cost", [0.0, 1.0])
@pytest.mark.parametrize("make", [L.DiceLoss, L.CrossEntropyLoss, L.LovaszSoftmaxLoss, L.OhemCrossEntropyLoss])
def test_an_ignored_image_costs_what_one_says(batch, make, cost):
    left_out = make(per_image=True)(*batch).item()
    counted = make(per_image=True, empty_image=cost)(*batch)
    same(counted, (2 * left_out + cost) / 3)
    assert torch.isfinite(counted)


def test_foreground_is_every_class_but_the_first(batch):
    same(L.DiceLoss(classes="foreground")(*batch), L.DiceLoss(classes=[1, 2, 3])(*batch).item())
    same(L.LovaszSoftmaxLoss(classes="foreground", method="sort")(*batch), oracle.lovasz(*flat(*batch), classes=[1, 2, 3]))
    binary = batch[0][:, :1], (batch[1] == 1).long()
    same(L.DiceLoss(mode="binary", classes="foreground")(*binary), L.DiceLoss(mode="binary", classes="all")(*binary).item())


@pytest.mark.parametrize("make", [L.TverskyLoss, L.DiceLoss, L.JaccardLoss])
def test_overlap_by_product(batch, make):
    p = batch[0].softmax(1)
    soft = torch.rand(p.shape, dtype=torch.float64).softmax(1)
    loss = make(overlap="product", classes="all")
    tp, sp, sy = (x.sum((0, 2, 3)) for x in (p * soft, p, soft))
    expected = 1 - tp / (tp + loss.alpha * (sp - tp) + loss.beta * (sy - tp))
    same(loss(batch[0], soft), expected.mean().item())
    assert make(classes="all")(batch[0], soft) < loss(batch[0], soft)
    same(make(overlap="product")(*batch), make()(*batch).item())


@pytest.mark.parametrize("weight", [None, W])
def test_images_first_averages_every_class_over_its_images(batch, weight):
    logits, target = batch
    z, y = flat(*batch)
    by_class = {c: [oracle.jaccard(z[n : n + 1], y[n : n + 1], classes=[c]) for n in range(3) if (y[n] == c).any()] for c in range(4)}
    assert [len(v) for v in by_class.values()] == [2, 2, 2, 1]
    means = [sum(v) / len(v) for v in by_class.values()]
    w = weight or [1.0] * 4
    expected = np.dot(w, means) / sum(w)
    images_first = {"per_image": True, "mean_order": "images_first", "weight": weight}
    same(L.JaccardLoss(**images_first)(logits, target), expected)
    mixed = L.MixedLoss([L.JaccardLoss(**images_first), L.CrossEntropyLoss()], [1.0, 0.0])
    same(mixed(logits, target), expected)
    assert L.JaccardLoss(per_image=True, weight=weight)(logits, target).item() != pytest.approx(expected, rel=1e-3)


def test_images_first_of_nothing_valid_is_zero(batch):
    loss = L.DiceLoss(per_image=True, mean_order="images_first")
    assert loss(batch[0], torch.full_like(batch[1], 255)) == 0


def test_alpha_of_the_background_is_the_complement(batch):
    listed = L.FocalLoss(alpha=[0.75, 0.25, 0.25, 0.25])(*batch).item()
    same(L.FocalLoss(alpha=0.25, alpha_complement=True)(*batch), listed)


@pytest.mark.parametrize("min_kept", [0, 1, 20, 54, 1000])
@pytest.mark.parametrize("thresh", [0.05, 0.6])
def test_ohem_of_paddleseg(batch, thresh, min_kept):
    z, y = flat(*batch)
    nll = [-oracle.log_softmax(z)[n, y[n, i], i] for n in range(3) for i in range(30) if y[n, i] != 255]
    nll.sort(reverse=True)
    kept = nll
    if 0 < min_kept < len(nll):
        limit = max(thresh, math.exp(-nll[min_kept - 1]))
        kept = [x for x in nll if math.exp(-x) < limit * (1 - 1e-12)] or nll[:1]  # theirs averages nothing for min_kept=1
    loss = L.OhemCrossEntropyLoss(thresh=thresh, min_kept=min_kept, selection="paddleseg")
    assert loss(*batch).item() == pytest.approx(sum(kept) / (len(kept) + 1e-5 * 90), rel=1e-9)


REFUSED = {
    "divisor": (lambda: L.CrossEntropyLoss(divisor="all"), "divisor must be one of 'weights', 'valid', 'pixels', 'entries', got 'all'"),
    "empty image of a batch": (lambda: L.DiceLoss(empty_image=0.0), "empty_image is what an image costs .* needs per_image=True"),
    "empty image": (lambda: L.DiceLoss(per_image=True, empty_image="one"), "empty_image must be a finite number, got 'one'"),
    "order": (lambda: L.DiceLoss(mean_order="images_first"), "mean_order='images_first' .* needs per_image=True"),
    "order of one ratio": (
        lambda: L.GeneralizedDiceLoss(per_image=True, mean_order="images_first"),
        "GeneralizedDiceLoss has no mean over classes: mean_order does not apply",
    ),
    "foreground pixels": (
        lambda: L.CrossEntropyLoss(classes="foreground"),
        "CrossEntropyLoss is a mean over pixels: classes='foreground' does not apply",
    ),
    "complement of nothing": (lambda: L.FocalLoss(alpha_complement=True), "alpha_complement needs the softmax form and a single"),
    "complement of much": (lambda: L.FocalLoss(alpha=2.0, alpha_complement=True), r"alpha must lie in \[0, 1\] with alpha_compl"),
    "overlap": (lambda: L.DiceLoss(overlap="sum"), "overlap must be one of 'min', 'product', got 'sum'"),
    "misspelt": (lambda: L.JaccardLoss(mean_ordre="x"), "JaccardLoss has no keyword 'mean_ordre'; did you mean 'mean_order'"),
    "misspelt divisor": (lambda: L.FocalLoss(divizor="x"), "FocalLoss has no keyword 'divizor'; did you mean 'divisor'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    build, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        build()
