"""The losses on whole maps against the oracle, and what the contract says of every loss."""

import copy

import pytest
import torch
from cases import close, relative
from map_cases import BASIC, CASES, map_batch

from evenseg import build_loss
from evenseg.losses import LOSSES, MixedLoss
from evenseg.losses.maps import MapLoss

every = pytest.mark.parametrize("case", CASES, ids=str)
basic = pytest.mark.parametrize("case", BASIC, ids=str)


def evaluate(loss, z, y, **call):
    """Value and gradient, with an upstream factor that is not 1."""
    z = z.detach().clone().requires_grad_()
    value = loss(z, y, **call)
    (gradient,) = torch.autograd.grad(value, z, torch.tensor(-1.7, dtype=value.dtype))
    return value.detach(), gradient


def ignored(case, b):
    out = b.y == 255
    return out if case.target == "maps" or b.y.dim() == b.z.dim() else out[:, None].expand_as(b.z)


def label_shape(case, b):
    return (b.z.shape[0], *b.z.shape[2:])


def left_out(case, b, where):
    """The target, and the pixel weights if need be, that leave pixels (N, *spatial) out."""
    if not case.uses_labels:
        return b.y, {"pixel_weight": (~where).to(b.z.dtype)}
    return torch.where(where[:, None] if case.target == "maps" else where, 255, b.y), {}


def test_every_loss_on_maps_is_in_the_table():
    assert {case.loss for case in CASES} == {name for name, cls in LOSSES.items() if issubclass(cls, MapLoss)}


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_value(case, seed):
    b = map_batch(case, seed=seed)
    z, y, context = b.numpy()
    truth = case.oracle(z, y, None, **context)
    value = case.build()(b.z, b.y, **b.context)
    assert value.dtype == torch.float64
    assert close(value, truth, case.tolerance64)
    assert case.low - 1e-9 <= value.item() <= case.high + 1e-9
    small = b.float()
    single = case.build()(small.z, small.y, **small.context)
    assert single.dtype == torch.float32
    assert single.dim() == 0
    assert close(single, case.oracle(*small.numpy()[:2], None, **small.numpy()[2]), case.tolerance32)


@every
def test_value_with_pixel_weights(case):
    b = map_batch(case)
    weight = torch.randint(0, 4, label_shape(case, b), generator=torch.manual_seed(5)) / 2
    z, y, context = b.numpy()
    value = case.build()(b.z, b.y, pixel_weight=weight, **b.context)
    assert close(value, case.oracle(z, y, weight.double().numpy(), **context), case.tolerance64)


@pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=str)
def test_gradient_by_differences(case):
    """Along random directions; the truth knows nothing of autograd."""
    b = map_batch(case)
    z, y, context = b.numpy()
    _, gradient = evaluate(case.build(), b.z, b.y, **b.context)
    gradient = gradient / -1.7
    for seed in range(3):
        direction = torch.randn(b.z.shape, generator=torch.manual_seed(seed), dtype=torch.float64)
        step = 1e-6
        up, down = (case.oracle(z + s * step * direction.numpy(), y, None, **context) for s in (1, -1))
        slope = (up - down) / (2 * step)
        scale = gradient.norm().item() * direction.norm().item() / direction.numel() ** 0.5
        assert abs((gradient * direction).sum().item() - slope) <= 1e-5 * max(abs(slope), scale) + 1e-9


@every
def test_gradient_is_linear_in_the_upstream_factor(case):
    b = map_batch(case).float()
    z = b.z.requires_grad_()
    value = case.build()(z, b.y, **b.context)
    (one,) = torch.autograd.grad(value, z, torch.tensor(1.0), retain_graph=True)
    (three,) = torch.autograd.grad(value, z, torch.tensor(-3.0))
    assert relative(three, -3 * one) < 1e-5
    assert one.norm() > 0


@every
@pytest.mark.parametrize("junk", [1e4, float("nan")], ids=["large", "nan"])
def test_logits_under_ignored_pixels_do_not_matter(case, junk):
    b = map_batch(case).float()
    out, y, weights = ignored(case, b), b.y, {}
    assert out.any()
    if not case.uses_labels:
        out = torch.rand(label_shape(case, b), generator=torch.manual_seed(4)) < 0.2
        y, weights = left_out(case, b, out)
        out = out[:, None].expand_as(b.z)
    value, gradient = evaluate(case.build(), b.z, y, **weights, **b.context)
    spoilt, spoilt_gradient = evaluate(case.build(), b.z.masked_fill(out, junk), y, **weights, **b.context)
    assert torch.equal(value, spoilt)
    assert torch.equal(gradient, spoilt_gradient)
    assert not gradient[out].any()


