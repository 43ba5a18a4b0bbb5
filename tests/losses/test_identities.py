"""Losses that must equal each other, torch's own, or a number known by hand."""

import itertools

import pytest
import torch
from cases import CASES, Case, batch, close, evaluate, relative
from torch.nn import functional as F

from evenseg import losses as L

engines = pytest.mark.parametrize("engine", ["eager", "numba"])
SHAPE = Case("CrossEntropyLoss", oracle=None)
BINARY = Case("BinaryCrossEntropyLoss", oracle=None, channels=1)
PAIR = Case("CrossEntropyLoss", oracle=None, channels=2)


def assert_same(first, second, b, *, other=None, tolerance=1e-9):
    """Two losses agree in value and gradient on a batch (the second one perhaps on another form of it)."""
    value, gradient = evaluate(first, b.z, b.y)
    expected, expected_gradient = evaluate(second, *(other or (b.z, b.y)))
    assert close(value, expected, tolerance)
    if gradient.shape == expected_gradient.shape:
        assert relative(gradient, expected_gradient) < 10 * tolerance
    assert gradient.norm() > 0


REGION_OPTIONS = [
    {}, {"per_image": True, "classes": "all"}, {"squared": True}, {"average": "micro"}, {"weight": [1.0, 2.0, 3.0, 4.0]},
]  # fmt: skip


@pytest.mark.parametrize("options", REGION_OPTIONS, ids=str)
def test_tversky_holds_dice_and_jaccard(options):
    b = batch(SHAPE)
    assert_same(L.TverskyLoss(alpha=0.5, beta=0.5, **options), L.DiceLoss(**options), b)
    assert_same(L.TverskyLoss(alpha=1.0, beta=1.0, **options), L.JaccardLoss(**options), b)
    assert_same(L.FocalTverskyLoss(gamma=1.0, **options), L.TverskyLoss(**options), b)
    smoothed = {**options, "smooth_num": 0.5, "smooth_den": 1.0}
    doubled = {**options, "smooth_num": 1.0, "smooth_den": 2.0}
    assert_same(L.TverskyLoss(alpha=0.5, beta=0.5, **smoothed), L.DiceLoss(**doubled), b)


def test_jaccard_and_dice_of_one_class_are_functions_of_each_other():
    b = batch(SHAPE)
    dice, jaccard = L.DiceLoss(classes=[2])(b.z, b.y), L.JaccardLoss(classes=[2])(b.z, b.y)
    assert close(jaccard, 2 * dice / (1 + dice), 1e-12)


@engines
def test_focal_without_focus_is_cross_entropy(engine):
    b = batch(SHAPE)
    options = {"engine": engine}
    assert_same(L.FocalLoss(gamma=0.0, **options), L.CrossEntropyLoss(**options), b, tolerance=1e-8)
    weight = [1.0, 2.0, 3.0, 4.0]
    assert_same(L.FocalLoss(gamma=0.0, weight=weight), L.CrossEntropyLoss(weight=weight), b)
    one = batch(BINARY)
    assert_same(L.FocalLoss(gamma=0.0, mode="binary", **options), L.BinaryCrossEntropyLoss(**options), one, tolerance=1e-8)
    half = L.FocalLoss(gamma=0.0, mode="binary", alpha=0.5)
    assert close(half(one.z, one.y), 0.5 * L.BinaryCrossEntropyLoss()(one.z, one.y), 1e-12)


@pytest.mark.parametrize("method", ["histogram", "sort"])
@pytest.mark.parametrize("loss", ["softmax", "binary", "hinge"])
def test_lovasz_of_hard_predictions_is_one_minus_iou(loss, method):
    g = torch.Generator().manual_seed(2)
    classes = 4 if loss == "softmax" else 2
    y, prediction = (torch.randint(0, classes, (2, 9, 9), generator=g) for _ in range(2))
    iou = [((y == c) & (prediction == c)).sum() / ((y == c) | (prediction == c)).sum() for c in range(classes)]
    if loss == "softmax":
        z = 1e4 * F.one_hot(prediction, 4).movedim(-1, 1).double()
        value, expected = L.LovaszSoftmaxLoss(method=method)(z, y), 1 - torch.stack(iou).mean()
    elif loss == "binary":
        z = 1e4 * (2.0 * prediction.double() - 1)
        value, expected = L.LovaszSoftmaxLoss(mode="binary", method=method)(z, y), 1 - iou[1]
    else:  # margins of -1 cost 2, margins of 1 nothing
        z = 2.0 * prediction.double() - 1
        value, expected = L.LovaszHingeLoss(method=method)(z, y), 2 * (1 - iou[1])
    assert close(value, expected, 1e-6)


