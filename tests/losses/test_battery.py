"""Values and gradients of every loss against the oracle, and every engine against the float64 truth."""

import numpy as np
import pytest
import torch
from cases import BASIC, CASES, batch, close, evaluate, relative, saturated

from evenseg import functional
from evenseg.losses import LOSSES
from evenseg.losses.edge_network import EdgeNetwork
from evenseg.losses.maps import MapLoss
from oracles import segmentation as oracle

BIN = 1 / 4096
HINGE_BIN = 16 / 4096  # relative to 1 + m

every = pytest.mark.parametrize("case", CASES, ids=str)
basic = pytest.mark.parametrize("case", BASIC, ids=str)
engines = pytest.mark.parametrize("engine", ["eager", "numba"])


def test_every_statistic_loss_is_in_the_table():
    assert {case.loss for case in CASES} == {name for name, cls in LOSSES.items() if not issubclass(cls, MapLoss)}


def assert_matches(case, value, truth, tolerance):
    if case.exact:
        assert close(value, truth, tolerance), f"{value.item():.12g} instead of {truth:.12g}"
    else:  # a histogram is never above the exact value, and less than a bin width of the largest error below it
        slack = tolerance * max(1.0, abs(truth))
        assert truth - max(1.0, truth) * HINGE_BIN - slack <= value.item() <= truth + slack


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_value_float64(case, seed):
    b = batch(case, seed=seed)
    z, y = b.numpy()
    assert_matches(case, case.build(engine="eager")(b.z, b.y), case.oracle(z, y), 1e-9)


@every
@engines
def test_value_float32(case, engine):
    b = batch(case).to(torch.float32)
    z, y = b.numpy()
    value = case.build(engine=engine)(b.z, b.y)
    assert value.dtype == torch.float32
    assert value.dim() == 0
    assert_matches(case, value, case.oracle(z, y), 1e-5)


@every
@engines
def test_value_with_pixel_weights(case, engine):
    b = batch(case)
    weight = torch.randint(0, 4, b.y.shape if case.target == "labels" else b.y[:, 0].shape, generator=torch.manual_seed(5)) / 2
    z, y = b.numpy()
    value = case.build(engine=engine)(b.z.float(), b.y, pixel_weight=weight)
    assert_matches(case, value, case.oracle(z, y, weight.reshape(len(z), -1).numpy()), 1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c.soft], ids=str)
def test_value_soft_labels(case):
    b = batch(case, soft=True)
    z, y = b.numpy()
    assert_matches(case, case.build()(b.z, b.y), case.oracle(z, y), 1e-9)
    assert_matches(case, case.build()(b.z.float(), b.y.float()), case.oracle(z, y), 1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c.soft], ids=str)
def test_one_hot_soft_labels_mean_the_labels(case):
    b = batch(case)
    ignored = b.y == 255
    if case.target == "maps":
        soft, hard = b.y.double(), b.y
        soft = soft.where(~ignored, 0.0)
        hard = hard.where(~ignored, 0)
    elif case.channels == 1:
        soft = hard = b.y
        soft = b.y[:, None].double()
    else:
        hard = b.y
        soft = torch.nn.functional.one_hot(b.y.where(~ignored, 0), case.channels).movedim(-1, 1).double()
        soft = soft.where(~ignored[:, None], 255.0)
    loss = case.build(engine="eager")
    if case.loss == "CrossEntropyLoss" and loss.weight is not None:
        return_to = (loss.weight.double()[b.y.where(~ignored, 0)] * ~ignored).sum() / (~ignored).sum()
    else:  # weighted soft labels are divided by the number of pixels
        return_to = 1.0
    assert close(loss(b.z, soft), loss(b.z, hard) * return_to, 1e-9)


