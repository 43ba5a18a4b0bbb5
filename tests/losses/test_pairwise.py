"""The losses on pairs of pixels: values of published codes, identities, blocks, other dimensions, and what they refuse."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from golden_cases import SHARED

from evenseg.functional import dense_crf_loss, dynamic_feature_loss
from evenseg.losses import DenseCRFLoss, DynamicFeatureLoss, pairwise

PAPERS = SHARED / "papers"
needs_shared = pytest.mark.skipif(not PAPERS.is_dir(), reason=f"the full golden files are not at {PAPERS}")
PUBLISHED = {"normalized": False, "max_cells": None, "resize": "nearest"}


def golden(name):
    with np.load(PAPERS / f"{name}.npz") as z:
        return {k: z[k] for k in z.files}


def value_and_gradient(call, logits):
    z = torch.from_numpy(logits).double().requires_grad_()
    value = call(z)
    (gradient,) = torch.autograd.grad(value, z)
    return value.item(), gradient.numpy()


def assert_close(got, value, gradient, tolerance):
    assert abs(got[0] - value) <= tolerance * abs(value)
    assert np.linalg.norm(got[1] - gradient) <= tolerance * np.linalg.norm(gradient)


@needs_shared
@pytest.mark.parametrize(
    "name", ["random_rgb15_xy100_s1", "absent_rgb15_xy100_s1", "random_rgb15_xy8_s1", "random_rgb15_xy100_s0.5"]
)
def test_published_energy_with_the_exact_kernel(name):
    g = golden(f"rloss__{name}")
    hyper = json.loads(str(g["meta"]))["hyper"]
    loss = DenseCRFLoss(sigma_rgb=15, sigma_xy=hyper["sigma_xy"], cell=round(1 / hyper["scale_factor"]), **PUBLISHED)
    target = torch.full(g["labels"].shape, 255)
    image, region = torch.from_numpy(g["images"]), torch.from_numpy(g["roi"])
    exact = value_and_gradient(lambda z: loss(z, target, region, image=image.double()), g["logits"])
    assert_close(exact, g["exact_loss_f64"], g["exact_grad_f64"], 1e-12)
    single = loss(torch.from_numpy(g["logits"]), target, region, image=image)
    assert single.item() == pytest.approx(float(g["exact_loss_f64"]), rel=1e-5)
    # the published code approximates the kernel: 0.57 of the value, nearly the direction of the gradient
    assert 0.52 < float(g["loss_f32"]) / exact[0] < 0.62
    cosine = (exact[1] * g["grad_f32"]).sum() / np.linalg.norm(exact[1]) / np.linalg.norm(g["grad_f32"])
    assert cosine > 0.94


@needs_shared
@pytest.mark.parametrize("case", ["random", "absent"])
def test_energy_with_features(case):
    g = golden(f"ref_dfr__{case}")
    loss = DynamicFeatureLoss(sigma_rgb=15, sigma_xy=100, sigma_features=1, normalize_features=False, **PUBLISHED)
    context = {"image": torch.from_numpy(g["images"]).double(), "features": torch.from_numpy(g["deep"]).double()}
    target, region = torch.full(g["labels"].shape, 255), torch.from_numpy(g["roi"])
    got = value_and_gradient(lambda z: loss(z, target, region, **context), g["logits"])
    assert_close(got, g["loss_f64"], g["grad_f64"], 1e-12)


@needs_shared
def test_gated_crf():
    """PyMIC masks the first pixel of a pair only, and counts pairs with zeros beyond the border in its constant."""
    g = golden("gatedcrf_pymic__random")
    loss = DenseCRFLoss(sigma_rgb=0.1, sigma_xy=6, window=5, self_pairs=False, normalized=False, max_cells=None)
    image, region = torch.from_numpy(g["images"]).double() / 255, torch.from_numpy(g["roi"]).double()
    target, one = torch.full(g["labels"].shape, 255), torch.ones_like(region)

    def agreement(z, weight):
        return -2 * loss(z, target, weight, image=image)

    def theirs(z):
        # sum_ij R_i K_ij S_i S_j by polarisation of sum_ij R_i R_j K_ij S_i S_j
        once = (agreement(z, one + region) - agreement(z, region) - agreement(z, one)) / 2
        return -once / region.sum()

    value, gradient = value_and_gradient(theirs, g["logits"])
    assert np.linalg.norm(gradient - g["grad_f32"]) < 1e-5 * np.linalg.norm(g["grad_f32"])
    constant, (N, _, H, W) = 0.0, image.shape
    y, x = np.mgrid[:H, :W]
    guide = np.concatenate([np.broadcast_to(np.stack([x, y]) / 6, (N, 2, H, W)), image.numpy() / 0.1], 1)
    padded = np.pad(guide, ((0, 0), (0, 0), (5, 5), (5, 5)))
    for down in range(11):
        for right in range(11):
            if (down, right) != (5, 5):
                squared = ((guide - padded[:, :, down : down + H, right : right + W]) ** 2).sum(1)
                constant += (np.exp(-squared / 2) * g["roi"]).sum()
    assert value + constant / g["roi"].sum() == pytest.approx(float(g["loss_f32"]), rel=1e-4)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 9, 11, generator=g, dtype=torch.float64)
    context = {
        "image": torch.rand(2, 3, 9, 11, generator=g, dtype=torch.float64),
        "features": torch.randn(2, 4, 9, 11, generator=g, dtype=torch.float64),
    }
    return logits, torch.full((2, 9, 11), 255), context


def evaluate(loss, batch, **more):
    logits, target, context = batch
    z = logits.clone().requires_grad_()
    value = loss(z, target, **{name: context[name] for name in loss.requires}, **more)
    return value.item(), torch.autograd.grad(value, z)[0]


@pytest.mark.parametrize("pairs", [1, 400, 2000])
@pytest.mark.parametrize("kind", [DenseCRFLoss, DynamicFeatureLoss])
def test_blocks_change_nothing(batch, monkeypatch, kind, pairs):
    whole, gradient = evaluate(kind(sigma_rgb=0.4), batch)
    monkeypatch.setattr(pairwise, "_PAIRS_CPU", pairs)
    value, again = evaluate(kind(sigma_rgb=0.4), batch)
    assert value == pytest.approx(whole, rel=1e-12)
    assert torch.allclose(again, gradient, rtol=1e-10, atol=1e-15)


def test_a_window_over_everything_is_the_dense_kernel(batch):
    dense = evaluate(DynamicFeatureLoss(sigma_rgb=0.4, sigma_xy=5), batch)
    window = evaluate(DynamicFeatureLoss(sigma_rgb=0.4, sigma_xy=5, window=11), batch)
    assert window[0] == pytest.approx(dense[0], rel=1e-12)
    assert torch.allclose(window[1], dense[1], rtol=1e-10, atol=1e-15)


def test_wide_features_leave_the_dense_crf(batch):
    crf, gradient = evaluate(DenseCRFLoss(sigma_rgb=0.4), batch)
    value, again = evaluate(DynamicFeatureLoss(sigma_rgb=0.4, sigma_features=1e6), batch)
    assert value == pytest.approx(crf, rel=1e-9)
    assert torch.allclose(again, gradient, rtol=1e-8, atol=1e-14)


def test_coefficient_for_a_published_weight(batch):
    """weight x energy and coef x loss have the same gradient for coef = weight R'KR (here of one image)."""
    one = batch[0][:1], batch[1][:1], {"image": batch[2]["image"][:1]}
    agreement, energy_gradient = evaluate(DenseCRFLoss(sigma_rgb=0.4, normalized=False), one)
    value, gradient = evaluate(DenseCRFLoss(sigma_rgb=0.4), one)
    pairs = -agreement / (1 - value)
    assert torch.allclose(pairs * gradient, energy_gradient, rtol=1e-9, atol=1e-15)
    assert pairs > 99  # at least every pixel with itself