def test_lovasz_softmax_of_two_channels_is_both_sides_of_the_sigmoid():
    b = batch(PAIR)
    one = b.z[:, 1] - b.z[:, 0]
    foreground = L.LovaszSoftmaxLoss(mode="binary", method="sort")
    both = (foreground(one, b.y) + foreground(-one, torch.where(b.y == 255, 255, 1 - b.y))) / 2
    assert close(L.LovaszSoftmaxLoss(method="sort")(b.z, b.y), both, 1e-12)


def test_generalised_dice_of_one_class_is_dice():
    b = batch(SHAPE)
    for weight_type in ("uniform", "simple", "square"):
        assert_same(L.GeneralizedDiceLoss(weight_type=weight_type, classes=[1]), L.DiceLoss(classes=[1]), b)
    assert_same(L.GeneralizedDiceLoss(weight_type="uniform"), L.DiceLoss(average="micro"), b)


def test_log_cosh_dice_is_its_name():
    b = batch(SHAPE)
    assert close(L.LogCoshDiceLoss()(b.z, b.y), L.DiceLoss()(b.z, b.y).cosh().log(), 1e-12)


def test_recall_with_nothing_found_is_cross_entropy():
    b = batch(SHAPE, ignored=0.0)
    none_right = b.z - 20 * F.one_hot(b.y, 4).movedim(-1, 1)
    assert_same(L.RecallLoss(), L.CrossEntropyLoss(), type(b)(none_right, b.y))


def test_bootstrapping_and_mining_all_pixels_is_cross_entropy():
    b = batch(SHAPE)
    assert_same(L.BootstrappedCrossEntropyLoss(top_k=1.0), L.CrossEntropyLoss(), b)
    assert_same(L.OhemCrossEntropyLoss(min_kept=1.0, selection="ocnet"), L.CrossEntropyLoss(), b)
    assert_same(L.OhemCrossEntropyLoss(thresh=1.0, min_kept=0), L.CrossEntropyLoss(), b)


def test_torch_cross_entropy():
    b = batch(SHAPE)
    weight = torch.tensor([0.5, 1.0, 2.0, 3.5], dtype=torch.float64)
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}, {"weight": weight, "label_smoothing": 0.3}):
        torch_loss = lambda z, y, options=options: F.cross_entropy(z, y, ignore_index=255, **options)  # noqa: E731
        assert_same(L.CrossEntropyLoss(**options), torch_loss, b)
    summed = F.cross_entropy(b.z, b.y, weight=weight, ignore_index=255, reduction="sum")
    assert close(L.CrossEntropyLoss(weight=weight, reduction="sum")(b.z, b.y), summed, 1e-12)
    soft = batch(SHAPE, soft=True, ignored=0.0)
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.2}):
        expected = F.cross_entropy(soft.z, soft.y, **options)
        assert close(L.CrossEntropyLoss(**options)(soft.z, soft.y), expected, 1e-7)


def test_torch_binary_cross_entropy():
    b = batch(BINARY, ignored=0.0)
    y = b.y[:, None].double()
    for pos_weight in (None, 3.0):
        given = None if pos_weight is None else torch.tensor(pos_weight)
        expected = F.binary_cross_entropy_with_logits(b.z, y, pos_weight=given)
        assert close(L.BinaryCrossEntropyLoss(pos_weight=pos_weight)(b.z, b.y), expected, 1e-12)
        assert close(L.BinaryCrossEntropyLoss(pos_weight=pos_weight)(b.z, y * 0.9), F.binary_cross_entropy_with_logits(
            b.z, y * 0.9, pos_weight=given), 1e-9)  # fmt: skip


TWO_FORMS = [
    (L.CrossEntropyLoss(), L.BinaryCrossEntropyLoss()),
    (L.CrossEntropyLoss(weight=[1.0, 3.0]), L.BinaryCrossEntropyLoss(weight=[1.0, 3.0])),
    (L.FocalLoss(gamma=1.5), L.FocalLoss(gamma=1.5, mode="binary")),
    (L.FocalLoss(alpha=[0.75, 0.25]), L.FocalLoss(alpha=0.25, mode="binary")),
    (L.OhemCrossEntropyLoss(min_kept=9, thresh=0.2), L.OhemCrossEntropyLoss(min_kept=9, thresh=0.2, mode="binary")),
    (L.DiceLoss(classes=[1]), L.DiceLoss(mode="binary")),
    (L.MCCLoss(classes=[1]), L.MCCLoss(mode="binary")),
    (L.LovaszSoftmaxLoss(classes=[1]), L.LovaszSoftmaxLoss(mode="binary")),
]


@pytest.mark.parametrize(("softmax", "sigmoid"), TWO_FORMS, ids=lambda x: type(x).__name__)
@engines
def test_two_channels_are_one(softmax, sigmoid, engine):
    """softmax over (z0, z1) is sigmoid(z1 - z0), in every loss that has both forms."""
    b = batch(PAIR)
    softmax.engine = sigmoid.engine = engine
    assert_same(softmax, sigmoid, b, tolerance=1e-7)
    one = ((b.z[:, 1] - b.z[:, 0]), b.y)
    assert close(sigmoid(*one), softmax(b.z, b.y), 1e-7)