@every
def test_gradient_by_differences(case):
    """The truth for the gradient knows nothing of autograd. Small, because differences are slow."""
    b = batch(case, images=2, spatial=(9,))
    z, y = b.numpy()
    if case.exact:
        loss, tolerance = (lambda x: case.oracle(x, y)), 1e-6
    else:  # between two bin changes the histogram loss is linear in the errors
        module = case.build(engine="eager")
        loss, tolerance = (lambda x: module(torch.from_numpy(x), b.y.reshape(b.y.shape)).item()), 1e-5
    truth = torch.from_numpy(oracle.gradient(loss, z, 1e-6))
    _, gradient = evaluate(case.build(engine="eager"), b.z, b.y)
    assert relative(gradient / -1.7, truth.reshape(gradient.shape)) < tolerance


@every
@pytest.mark.parametrize("spatial", [(4, 6), (37, 31)], ids=["small", "several blocks"])
def test_engines_agree(case, spatial):
    """The kernels may be no further from the float64 truth than plain torch is, in value and gradient."""
    b = batch(case, spatial=spatial)
    z = b.z.float()
    truth, true_gradient = evaluate(case.build(engine="eager"), z.double(), b.y)
    eager, eager_gradient = evaluate(case.build(engine="eager"), z, b.y)
    fused, fused_gradient = evaluate(case.build(engine="numba"), z, b.y)
    # rounding may move an error into the next bin, and its weight with it
    value_slack, slack = (1e-6, 3e-6) if case.exact else (1e-5, 1e-3)
    assert abs(fused - truth) <= abs(eager - truth) + value_slack * max(1.0, abs(truth.item()))
    assert fused_gradient.dtype == torch.float32
    assert relative(fused_gradient, true_gradient) <= relative(eager_gradient, true_gradient) + slack


@every
@engines
def test_gradient_is_linear_in_the_upstream_factor(case, engine):
    b = batch(case).to(torch.float32)
    z = b.z.requires_grad_()
    value = case.build(engine=engine)(z, b.y)
    (one,) = torch.autograd.grad(value, z, torch.tensor(1.0), retain_graph=True)
    (three,) = torch.autograd.grad(value, z, torch.tensor(-3.0))
    assert relative(three, -3 * one) < 1e-5
    assert one.norm() > 0


@every
def test_per_image_is_the_mean_of_the_images(case):
    b = batch(case).to(torch.float32)
    loss = case.build(per_image=True)
    parts = [loss(b.z[n : n + 1], b.y[n : n + 1]) for n in range(len(b.z))]
    assert close(loss(b.z, b.y), torch.stack(parts).mean(), 1e-6)


@every
@engines
def test_a_wholly_ignored_image_is_left_out(case, engine):
    b = batch(case).to(torch.float32)
    y = b.y.clone()
    y[1] = 255
    loss = case.build(per_image=True, engine=engine)
    value, gradient = evaluate(loss, b.z, y)
    assert close(value, (loss(b.z[:1], y[:1]) + loss(b.z[2:], y[2:])) / 2, 1e-6)
    assert not gradient[1].any()
    assert gradient[0].any()


@basic
@engines
def test_any_number_of_spatial_dimensions(case, engine):
    b = batch(case).to(torch.float32)
    n, c = b.z.shape[:2]
    loss = case.build(engine=engine)
    expected = loss(b.z, b.y)
    tail = (c,) if case.target == "maps" else ()
    for spatial in [(24,), (2, 3, 4)]:
        assert close(loss(b.z.reshape(n, c, *spatial), b.y.reshape(n, *tail, *spatial)), expected, 1e-6)
    if not case.per_image:  # and none: a batch of pixels
        y = b.y.movedim(1, -1).reshape(-1, c) if case.target == "maps" else b.y.reshape(-1)
        rows = b.z.movedim(1, -1).reshape(-1, c)
        if "min_kept_per_image" not in case.options:
            assert close(loss(rows, y), expected, 1e-6)