@every
def test_nothing_valid_is_zero_with_a_graph(case):
    b = map_batch(case).float()
    everything = torch.ones(label_shape(case, b), dtype=torch.bool)
    y, weights = left_out(case, b, everything)
    value, gradient = evaluate(case.build(), torch.full_like(b.z, float("nan")), y, **weights, **b.context)
    assert value.item() == 0.0
    assert not gradient.any()
    weightless = torch.zeros(label_shape(case, b))
    value, gradient = evaluate(case.build(), b.z, b.y, pixel_weight=weightless, **b.context)
    assert value.item() == 0.0
    assert not gradient.any()


@every
def test_an_ignored_image_changes_nothing_for_the_others(case):
    b = map_batch(case, images=3).float()
    out = torch.zeros(label_shape(case, b), dtype=torch.bool)
    out[1] = True
    y, weights = left_out(case, b, out)
    value, gradient = evaluate(case.build(), b.z, y, **weights, **b.context)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[1].any()


@every
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_saturated(case, right):
    b = map_batch(case, ignored=False).float()
    on = b.y == 1 if case.target == "maps" else (b.y == 1)[:, None] if case.channels == 1 else None
    if on is None:
        shown = b.y if right else (b.y + 1) % case.channels
        on = torch.nn.functional.one_hot(shown, case.channels).movedim(-1, 1) == 1
    elif not right:
        on = ~on
    value, gradient = evaluate(case.build(), torch.where(on, 1e4, -1e4).float(), b.y, **b.context)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert case.low - 1e-4 <= value <= case.high + 1e-4
    if right and case.perfect is not None:
        assert close(value, case.perfect, 1e-5)


@basic
def test_one_valid_pixel_one_class_and_an_absent_class(case):
    b = map_batch(case, ignored=False).float()
    alone = torch.full_like(b.y, 255)
    alone[(1, slice(None), 2, 3) if case.target == "maps" else (1, 2, 3)] = 1
    last = max(case.channels, 2) - 1
    absent = b.y.where(b.y != last, 0)
    for y in (alone, torch.zeros_like(b.y), torch.ones_like(b.y), absent):
        value, gradient = evaluate(case.build(), b.z, y, **b.context)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert case.low - 1e-5 <= value <= case.high + 1e-5


@pytest.mark.parametrize("case", [c for c in CASES if LOSSES[c.loss].soft_labels and c.target == "labels"], ids=str)
def test_soft_labels(case):
    """Probabilities 0 and 1 are labels; others count, and 255 in all channels is ignored."""
    b = map_batch(case)
    valid = (b.y != 255)[:, None]
    classes = torch.arange(case.channels)[:, None, None] if case.channels > 1 else torch.ones(1, 1, 1).long()
    hot = torch.where(valid, (b.y[:, None] == classes).double(), 255.0)
    value, gradient = evaluate(case.build(), b.z, b.y, **b.context)
    expected, expected_gradient = evaluate(case.build(), b.z, hot, **b.context)
    assert close(value, expected, 1e-12)
    assert relative(gradient, expected_gradient) < 1e-9
    smoothed = torch.where(valid, 0.9 * hot + 0.1 / max(case.channels, 2), 255.0)
    soft, soft_gradient = evaluate(case.build(), b.z.masked_fill(~valid, float("nan")), smoothed, **b.context)
    assert soft.isfinite()
    assert not close(soft, value, 1e-4)
    assert soft_gradient.isfinite().all()


@every
def test_zero_weight_is_ignored(case):
    b = map_batch(case).float()
    where = torch.rand(label_shape(case, b), generator=torch.manual_seed(3)) < 0.2
    value, gradient = evaluate(case.build(), b.z, b.y, pixel_weight=(~where).float(), **b.context)
    if case.uses_labels:
        expected, expected_gradient = evaluate(case.build(), b.z, left_out(case, b, where)[0], **b.context)
        assert close(value, expected, 1e-6)
        assert relative(gradient, expected_gradient) < 1e-5
    assert not gradient[where[:, None].expand_as(gradient)].any()
    ones, _ = evaluate(case.build(), b.z, b.y, pixel_weight=torch.ones(label_shape(case, b)), **b.context)
    assert close(ones, case.build()(b.z, b.y, **b.context), 1e-6)