@pytest.mark.parametrize("case", [c for c in CASES if c.loss == "MixedLoss"], ids=str)
@engines
def test_a_mix_is_the_weighted_sum_of_its_parts(case, engine):
    b = batch(case).to(torch.float32)
    mixed = case.build(engine=engine)
    value, gradient = evaluate(mixed, b.z, b.y)
    parts = [evaluate(part, b.z, b.y) for part in mixed.losses]
    assert close(value, sum(c * v for c, (v, _) in zip(mixed.coef, parts)), 1e-6)
    assert relative(gradient, sum(c * g for c, (_, g) in zip(mixed.coef, parts))) < 1e-5
    assert list(mixed.terms) == [type(part).__name__ for part in mixed.losses]
    for term, (part, _) in zip(mixed.terms.values(), parts):
        assert close(term, part, 1e-6)
        assert not term.requires_grad
    for order in itertools.permutations(range(len(parts))):
        again = L.MixedLoss([mixed.losses[i] for i in order], [mixed.coef[i] for i in order])
        assert close(again(b.z, b.y), value, 1e-6)


def test_mixes_nest_and_name_their_terms():
    b = batch(SHAPE)
    inner = L.MixedLoss([L.DiceLoss(), L.FocalLoss()], [0.5, 0.5])
    outer = L.MixedLoss([L.CrossEntropyLoss(), inner, L.CrossEntropyLoss(weight=[1.0, 2.0, 3.0, 4.0])], [1.0, 2.0, 0.0])
    expected = L.CrossEntropyLoss()(b.z, b.y) + L.DiceLoss()(b.z, b.y) + L.FocalLoss()(b.z, b.y)
    assert close(outer(b.z, b.y), expected, 1e-12)
    assert list(outer.terms) == ["CrossEntropyLoss_1", "MixedLoss.DiceLoss", "MixedLoss.FocalLoss", "CrossEntropyLoss_2"]


def test_a_mix_may_hold_per_image_and_batch_parts_and_other_modules():
    b = batch(SHAPE)

    class Constant(torch.nn.Module):
        requires = ("image",)

        def forward(self, logits, target, pixel_weight=None, *, image):
            return logits.sum() * 0 + image.mean()

    parts = [L.DiceLoss(per_image=True), L.DiceLoss(), L.LovaszSoftmaxLoss(per_image=True), L.LovaszSoftmaxLoss(), Constant()]
    mixed = L.MixedLoss(parts, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert mixed.requires == ("image",)
    expected = sum(c * part(b.z, b.y) for c, part in zip(mixed.coef, parts[:-1])) + 5 * 0.25
    assert close(mixed(b.z, b.y, image=torch.full((2, 2), 0.25)), expected, 1e-12)


def test_by_hand():
    """Four pixels of two classes at p = 3/4 of being class 0."""
    z = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1).expand(1, 2, 2, 2)
    y = torch.tensor([[[0, 0], [0, 1]]])
    log43, log4 = torch.tensor(4 / 3).log().item(), torch.tensor(4.0).log().item()
    expected = {
        L.CrossEntropyLoss(): (3 * log43 + log4) / 4,
        L.CrossEntropyLoss(weight=[1.0, 3.0]): (3 * log43 + 3 * log4) / 6,
        L.FocalLoss(): (3 * log43 / 16 + log4 * 9 / 16) / 4,
        L.DiceLoss(): ((1 - 2 * 2.25 / 6) + (1 - 2 * 0.25 / 2)) / 2,
        L.JaccardLoss(): ((1 - 2.25 / 3.75) + (1 - 0.25 / 1.75)) / 2,
        # class 0: errors 3/4 (background), 1/4 three times; class 1: 3/4 (foreground), then 1/4
        L.LovaszSoftmaxLoss(method="sort"): ((0.75 / 4 + 0.25 * 3 / 4) + 0.75) / 2,
        L.RecallLoss(): (3 * log43 / 3 + log4) / 4,
        L.BootstrappedCrossEntropyLoss(top_k=2): (log4 + log43) / 2,
        L.OhemCrossEntropyLoss(thresh=0.5, min_kept=1): log4,
    }
    for loss, value in expected.items():
        assert close(loss(z, y), value, 1e-6), type(loss).__name__


