"""The active boundary loss beyond what holds for every loss."""

import numpy as np
import pytest
import torch

from evenseg.losses import ActiveBoundaryLoss
from evenseg.losses.active_boundary import boundary_scores, highest_scores, scores_over_threshold
from oracles.boundaries import active_boundary

C, H, W = 4, 14, 17


def batch(images=2, seed=0, ignored=True):
    g = torch.manual_seed(seed)
    y = torch.zeros(images, H, W, dtype=torch.long)
    y[:, :, 9:], y[:, 8:, :6] = 1, 2
    z = torch.randn(images, C, H, W, generator=g, dtype=torch.float64)
    if ignored:
        y[0, 3:7, 7:11] = 255
        y[torch.rand(y.shape, generator=g) < 0.03] = 255
    return z, y


def value_and_gradient(loss, z, y, **call):
    z = z.clone().requires_grad_()
    value = loss(z, y, **call)
    return value.item(), torch.autograd.grad(value, z)[0]


@pytest.mark.parametrize("published", [False, True])
def test_gradient_with_detached_neighbours(published):
    """The neighbours' probabilities stay those of the first logits; seeds and targets too."""
    z, y = batch(1)
    options = {"ratio": 0.06, "published": published, "divide": 8 if published else 7}
    loss = ActiveBoundaryLoss(max_ratio=0.06, convention="published" if published else "paper")
    value, gradient = value_and_gradient(loss, z, y)
    assert value == pytest.approx(active_boundary(z.numpy(), y.numpy(), None, **options), rel=1e-10)
    step = 1e-6
    direction = torch.randn(z.shape, generator=torch.manual_seed(1), dtype=z.dtype)
    up, down = (active_boundary((z + s * step * direction).numpy(), y.numpy(), None, fixed=z.numpy(), **options) for s in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_published_convention_with_weights():
    z, y = batch()
    weight = torch.randint(1, 4, y.shape, generator=torch.manual_seed(1)).double()
    classes = [1.0, 0.5, 2.0, 1.0]
    ours = ActiveBoundaryLoss(max_ratio=0.06, convention="published", weight=classes)(z, y, weight)
    expected = active_boundary(
        z.numpy(), y.numpy(), weight.numpy(), ratio=0.06, published=True, divide=8, class_weight=classes
    )  # fmt: skip
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_images_without_a_boundary_add_nothing():
    z, y = batch(3)
    y[1] = 2
    for convention in ("paper", "published"):
        loss = ActiveBoundaryLoss(max_ratio=0.06, convention=convention)
        value, gradient = value_and_gradient(loss, z, y)
        assert value > 0
        assert not gradient[1].any()
        if convention == "paper":  # the published threshold is that of the whole batch
            rest, _ = value_and_gradient(loss, z[[0, 2]], y[[0, 2]])
            assert value == pytest.approx(rest, rel=1e-12)
        value, gradient = value_and_gradient(loss, z[[1]], y[[1]])
        assert value == 0
        assert not gradient.any()


def test_every_image_has_its_own_share():
    z, _ = batch(3)
    z[1] *= 0.05  # a network that is unsure of this image
    valid = torch.ones(3, H, W, dtype=torch.bool)
    most = int(0.06 * H * W)
    assert highest_scores(z, valid, 0.06).flatten(1).sum(1).tolist() == [most] * 3
    published = scores_over_threshold(z, valid, 0.06).flatten(1).sum(1)
    assert published.sum() <= most
    assert published[1] == 0


def test_a_sure_network_still_gets_a_gradient():
    """Most boundary scores are the same, so the published threshold jumps from all of them to none."""
    _, y = batch(1, ignored=False)
    shifted = y.roll(3, 2)
    z = torch.nn.functional.one_hot(shifted, C).movedim(-1, 1).double() * 100
    value, gradient = value_and_gradient(ActiveBoundaryLoss(), z, y)
    assert value > 0
    assert gradient.abs().sum() > 0
    value, gradient = value_and_gradient(ActiveBoundaryLoss(convention="published"), z, y)
    assert value == 0
    assert not gradient.any()


def test_descent_moves_the_boundary_towards_that_of_the_labels():
    """Column by column; not where the neighbours get a gradient too, which the paper warns of."""
    y = torch.zeros(1, 16, 24, dtype=torch.long)
    y[:, :, 12:] = 1
    start = 0.01 * torch.randn(1, 2, 16, 24, generator=torch.manual_seed(0))
    start[:, 0, :, :8] += 2
    start[:, 1, :, 8:] += 2  # four columns off
    fewest = {}
    for detach in (True, False):
        z, loss, wrong = start.clone(), ActiveBoundaryLoss(max_ratio=0.1, detach=detach), []
        for _ in range(50):
            z -= 200 * value_and_gradient(loss, z, y)[1]
            wrong.append((z.argmax(1) != y).sum().item())
        fewest[detach] = min(wrong)
    assert fewest[True] <= 32
    assert fewest[False] > 56


def test_scores_of_a_pair():
    z = torch.tensor([[0.0, 1.0], [0.3, -2.0]]).double().view(1, 2, 1, 2)
    p, q = z[0, :, 0, 0].softmax(0), z[0, :, 0, 1].softmax(0)
    expected = (p * (p / q).log()).sum().item()
    scores = boundary_scores(z, torch.ones(1, 1, 2, dtype=torch.bool))
    np.testing.assert_allclose(scores.numpy(), [[[expected, 0.0]]], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_ratio": 0}, r"max_ratio must lie in \(0, 1\]"),
        ({"max_clip_dist": 0}, "max_clip_dist must lie in"),
        ({"label_smoothing": 1.5}, "label_smoothing must lie in"),
        ({"smoothing_classes": 9}, "smoothing_classes must be one of None, 7, 8"),
        ({"convention": "code"}, "convention must be one of 'paper', 'published'"),
        ({"detach": 1}, "detach must be true or false"),
    ],
)
def test_mistakes_in_options(options, message):
    with pytest.raises(ValueError, match=message):
        ActiveBoundaryLoss(**options)


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="for 2 spatial dimensions"):
        ActiveBoundaryLoss()(torch.zeros(1, 2, 3, 4, 5), torch.zeros(1, 3, 4, 5).long())


def test_binary_weight_is_for_both_labels():
    z, y = batch(ignored=False)
    with pytest.raises(ValueError, match="weight has 1 entries, the logits need 2"):
        ActiveBoundaryLoss(mode="binary", weight=[1.0])(z[:, :1], y.clamp(max=1))
