"""RMI and the structural similarity loss: what the battery does not ask."""

import math

import pytest
import torch

from evenseg import functional
from evenseg import losses as L
from evenseg.losses.maps import read_maps
from evenseg.losses.rmi import WindowCovariance, centred_windows


def batch(images=2, classes=3, size=(20, 24), seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, classes, (images, 1, size[0] // 4, size[1] // 4), generator=g).double()
    y = torch.nn.functional.interpolate(coarse, size)[:, 0].long()
    z = torch.nn.functional.one_hot(y, classes).movedim(-1, 1).double()
    return 2 * z + torch.randn(z.shape, generator=g, dtype=torch.float64), y


# -- RMI


@pytest.mark.parametrize("lot", [1, 1 << 21])
def test_scatter_matrices_and_their_gradient_in_lots(monkeypatch, lot):
    """Map by map and all at once, against autograd through the windows."""
    monkeypatch.setattr("evenseg.losses.rmi.WINDOW_VALUES", lot)
    truth = torch.rand(3, 4, 5, generator=torch.manual_seed(0), dtype=torch.float64)
    probs = torch.rand(3, 4, 5, generator=torch.manual_seed(1), dtype=torch.float64).requires_grad_()
    assert len(WindowCovariance.slices(truth, 3)) == (3 if lot == 1 else 1)
    found = WindowCovariance.apply(truth, probs, 3)
    a, b = centred_windows(truth, 3), centred_windows(probs, 3)
    expected = (a @ a.mT, a @ b.mT, b @ b.mT)
    upstream = [torch.rand(m.shape, generator=torch.manual_seed(2), dtype=torch.float64) for m in expected]
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y)
    (ours,) = torch.autograd.grad(found[1:], probs, upstream[1:])
    (theirs,) = torch.autograd.grad(expected[1:], probs, upstream[1:])
    torch.testing.assert_close(ours, theirs)


def test_rmi_falls_as_the_prediction_comes_to_fit():
    _, y = batch()
    hot = torch.nn.functional.one_hot(y, 3).movedim(-1, 1).double()
    loss = L.RMILoss(pixel_term="none", pool="none")
    values = [loss(s * (2 * hot - 1), y).item() for s in (0.0, 1.0, 3.0, 10.0, 30.0)]
    assert values == sorted(values, reverse=True)
    # everything is explained: M = alpha (1 + almost nothing); 3 classes
    assert values[-1] == pytest.approx(1.5 * math.log(5e-4), abs=3.0)
    # the complement of the prediction explains as much
    assert loss(-30 * (2 * hot - 1), y).item() == pytest.approx(values[-1], abs=1e-4)


def test_rmi_forms_are_sums_of_its_parts():
    z, y = batch()
    alone = L.RMILoss(pixel_term="none")(z, y)
    for term in ("bce", "ce"):
        full, none = (L.RMILoss(pixel_term=term, lam=lam)(z, y) for lam in (1.0, 0.0))
        assert torch.allclose(none, alone)
        assert torch.allclose(L.RMILoss(pixel_term=term, lam=0.3)(z, y), 0.3 * full + 0.7 * alone)
        assert torch.allclose(L.RMILoss(pixel_term=term, lam=0.3, form="sum")(z, y), full + 0.3 * alone)
    assert torch.allclose(full, L.CrossEntropyLoss(engine="eager")(z, y))


@pytest.mark.parametrize("name", ["RMILoss", "StructuralSimilarityLoss"])
def test_a_wholly_ignored_image_is_left_out(name):
    z, y = batch(3)
    loss = L.LOSSES[name]()
    y[1] = 255
    torch.testing.assert_close(loss(z, y), loss(z[[0, 2]], y[[0, 2]]))


def test_rmi_of_two_channels_is_that_of_their_difference():
    z, y = batch(classes=2)
    two = L.RMILoss(mode="binary")(z, y)
    assert torch.allclose(two, functional.rmi_loss(z[:, 1:] - z[:, :1], y, mode="binary"))


def test_rmi_keeps_no_windows_for_backward():
    """What autograd holds between the passes grows with the maps, not with the number of values in a window."""
    z, y = batch(size=(64, 64))

    def held(radius):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            L.RMILoss(pool="none", radius=radius)(z.float().requires_grad_(), y)
        return sum(sizes)

    assert 0 < held(5) < held(2) + z.numel()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "mean"}, "pool must be one of 'avg', 'max', 'interp', 'none', got 'mean'"),
        ({"radius": 0}, "radius must be an integer from 1 to 10, got 0"),
        ({"radius": 2.0}, r"radius must be an integer from 1 to 10, got 2\.0"),
        ({"stride": 0}, "stride must be an integer of at least 1, got 0"),
        ({"lam": 1.5}, r"lam must lie in \[0, 1\], got 1\.5"),
        ({"alpha": 0}, r"alpha must lie in \(0, inf\], got 0"),
        ({"pixel_term": "ce", "mode": "binary"}, "pixel_term must be one of 'bce', 'none', got 'ce'"),
        ({"activation": "softmax", "mode": "multilabel"}, "activation must be one of 'sigmoid', got 'softmax'"),
    ],
)
def test_keywords_of_rmi_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        L.RMILoss(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": 4}, "window_size must be odd, so that a pixel is in the middle, got 4"),
        ({"window_size": 1}, "window_size must be an integer of at least 3, got 1"),
        ({"sigma": 0}, r"sigma must lie in \(0, inf\], got 0"),
        ({"c4": 0}, r"c4 must lie in \(0, inf\], got 0"),
        ({"beta": 2}, r"beta must lie in \[0, 1\], got 2"),
        ({"detach": 1}, "detach must be true or false, got 1"),
        ({"pixel_term": "ce", "mode": "multilabel"}, "pixel_term must be one of 'bce', 'none', got 'ce'"),
    ],
)
def test_keywords_of_the_structural_similarity_loss_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        L.StructuralSimilarityLoss(**options)