def test_reductions_of_pixel_losses():
    """The map of losses, its sum, and its mean by hand, with ignored and weighted pixels."""
    b = batch(SHAPE)
    w = torch.rand(b.y.shape, generator=torch.manual_seed(0), dtype=torch.float64)
    valid = b.y != 255
    weight = torch.tensor([0.5, 1.0, 2.0, 3.5], dtype=torch.float64)
    for engine in ("eager", "numba"):
        for loss in (L.CrossEntropyLoss, L.FocalLoss, L.RecallLoss):
            options = {"weight": weight, "engine": engine}
            pixels = loss(reduction="none", **options)(b.z, b.y, pixel_weight=w)
            assert pixels.shape == b.y.shape
            assert not pixels[~valid].any()
            total = loss(reduction="sum", **options)(b.z, b.y, pixel_weight=w)
            assert close(pixels.sum(), total, 1e-9)
            divisor = (w * valid).sum() if loss is L.RecallLoss else (w * weight[b.y.where(valid, 0)] * valid).sum()
            assert close(total / divisor, loss(**options)(b.z, b.y, pixel_weight=w), 1e-9)
            z = b.z.clone().requires_grad_()
            (by_map,) = torch.autograd.grad(loss(reduction="none", **options)(z, b.y, pixel_weight=w).sum(), z)
            (by_sum,) = torch.autograd.grad(loss(reduction="sum", **options)(z, b.y, pixel_weight=w), z)
            assert relative(by_map, by_sum) < 1e-9
        expected = F.cross_entropy(b.z, b.y, weight=weight, ignore_index=255, reduction="none")
        assert torch.allclose(L.CrossEntropyLoss(weight=weight, reduction="none", engine=engine)(b.z, b.y), expected)


@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
def test_maps_of_sigmoid_losses(mode):
    case = Case("x", oracle=None, channels={"binary": 1, "multilabel": 3, "multiclass": 4}[mode],
                target="maps" if mode == "multilabel" else "labels")  # fmt: skip
    b = batch(case)
    for engine in ("eager", "numba"):
        for make in (lambda **o: L.BinaryCrossEntropyLoss(pos_weight=2.0, **o), lambda **o: L.FocalLoss(
                activation="sigmoid", gamma=1.5, alpha=0.3, **o)):  # fmt: skip
            pixels = make(mode=mode, reduction="none", engine=engine)(b.z, b.y)
            assert pixels.shape == (b.y.shape if mode == "binary" else b.z.shape)
            assert close(pixels.sum(), make(mode=mode, reduction="sum")(b.z, b.y), 1e-9)
            out = b.y == 255 if mode != "multiclass" else (b.y == 255)[:, None].expand_as(b.z)
            assert not pixels[out].any()


REGIONS = ["DiceLoss", "JaccardLoss", "TverskyLoss", "FocalTverskyLoss", "MCCLoss", "LovaszSoftmaxLoss"]


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("per_image", [False, True])
def test_reductions_of_region_losses(name, per_image):
    """One value per group and class; classes outside the mean are 0 there."""
    b = batch(SHAPE)
    y = b.y.where(b.y != 1, 0)
    make = L.LOSSES[name]
    table = make(reduction="none", per_image=per_image)(b.z, y)
    assert table.shape == (3 if per_image else 1, 4)
    assert not table[:, 1].any()
    assert (table[:, [0, 2, 3]] > 0).all()
    assert close(table.sum(1).mean() / 3, make(per_image=per_image)(b.z, y), 1e-12)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    total = make(reduction="sum", per_image=per_image, weight=weight)(b.z, y)
    assert close(total, (table * weight).sum(), 1e-9)
    shares = (table * weight).sum(1) / (weight.sum() - 2)
    assert close(make(per_image=per_image, weight=weight)(b.z, y), shares.mean(), 1e-9)
    counts = make(per_image=per_image, weight=weight, weight_normalization=False)(b.z, y)
    assert close(counts, ((table * weight).sum(1) / 3).mean(), 1e-9)
    everything = make(reduction="none", per_image=per_image, classes="all")(b.z, y)
    if name not in ("MCCLoss", "LovaszSoftmaxLoss"):
        assert torch.allclose(everything[:, 1], torch.ones(()).double())  # nothing labelled, something predicted
    spared = make(reduction="none", per_image=per_image, classes="all", absent_as_zero=True)(b.z, y)
    assert not spared[:, 1].any()
    assert close(make(classes="all", per_image=per_image, absent_as_zero=True)(b.z, y), table.sum(1).mean() / 4, 1e-12)
    chosen = make(classes=[1, 2], per_image=per_image)(b.z, y)
    assert close(chosen, everything[:, [1, 2]].mean(), 1e-12)


def test_micro_average_is_one_index():
    b = batch(SHAPE)
    mean = L.DiceLoss(average="micro")(b.z, b.y)
    assert close(L.DiceLoss(average="micro", reduction="sum")(b.z, b.y), mean, 1e-12)
    assert close(L.DiceLoss(average="micro", reduction="none")(b.z, b.y).mean(), mean, 1e-12)