def test_value_is_what_it_says():
    """Two halves of different colours: the share of pairs given different classes."""
    image = torch.zeros(1, 1, 4, 6)
    image[..., 3:] = 1.0
    target, loss = torch.full((1, 4, 6), 255), DenseCRFLoss(sigma_xy=1e6)

    def value(second):
        return loss(1e3 * torch.stack([1 - second, second], 1), target, image=image).item()

    assert value(image[:, 0]) == pytest.approx(0, abs=1e-6)  # along the edge
    assert value(torch.zeros(1, 4, 6)) == pytest.approx(0, abs=1e-6)  # one class everywhere
    across = torch.zeros(1, 4, 6)
    across[:, :2] = 1.0
    assert value(across) == pytest.approx(0.5, abs=1e-6)  # half of every half
    assert loss(torch.zeros(1, 2, 4, 6), target, image=image).item() == pytest.approx(0.5, abs=1e-6)


def test_gradient_follows_the_kernel_and_not_its_sources(batch):
    logits, target, context = batch
    context = {name: value.clone().requires_grad_() for name, value in context.items()}
    z = logits.clone().requires_grad_()
    DynamicFeatureLoss()(z, target, **context).backward()
    assert z.grad.abs().max() > 0
    assert context["image"].grad is None
    assert context["features"].grad is None


@pytest.mark.parametrize(
    ("size", "most", "side"),
    [((64, 64), 4096, 1), ((65, 64), 4096, 2), ((160, 160), 4096, 3), ((9,), 2, 5), ((8, 8, 8), 8, 4)],
)
def test_cells_are_as_small_as_the_limit_allows(size, most, side):
    assert pairwise.cell_side(size, 1, most) == side
    assert pairwise.cells_of(size, side) <= most
    assert side == 1 or pairwise.cells_of(size, side - 1) > most
    assert pairwise.cell_side(size, 7, None) == 7


