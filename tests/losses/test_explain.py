"""What is said to make the difference between two losses makes it."""

import pytest
import torch

from evenseg.losses import preset
from evenseg.losses.build import build_single_loss
from evenseg.losses.example_batch import example_batch
from evenseg.losses.explain import explain_losses, modes_and_classes


@pytest.fixture(scope="module")
def batch():
    return example_batch(4)


def options(found):
    return {s.option: s for s in found.switches}


def test_the_values_are_those_of_the_losses(batch):
    found = explain_losses({"type": "smp.dice"}, {"type": "FocalLoss", "gamma": 3.0}, *batch)
    logits = batch[0].clone().requires_grad_()
    focal = build_single_loss({"type": "FocalLoss", "gamma": 3.0})
    for measured, loss in ((found.a, preset("smp.dice", ignore_index=255)), (found.b, focal)):
        value = loss(logits, batch[1])
        assert measured.value == pytest.approx(value.item(), rel=1e-12)
        assert torch.allclose(measured.gradient, torch.autograd.grad(value, logits)[0], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("a", "b", "option", "values"),
    [
        ({"type": "mmseg.cross_entropy"}, {"type": "CrossEntropyLoss"}, "divisor", ("pixels", "weights")),
        ({"type": "CrossEntropyLoss"}, {"type": "FocalLoss"}, "gamma", (0.0, 2.0)),
        ({"type": "DiceLoss"}, {"type": "DiceLoss", "squared": True}, "squared", (False, True)),
        ({"type": "hrnet.ohem", "min_kept": 9}, {"type": "paddleseg.ohem", "min_kept": 9}, "selection", ("hrnet", "paddleseg")),
        ({"type": "TverskyLoss"}, {"type": "FocalTverskyLoss"}, "gamma", (1.0, 0.75)),
    ],
)
def test_one_option_is_the_whole_difference(batch, a, b, option, values):
    found = explain_losses(a, b, *batch)
    (switch,) = found.switches
    assert (switch.option, switch.a, switch.b) == (option, *values)
    assert switch.measured.value == pytest.approx(found.b.value, rel=1e-12)
    assert switch.value_closed == switch.gradient_closed == 1
    assert found.needed.option == option
    assert found.explained
    assert not found.equal


def test_dice_is_a_tversky_loss(batch):
    found = explain_losses({"type": "DiceLoss"}, {"type": "TverskyLoss", "alpha": 0.5, "beta": 0.5}, *batch)
    assert found.equal
    found = explain_losses({"type": "DiceLoss"}, {"type": "JaccardLoss"}, *batch)
    assert found.needed.option == "alpha and beta"
    assert {"alpha", "beta", "eps"} == set(options(found))
    assert options(found)["alpha"].value_closed + options(found)["beta"].value_closed != 1


def test_options_that_only_work_together_are_found():
    """Of an absent class SMP's Dice forgives what MONAI's charges, image by image."""
    found = explain_losses({"type": "smp.dice"}, {"type": "monai.dice"}, *example_batch(4))
    assert found.needed.option == "per_image and absent_as_zero"
    assert options(found)["absent_as_zero"].value_closed == 0
    assert options(found)["empty_image"].measured is None
    assert options(found)["empty_image"].refusal.endswith("it needs per_image=True")
    assert found.switches[-1].option == "empty_image"
    assert found.explained
    absent = explain_losses({"type": "smp.dice"}, {"type": "monai.dice", "batch": True}, *example_batch(4, absent=True))
    assert absent.needed.option == "absent_as_zero"


def test_equal_losses_say_what_differs_all_the_same(batch):
    found = explain_losses({"type": "DiceLoss"}, {"type": "DiceLoss", "overlap": "product"}, *batch)
    assert found.equal
    assert list(options(found)) == ["overlap"]
    same = explain_losses({"type": "berman.lovasz_softmax"}, {"type": "paddleseg.lovasz_softmax"}, *batch)
    assert same.equal
    assert not same.switches


def test_conventions_of_a_preset_are_options_too():
    found = explain_losses({"type": "paddleseg.lovasz_hinge"}, {"type": "LovaszHingeLoss", "method": "sort"}, *example_batch(2))
    (switch,) = found.switches
    assert (switch.option, switch.a, switch.b, switch.value_closed) == ("two_channels", "log_probability", "difference", 1)


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        ({"type": "OhemCrossEntropyLoss", "min_kept": 500, "selection": "ocnet"}, "min_kept"),
        ({"type": "BootstrappedCrossEntropyLoss"}, "top_k"),
    ],
)
def test_cross_entropy_is_mining_that_keeps_all(batch, loss, option):
    found = explain_losses({"type": "CrossEntropyLoss"}, loss, *batch)
    entropy = build_single_loss({"type": "CrossEntropyLoss"})(*batch)
    assert found.a.value == pytest.approx(entropy.item(), rel=1e-9)
    assert found.same_terms
    assert found.needed.option == option
    assert found.terms_a == [(1.0, {"type": "CrossEntropyLoss"})]