def test_shapes_that_do_not_fit_are_explained():
    z, y = batch()
    small = r"RMILoss\(radius=3, pool='avg', stride=20\) makes maps of 2 x 2 of logits of 20 x 24 pixels, .* smaller stride"
    with pytest.raises(ValueError, match=small):
        L.RMILoss(stride=20)(z, y)
    with pytest.raises(ValueError, match="makes maps of 0 x 0"):
        L.RMILoss(pool="interp", stride=30)(z, y)
    with pytest.raises(ValueError, match=r"RMILoss is for 2 spatial dimensions; the logits have shape \(2, 3, 20, 4, 6\)"):
        L.RMILoss()(z.reshape(2, 3, 20, 4, 6), y.reshape(2, 20, 4, 6))


# -- structural similarity


def test_structure_counts_only_where_it_is_violated():
    """A right but faint prediction of the same structure costs nothing beyond its cross-entropy; a shifted edge does."""
    y = torch.zeros(1, 12, 12, dtype=torch.long)
    y[:, :, 6:] = 1
    loss = L.StructuralSimilarityLoss(mode="binary", pixel_term="none", c4=1e-6)
    sign = 2.0 * y[:, None].double() - 1
    assert loss(2 * sign, y) == pytest.approx(0, abs=1e-4)  # standardised, both are the same
    later = torch.where(torch.arange(12) < 9, -2.0, 2.0).double().expand_as(sign)
    assert loss(later, y) > 0.5
    e = loss.dissimilarity(read_maps(later, y, "binary", 255))
    assert e.amax((0, 1, 2)).gt(1e-3).nonzero().flatten().tolist() == [5, 6, 8, 9]  # both edges


def test_detached_weights_have_the_value_but_not_the_gradient():
    z, y = batch()
    z.requires_grad_()
    whole, detached = (L.StructuralSimilarityLoss(detach=detach)(z, y) for detach in (False, True))
    assert torch.equal(whole, detached)
    (full,), (part,) = torch.autograd.grad(whole, z), torch.autograd.grad(detached, z)
    assert (full - part).norm() > 0.05 * full.norm()
    # the weighted cross-entropy alone
    maps = read_maps(z, y, "multiclass", 255)
    loss = L.StructuralSimilarityLoss(pixel_term="none")
    e = loss.dissimilarity(maps).detach()
    f = (e > 0.1 * e.max()).double()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(z, maps.truth, reduction="none")
    (expected,) = torch.autograd.grad(0.5 * (e * f * bce).sum() / f.sum() + 0.5 * bce.sum() / y.numel(), z)
    torch.testing.assert_close(part, expected)


def test_lots_do_not_change_the_structural_similarity_loss(monkeypatch):
    z, y = batch()
    z.requires_grad_()
    found = []
    for lot in (1, 1 << 20):
        monkeypatch.setattr("evenseg.losses.structural_similarity.LOT_VALUES", lot)
        value = L.StructuralSimilarityLoss(window_size=7)(z, y)
        found.append((value.detach(), torch.autograd.grad(value, z)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)
