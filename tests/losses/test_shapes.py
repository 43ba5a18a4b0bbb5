"""Signed distance, Hausdorff and centreline losses beyond what holds for every loss; MONAI as a further witness."""

import importlib

import pytest
import torch

from evenseg.losses import ClDiceLoss, HausdorffLoss, SignedDistanceBoundaryLoss
from evenseg.losses.cl_dice import soft_skeleton
from evenseg.losses.signed_distance import signed_distance

ALL = (SignedDistanceBoundaryLoss, HausdorffLoss, ClDiceLoss)


def batch(channels=3, spatial=(12, 14), images=2, seed=0):
    g = torch.manual_seed(seed)
    y = torch.zeros(images, *spatial, dtype=torch.long)
    y[:, 2:9, 3:8], y[0, 6:, 9:] = 1, 2
    z = torch.randn(images, channels, *spatial, generator=g, dtype=torch.float64)
    return z + 2 * torch.nn.functional.one_hot(y, 3).movedim(-1, 1)[:, :channels], y


def monai():
    importlib.import_module("evenseg._torchvision")
    return pytest.importorskip("monai.losses", reason="MONAI is not installed")


def gradient_of(value, z):
    return torch.autograd.grad(value, z)[0]


@pytest.mark.parametrize("spatial", [(12, 14), (12, 14, 5)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("iterations", [0, 3])
def test_skeleton_and_loss_are_monai_s(spatial, iterations):
    peer = monai()
    z, y = batch(spatial=spatial)
    hot = torch.nn.functional.one_hot(y, 3).movedim(-1, 1).double()
    cldice = importlib.import_module("monai.losses.cldice")
    torch.testing.assert_close(soft_skeleton(z.softmax(1), iterations), cldice.soft_skel(z.softmax(1), iterations))
    z.requires_grad_()
    for c in range(3):  # MONAI takes one sum over all classes of an image, so one class at a time
        ours = ClDiceLoss(iterations=iterations, classes=[c], per_image=True)(z, y)
        theirs = peer.SoftclDiceLoss(iter_=iterations, smooth=1e-12)(z.softmax(1)[:, [c]], hot[:, [c]])
        torch.testing.assert_close(ours, theirs.to(ours.dtype))
        torch.testing.assert_close(gradient_of(ours, z), gradient_of(theirs, z))


@pytest.mark.parametrize("spatial", [(12, 14), (6, 7, 5)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("background", [True, False])
def test_hausdorff_is_monai_s(spatial, background):
    peer = monai()
    pytest.importorskip("scipy", reason="MONAI's distance transform needs SciPy, which is not installed")
    z, y = batch(spatial=spatial)
    z.requires_grad_()
    ours = HausdorffLoss(classes="all" if background else "foreground", per_image=True)(z, y)
    theirs = peer.HausdorffDTLoss(softmax=True, to_onehot_y=True, include_background=background)(z, y[:, None])
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient_of(ours, z), gradient_of(theirs, z), rtol=1e-5, atol=1e-9)


def test_signed_distances_of_a_square():
    member = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    member[..., 1:6, 1:6] = True
    phi = signed_distance(member, torch.ones_like(member), torch.float64)[0, 0]
    assert phi[3].tolist() == [1, 0, -1, -2, -1, 0, 1]
    assert phi[0, 0].item() == pytest.approx(2**0.5)
    holed = torch.ones_like(member)
    holed[..., 0, :] = False  # ignored pixels lie on neither side
    assert signed_distance(member, holed, torch.float64)[0, 0, :, 3].tolist() == [0, -2, -2, -2, -1, 0, 1]


def test_value_without_minimum_has_the_same_gradient():
    z, y = batch()
    z.requires_grad_()
    plain, shifted = (SignedDistanceBoundaryLoss(nonnegative=flag)(z, y) for flag in (False, True))
    assert plain < 0 < shifted
    torch.testing.assert_close(gradient_of(plain, z), gradient_of(shifted, z))
    right = 100 * (2.0 * torch.nn.functional.one_hot(y, 3).movedim(-1, 1) - 1)
    assert SignedDistanceBoundaryLoss(nonnegative=True)(right, y).item() == pytest.approx(0, abs=1e-6)
    assert SignedDistanceBoundaryLoss()(right, y) < SignedDistanceBoundaryLoss()(z, y)


@pytest.mark.parametrize("loss", [SignedDistanceBoundaryLoss, HausdorffLoss])
def test_a_far_mistake_costs_more_than_a_near_one(loss):
    y = torch.zeros(1, 20, 30, dtype=torch.long)
    y[:, 5:10, 3:8] = 1
    values = []
    for column in (9, 25):
        z = torch.where(y == 1, 20.0, -20.0)
        z[:, 6:8, column : column + 2] = 20.0
        values.append(loss(mode="binary")(z[:, None], y).item())
    assert values[1] > values[0]
    if loss is HausdorffLoss:
        assert values[1] > 10 * values[0] > 0


def test_a_gap_costs_cl_dice_more_than_the_same_pixels_along_the_edge():
    y = torch.zeros(1, 24, 40, dtype=torch.long)
    y[:, 10:15] = 1
    gap, edge = (torch.where(y == 1, 20.0, -20.0) for _ in range(2))
    gap[:, 10:15, 18:22] = -20.0  # 20 pixels in one cut
    edge[:, 10, 10:30] = -20.0  # 20 pixels of the rim
    cut, thinner = (ClDiceLoss(mode="binary")(z[:, None], y).item() for z in (gap, edge))
    assert cut > 2 * thinner


@pytest.mark.parametrize("loss", ALL)
def test_a_class_that_fills_the_image_or_is_absent(loss):
    z, _ = batch()
    z.requires_grad_()
    for label in (0, 1):
        y = torch.full((2, 12, 14), label)
        value = loss(classes="all")(z, y)
        assert value.isfinite()
        assert gradient_of(value, z).isfinite().all()
        if loss is SignedDistanceBoundaryLoss:
            assert value.item() == 0


def test_absent_classes_in_the_mean():
    z, y = batch()
    y = y.clamp(max=1)  # class 2 is nowhere, class 0 everywhere
    for loss in ALL:
        one_by_one = [loss(classes=[c])(z, y).item() for c in range(3)]
        assert loss(classes="present")(z, y).item() == pytest.approx(sum(one_by_one[:2]) / 2)
        assert loss(classes="foreground")(z, y).item() == pytest.approx(sum(one_by_one[1:]) / 2)
        assert loss(classes="all")(z, y).item() == pytest.approx(sum(one_by_one) / 3)


def test_skeleton_of_a_bar_is_its_middle():
    x = torch.zeros(1, 1, 11, 21)
    x[..., 3:8, 3:18] = 1
    thin = soft_skeleton(x, 3)[0, 0]
    assert thin[5, 6:15].eq(1).all()
    assert thin.sum() < x.sum() / 3
    assert not thin[x[0, 0] == 0].any()
    assert torch.equal(soft_skeleton(x, 9), soft_skeleton(x, 3))


def test_functional_forms():
    from evenseg import functional

    z, y = batch()
    for loss, function in zip(ALL, (functional.signed_distance_boundary_loss, functional.hausdorff_loss, functional.cl_dice_loss)):
        assert function(z, y, classes="present").item() == pytest.approx(loss(classes="present")(z, y).item())


@pytest.mark.parametrize("loss", ALL)
def test_mistakes_in_classes(loss):
    z, y = batch()
    for wrong in ("background", [1, 1]):
        with pytest.raises(ValueError, match=r"classes must be .*'foreground'"):
            loss(classes=wrong)
    with pytest.raises(ValueError, match=r"classes \[5\] do not fit logits of 3 channels"):
        loss(classes=[5])(z, y)
    with pytest.raises(ValueError, match="per_image must be true or false"):
        loss(per_image=1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HausdorffLoss(alpha=0), r"alpha must lie in \(0"),
        (lambda: HausdorffLoss(one_sided="yes"), "one_sided must be true or false"),
        (lambda: SignedDistanceBoundaryLoss(nonnegative=1), "nonnegative must be true or false"),
        (lambda: ClDiceLoss(smooth=0), r"smooth must lie in \(0"),
        (lambda: ClDiceLoss(iterations=-1), "iterations must be a number of erosions, 0 or more, got -1"),
        (lambda: ClDiceLoss()(torch.zeros(1, 2, 5), torch.zeros(1, 5).long()), "ClDiceLoss is for 2 or 3 spatial dimensions"),
    ],
)
def test_mistakes_in_options_of_one(build, message):
    with pytest.raises(ValueError, match=message):
        build()