def test_mixes_are_compared_term_by_term(batch):
    entropy, dice = {"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}
    mix = {"type": "MixedLoss", "losses": [dice, entropy], "coef": [1, 0.5]}
    found = explain_losses(entropy, mix, *batch)
    assert {s.option: (s.a, s.b) for s in found.switches} == {"CrossEntropyLoss.coef": (1.0, 0.5), "DiceLoss.coef": (0.0, 1.0)}
    assert found.needed.option in ("CrossEntropyLoss.coef and DiceLoss.coef", "DiceLoss.coef and CrossEntropyLoss.coef")
    assert found.together.measured.value == pytest.approx(found.b.value, rel=1e-12)
    other = explain_losses(mix, {"type": "monai.dice_ce", "lambda_ce": 0.5, "batch": True}, *batch)
    assert set(options(other)) == {"DiceLoss.classes", "DiceLoss.smooth_num", "DiceLoss.smooth_den", "DiceLoss.overlap"}
    assert [term["type"] for _, term in other.terms_b] == ["DiceLoss", "CrossEntropyLoss"]
    nested = {"type": "MixedLoss", "losses": [mix], "coef": [2]}
    assert {s.option for s in explain_losses(mix, nested, *batch).switches} == {"DiceLoss.coef", "CrossEntropyLoss.coef"}


def test_different_formulas_are_said_to_be_that(batch):
    found = explain_losses({"type": "CrossEntropyLoss"}, {"type": "LovaszSoftmaxLoss", "per_image": True}, *batch)
    assert not found.same_terms
    assert not found.explained
    assert found.needed is None
    kinds = options(found)
    assert kinds["type"].measured.value != pytest.approx(found.b.value, rel=1e-6)  # not per image yet
    assert kinds["per_image"].measured is not None
    assert found.only_b == {}
    assert explain_losses({"type": "CrossEntropyLoss"}, {"type": "DiceLoss", "squared": True}, *batch).only_b == {"squared": True}


def test_what_cannot_be_compared_is_an_error(batch):
    with pytest.raises(ValueError, match="reduction='none' gives no single number"):
        explain_losses({"type": "DiceLoss", "reduction": "none"}, {"type": "DiceLoss"}, *batch)
    with pytest.raises(ValueError, match="DiceLoss has no keyword 'smoth'"):
        explain_losses({"type": "DiceLoss", "smoth": 1}, {"type": "DiceLoss"}, *batch)
    with pytest.raises(ValueError, match="weight has 3 entries, the logits need 4"):
        explain_losses({"type": "DiceLoss", "weight": [1, 2, 3]}, {"type": "DiceLoss"}, *batch)


def test_the_batch_is_uneven_and_the_same_every_time():
    logits, target = example_batch(4)
    again = example_batch(4)
    assert torch.equal(logits, again[0])
    assert torch.equal(target, again[1])
    counts = target[target != 255].bincount(minlength=4).tolist()
    assert counts[0] > counts[1] > counts[2] > counts[3] > 0
    assert (target[1] != 3).all()
    assert (target == 255).double().mean() == pytest.approx(0.05, abs=0.01)
    assert not (example_batch(4, absent=True)[1] == 3).any()
    half = example_batch(2, ignored=0.5)[1]
    assert (half[0] == 255).all()
    assert not (half[1] == 255).any()
    maps = example_batch(3, maps=True)[1]
    assert maps.shape == (2, 3, 48, 64)
    assert set(maps.unique().tolist()) == {0, 1, 255}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"classes": 1}, "classes must be at least 2, got 1"), ({"images": 0}, "images must be"), ({"ignored": 1.0}, "lie in .* got 1")],
)
def test_bad_batches(keywords, message):
    with pytest.raises(ValueError, match=message):
        example_batch(**{"classes": 3, **keywords})


def test_classes_are_read_off_the_losses():
    weighted = {"type": "DiceLoss", "weight": [1, 2, 3]}
    assert modes_and_classes(weighted, {"type": "FocalLoss"}) == ({"multiclass"}, 3)
    assert modes_and_classes({"type": "DiceLoss", "classes": [1, 4]}, {"type": "LovaszHingeLoss"}) == ({"multiclass", "binary"}, 5)
    assert modes_and_classes({"type": "smp.lovasz", "mode": "multilabel"}) == ({"multilabel"}, None)
