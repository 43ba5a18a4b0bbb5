"""Keywords of the region losses reach the losses that average in their own way."""

import pytest
import torch

from evenseg.functional import exponential_logarithmic_loss, generalized_dice_loss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 6, 5))  # class 3 is never labelled
    return logits, target


def dice_terms(logits, target):
    """(-log Dice)^0.3 of every class of the batch, smoothed by 1."""
    p = logits.softmax(1)
    y = torch.nn.functional.one_hot(target, 4).movedim(-1, 1)
    dice = (2 * (p * y).sum((0, 2, 3)) + 1) / ((p + y).sum((0, 2, 3)) + 1)
    return (-dice.log()) ** 0.3


def test_exponential_logarithmic_absent_class_can_cost_nothing(batch):
    terms = dice_terms(*batch)
    only_dice = {"w_dice": 1.0, "w_cross": 0.0}
    assert exponential_logarithmic_loss(*batch, **only_dice) == pytest.approx(terms.mean().item(), rel=1e-12)
    spared = exponential_logarithmic_loss(*batch, absent_as_zero=True, **only_dice)
    assert spared == pytest.approx(terms[:3].sum().item() / 4, rel=1e-12)


def test_exponential_logarithmic_weights_can_stay_unnormalised(batch):
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    terms = dice_terms(*batch)
    options = {"w_dice": 1.0, "w_cross": 0.0, "weight": weight.tolist()}
    normalised = exponential_logarithmic_loss(*batch, **options)
    assert normalised == pytest.approx(((weight * terms).sum() / weight.sum()).item(), rel=1e-12)
    divided_by_classes = exponential_logarithmic_loss(*batch, weight_normalization=False, **options)
    assert divided_by_classes == pytest.approx((weight * terms).mean().item(), rel=1e-12)


def test_generalized_dice_of_a_group_without_labels(batch):
    logits, target = batch
    one = logits[:, :1]
    nothing = torch.zeros_like(target)
    assert generalized_dice_loss(one, nothing, mode="binary", classes="all") == 1
    assert generalized_dice_loss(one, nothing, mode="binary", classes="all", absent_as_zero=True) == 0
    half = torch.stack([(target[0] > 0).long(), nothing[1]])
    spared = generalized_dice_loss(one, half, mode="binary", classes="all", per_image=True, absent_as_zero=True)
    first = generalized_dice_loss(one[:1], half[:1], mode="binary")
    assert spared == pytest.approx(first.item() / 2, rel=1e-12)


def test_generalized_dice_says_that_its_weights_cancel(batch):
    with pytest.raises(ValueError, match="weight_normalization does not apply"):
        generalized_dice_loss(*batch, weight_normalization=False)