@basic
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(case, dtype):
    b = map_batch(case).float()
    z = b.z.to(dtype)
    value, gradient = evaluate(case.build(), z, b.y, **b.context)
    expected, _ = evaluate(case.build(), z.float(), b.y, **b.context)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()
    assert close(value, expected, 1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(case.build()(b.z, b.y, **b.context), case.build()(b.z, b.y, **b.context))
        inside = case.build()(b.z, b.y, **b.context)
    assert close(inside, case.build()(b.z, b.y, **b.context), 1e-6)


@basic
def test_memory_layout_and_type_of_labels_do_not_matter(case):
    b = map_batch(case).float()
    value, gradient = evaluate(case.build(), b.z, b.y, **b.context)
    last = b.z.contiguous(memory_format=torch.channels_last)
    crossed = b.z.transpose(2, 3).contiguous().transpose(2, 3)
    for z in (last, crossed):
        again, again_gradient = evaluate(case.build(), z, b.y, **b.context)
        assert close(again, value, 1e-6)
        assert relative(again_gradient, gradient) < 1e-4
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(evaluate(case.build(), b.z, b.y.to(dtype), **b.context)[0], value)
    signed = b.y.where(b.y != 255, -1).to(torch.int8)
    assert torch.equal(evaluate(case.build(ignore_index=-1), b.z, signed, **b.context)[0], value)


@every
def test_inputs_are_never_written(case):
    b = map_batch(case).float()
    weight = torch.rand(label_shape(case, b))
    tensors = [b.z.requires_grad_(), b.y, weight, *b.context.values()]
    kept, versions = [t.detach().clone() for t in tensors], [t._version for t in tensors]
    case.build()(b.z, b.y, pixel_weight=weight, **b.context).backward()
    assert [t._version for t in tensors] == versions
    for now, before in zip(tensors, kept):
        assert torch.equal(now.detach(), before)


@basic
def test_in_a_mix_and_from_yaml(case):
    b = map_batch(case).float()
    alone = case.build()(b.z, b.y, **b.context)
    other = LOSSES["DiceLoss"](mode=case.mode, engine="eager")
    mix = MixedLoss([other, case.build()], coef=[0.5, 2.0])
    assert mix.requires == case.requires
    assert close(mix(b.z, b.y, **b.context), 0.5 * other(b.z, b.y) + 2 * alone, 1e-5)
    built = build_loss({"types": [{"type": case.loss, **case.options}], "coef": [1]})
    assert close(built([b.z], b.y, **b.context), alone, 1e-6)
    assert close(copy.deepcopy(case.build())(b.z, b.y, **b.context), alone, 1e-6)


@pytest.mark.parametrize("case", {c.loss: c for c in BASIC[::-1] if c.fullgraph}.values(), ids=str)
def test_compiles_without_a_graph_break(case):
    b = map_batch(case).float()
    loss = case.build()
    value, gradient = evaluate(loss, b.z, b.y, **b.context)
    torch._dynamo.reset()
    compiled, compiled_gradient = evaluate(torch.compile(loss, fullgraph=True, backend="aot_eager"), b.z, b.y, **b.context)
    assert close(compiled, value, 1e-5)
    assert relative(compiled_gradient, gradient) < 1e-4


@basic
def test_mistakes_are_explained(case):
    b = map_batch(case).float()
    loss = case.build()
    with pytest.raises(ValueError, match="target has shape"):
        loss(b.z, b.y[..., :-1], **b.context)
    with pytest.raises(ValueError, match=r"outside the classes .* 77 \("):
        loss(b.z, b.y.where(b.y != 1, 77), **b.context)
    with pytest.raises(ValueError, match="floating point"):
        loss(b.z.long(), b.y, **b.context)
    with pytest.raises(ValueError, match="has no keyword 'smoth'"):
        case.build(smoth=1)
    with pytest.raises(ValueError, match="takes no 'picture'"):
        loss(b.z, b.y, picture=b.z, **b.context)
    if case.requires:
        with pytest.raises(ValueError, match=f"needs {case.requires[0]}"):
            loss(b.z, b.y)