@pytest.mark.parametrize("spatial", [(30,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("window", [None, 2])
def test_any_number_of_dimensions(spatial, window):
    """A picture of constant columns says the same in one, two and three dimensions."""
    g = torch.Generator().manual_seed(1)
    logits, image = torch.randn(1, 3, *spatial, generator=g), torch.rand(1, 2, *spatial, generator=g)
    target = torch.full((1, *spatial), 255)
    for cell in (1, 2):
        loss = DenseCRFLoss(sigma_rgb=0.5, sigma_xy=3, window=window, cell=cell)
        value = loss(logits, target, image=image)
        deeper = [x[:, :, None] for x in (logits, image)] if len(spatial) < 3 else None
        assert 0 < value < 1
        if deeper and (cell == 1 or window is None):
            assert loss(deeper[0], target[:, None], image=deeper[1]).item() == pytest.approx(value.item(), rel=1e-5)


def test_bytes_are_levels_and_features_may_be_coarse(batch):
    logits, target, context = batch
    levels = (255 * context["image"]).round().to(torch.uint8)
    as_floats = dense_crf_loss(logits, target, image=levels.double() / 255)
    assert dense_crf_loss(logits, target, image=levels).item() == pytest.approx(as_floats.item(), rel=1e-12)
    assert dense_crf_loss(logits, target, image=levels, sigma_rgb=15).item() == pytest.approx(as_floats.item(), rel=1e-12)
    coarse = context["features"][:, :, ::4, ::4]
    value = dynamic_feature_loss(logits, target, image=levels, features=coarse, max_cells=30)
    assert 0 < value < 1
    assert value != dynamic_feature_loss(logits, target, image=levels, features=coarse.flip(3), max_cells=30)


def test_memory_is_linear_in_pixels(batch):
    """No tensor of pairs outlives its block, and none is kept for the backward pass."""
    P, kept = 40 * 40, []
    logits = torch.randn(1, 2, 40, 40, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        value = DenseCRFLoss()(logits, torch.full((1, 40, 40), 255), image=torch.rand(1, 3, 40, 40))
    value.backward()
    assert kept
    assert max(kept) <= 3 * P


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_rgb": 0}, "sigma_rgb must lie in"),
        ({"sigma_xy": -1}, "sigma_xy must lie in"),
        ({"window": 0}, "window must be an integer of at least 1, got 0"),
        ({"window": 2.5}, "window must be an integer of at least 1, got 2.5"),
        ({"cell": 0}, "cell must be an integer of at least 1"),
        ({"max_cells": 0}, "max_cells must be an integer of at least 1"),
        ({"resize": "bilinear"}, "resize must be one of 'mean', 'nearest'"),
        ({"normalized": 1}, "normalized must be true or false"),
        ({"weight": [1, 2, 3]}, "has no keyword 'weight'"),
        ({"sigma_features": 1}, "has no keyword 'sigma_features'"),
        ({"sigma": 1}, "did you mean 'sigma_xy'|did you mean 'sigma_rgb'"),
    ],
)
def test_keywords(options, message):
    with pytest.raises(ValueError, match=message):
        DenseCRFLoss(**options)


def test_images_and_features_that_do_not_fit(batch):
    logits, target, context = batch
    call = partial(DenseCRFLoss(), logits, target)
    with pytest.raises(ValueError, match=r"image must have shape \(2, 'B', 9, 11\) as the logits, got \(2, 3, 8, 11\)"):
        call(image=context["image"][:, :, 1:])
    with pytest.raises(ValueError, match=r"values from -\d.* to \d.*; with sigma_rgb=0.0588 it must lie in 0..1: undo its normalisation"):
        call(image=4 * (context["image"] - 0.5))
    with pytest.raises(ValueError, match=r"divide 0\.\.255 by 255"):
        call(image=255 * context["image"])
    with pytest.raises(ValueError, match="from nan to nan"):
        call(image=context["image"] * math.nan)
    with pytest.raises(ValueError, match=r"image must hold floats or uint8, got torch.int64"):
        call(image=context["image"].long())
    with pytest.raises(ValueError, match=r"sigma_rgb=15 is for a larger unit; for images in 0..1 it is 0.0588 \(15 / 255\)"):
        DenseCRFLoss(sigma_rgb=15)(logits, target, image=context["image"])
    call = partial(DynamicFeatureLoss(), logits, target, image=context["image"])
    with pytest.raises(ValueError, match=r"features must have shape \(2, D, \*size\) with 2 sizes, got \(2, 9, 11\)"):
        call(features=context["features"][:, 0])
    with pytest.raises(ValueError, match=r"features must be floats, got torch.int64"):
        call(features=context["features"].long())
    with pytest.raises(ValueError, match="DynamicFeatureLoss has no keyword 'sigma_feature'; did you mean 'sigma_features'"):
        DynamicFeatureLoss(sigma_feature=1)