@every
def test_range_and_perfect_prediction(case):
    b = batch(case, ignored=0.0)
    loss = case.build(engine="eager")
    wrong, random = loss(saturated(case, b, right=False), b.y).item(), loss(b.z, b.y).item()
    right = loss(saturated(case, b), b.y).item()
    for value in (right, random, wrong):
        assert -1e-9 <= value <= case.high + 1e-9
    if case.perfect is None:
        assert right > 0
    else:
        assert abs(right - case.perfect) < 1e-4
    if case.perfect is not None or case.loss == "ExponentialLogarithmicLoss":
        assert right < random < wrong + 1e-9


@every
@engines
def test_saturated_logits(case, engine):
    b = batch(case)
    for right in (True, False):
        value, gradient = evaluate(case.build(engine=engine), saturated(case, b, right).float(), b.y)
        assert value.isfinite()
        assert gradient.isfinite().all()
    expected = case.build(engine="eager")(saturated(case, b, False), b.y)
    assert close(value, expected, 1e-5)


@basic
def test_function_is_the_module(case):
    if case.loss == "MixedLoss":
        assert not hasattr(functional, "mixed_loss")  # a mix holds modules; it has no functional form
        return
    b = batch(case).to(torch.float32)
    names = {f.__doc__.split("the module ")[1].split()[0]: f for f in map(functional.__dict__.get, functional.__all__)}
    weight = torch.rand(b.y.shape if case.target == "labels" else b.y[:, 0].shape)
    function = names[case.loss]
    assert torch.equal(function(b.z, b.y, **case.options), case.build()(b.z, b.y))
    weighted = function(b.z, b.y, pixel_weight=weight, **case.options)
    assert torch.equal(weighted, case.build()(b.z, b.y, pixel_weight=weight))
    assert not torch.equal(weighted, case.build()(b.z, b.y))


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "MixedLoss"])
def test_every_loss_builds_with_defaults(name):
    loss = LOSSES[name](**{"edges": EdgeNetwork(3, hidden=4)} if name == "SemanticEdgeAwareLoss" else {})
    z = torch.randn(2, 1 if loss.mode == "binary" else 3, 8, 8, generator=torch.manual_seed(0))
    every = {"image": torch.rand(2, 3, 8, 8), "features": torch.randn(2, 4, 4, 4)}
    context = {key: every[key] for key in getattr(loss, "requires", ())}
    y = torch.randint(0, 2, (2, 8, 8))
    value = loss(z, y, **context)
    assert value.isfinite()
    assert value != 0
    assert name.removesuffix("Loss") in repr(loss)
    weight = torch.rand(2, 8, 8)
    assert not torch.equal(loss(z, y, pixel_weight=weight, **context), value), "every loss takes pixel weights"


@pytest.mark.parametrize("case", [c for c in CASES if c.soft and c.high < np.inf], ids=str)
def test_region_losses_are_smallest_at_the_soft_label(case):
    """L(t, t) = min over p of L(p, t): neither a sharper nor a flatter prediction may be cheaper."""
    b = batch(case, soft=True, ignored=0.0)
    t = b.y.clamp(1e-4, 1 - 1e-4)
    z = t.log() if case.mode == "multiclass" else t.logit()
    if case.mode == "multiclass":
        t = z.softmax(1)
    loss = case.build()
    best = loss(z, t)
    assert best <= 1e-4
    for other in (2 * z, 0.5 * z, z + 0.1 * torch.randn(z.shape, generator=torch.manual_seed(1))):
        assert loss(other, t) > best


@pytest.mark.parametrize("case", [c for c in BASIC if c.weight_repeats], ids=str)
def test_compiles_without_a_graph_break(case):
    """All but the losses that choose a number of pixels on the host: docs/losses.md names them."""
    b = batch(case).to(torch.float32)
    loss = case.build()
    value, gradient = evaluate(loss, b.z, b.y)
    torch._dynamo.reset()
    compiled, compiled_gradient = evaluate(torch.compile(loss, fullgraph=True, backend="aot_eager"), b.z, b.y)
    assert close(compiled, value, 1e-5)
    assert relative(compiled_gradient, gradient) < 1e-3
