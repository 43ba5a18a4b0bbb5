"""What the input may look like: ignored and weighted pixels, types, memory layouts, degenerate masks."""

import pytest
import torch
from cases import BASIC, CASES, batch, close, evaluate, relative

every = pytest.mark.parametrize("case", CASES, ids=str)
basic = pytest.mark.parametrize("case", BASIC, ids=str)
engines = pytest.mark.parametrize("engine", ["eager", "numba"])


def label_shaped(case, y):
    """A tensor of one value per pixel of the same batch."""
    return y[:, 0] if case.target == "maps" else y


def ignored_logits(case, b):
    """(N, C, *) bool: the logits under ignored pixels."""
    return b.y == 255 if case.target == "maps" else (b.y == 255)[:, None].expand_as(b.z)


@every
@engines
@pytest.mark.parametrize("junk", [float("nan"), -float("inf")])
def test_ignored_pixels_do_not_matter(case, engine, junk):
    b = batch(case).to(torch.float32)
    out = ignored_logits(case, b)
    assert out.any()
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    spoilt, spoilt_gradient = evaluate(loss, b.z.masked_fill(out, junk), b.y)
    assert torch.equal(value, spoilt)
    assert torch.equal(gradient, spoilt_gradient)
    assert not gradient[out].any()
    assert gradient[~out].any()


@every
@engines
def test_all_ignored_is_zero_with_a_graph(case, engine):
    b = batch(case).to(torch.float32)
    for per_image in (False, True):
        loss = case.build(engine=engine, per_image=per_image)
        value, gradient = evaluate(loss, torch.full_like(b.z, float("nan")), torch.full_like(b.y, 255))
        assert value.item() == 0.0
        assert not gradient.any()
    weightless = torch.zeros(label_shaped(case, b.y).shape)
    value, gradient = evaluate(case.build(engine=engine), b.z, b.y, pixel_weight=weightless)
    assert value.item() == 0.0
    assert not gradient.any()


@basic
@engines
def test_one_valid_pixel(case, engine):
    b = batch(case, ignored=0.0, scale=0.3).to(torch.float32)
    y = torch.full_like(b.y, 255)
    where = (1, slice(None), 2, 3) if case.target == "maps" else (1, 2, 3)
    y[where] = 1
    value, gradient = evaluate(case.build(engine=engine), b.z, y)
    alone = (b.z[1:2, :, 2:3, 3:4], y[1:2, ..., 2:3, 3:4])
    assert close(value, case.build(engine="eager")(*alone), 1e-5)
    assert value > 0
    assert gradient.isfinite().all()
    touched = torch.zeros_like(b.z, dtype=torch.bool)
    touched[1, :, 2, 3] = True
    assert not gradient[~touched].any()


@every
@engines
def test_absent_class(case, engine):
    """A class without labels: finite, in range, and its absence from a mean over present classes is exact."""
    b = batch(case).to(torch.float32)
    y = b.y.where((b.y != max(case.channels - 1, 1)) | (b.y == 255), 0)
    value, gradient = evaluate(case.build(engine=engine), b.z, y)
    z64, y64 = b.numpy()[0], y.reshape(len(y), *((case.channels, -1) if case.target == "maps" else (-1,))).numpy()
    truth = case.oracle(z64, y64)
    assert close(value, truth, 1e-5 if case.exact else 5e-3)
    assert gradient.isfinite().all()
    assert 0 <= value <= case.high + 1e-6


@basic
@engines
def test_no_class_but_one(case, engine):
    """Masks of a single class, the background among them: empty and full masks."""
    b = batch(case, ignored=0.0).to(torch.float32)
    for only in (0, 1):
        y = torch.full_like(b.y, only)
        value, gradient = evaluate(case.build(engine=engine), b.z, y)
        n, c = b.z.shape[:2]
        flat = y.reshape(n, *((c, -1) if case.target == "maps" else (-1,)))
        assert close(value, case.oracle(b.numpy()[0], flat.numpy()), 1e-5 if case.exact else 5e-3)
        assert gradient.isfinite().all()


@every
@engines
def test_zero_weight_is_ignored(case, engine):
    b = batch(case).to(torch.float32)
    where = torch.rand(label_shaped(case, b.y).shape, generator=torch.manual_seed(3)) < 0.3
    y = torch.where(where[:, None] if case.target == "maps" else where, 255, b.y)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y, pixel_weight=(~where).float())
    expected, expected_gradient = evaluate(loss, b.z, y)
    assert close(value, expected, 1e-5)
    # weighted histograms have no exact ranks
    assert relative(gradient, expected_gradient) < (1e-4 if case.exact else 2e-2)
    assert not gradient[where[:, None].expand_as(gradient)].any()


@every
@engines
def test_weights_of_one_change_nothing(case, engine):
    b = batch(case).to(torch.float32)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    weighted, weighted_gradient = evaluate(loss, b.z, b.y, pixel_weight=torch.ones(label_shaped(case, b.y).shape))
    assert close(weighted, value, 1e-5 if case.exact else 1e-4)
    assert relative(weighted_gradient, gradient) < (1e-5 if case.exact else 2e-2)
    channel = torch.ones(label_shaped(case, b.y).shape)[:, None]
    assert torch.equal(loss(b.z, b.y, pixel_weight=channel), weighted)  # (N, 1, *spatial) is the same map


@pytest.mark.parametrize("case", [c for c in CASES if c.weight_repeats], ids=str)
@engines
def test_integer_weights_repeat_pixels(case, engine):
    b = batch(case).to(torch.float32)
    n, c = b.z.shape[:2]
    weight = torch.randint(0, 4, (24,), generator=torch.manual_seed(3))
    flat = b.y.reshape(n, *((c, -1) if case.target == "maps" else (-1,)))
    loss = case.build(engine=engine)
    repeated = loss(b.z.reshape(n, c, -1).repeat_interleave(weight, -1), flat.repeat_interleave(weight, -1))
    weighted = loss(b.z.reshape(n, c, -1), flat, pixel_weight=weight.expand(n, -1))
    assert close(weighted, repeated, 1e-5 if case.exact else 1e-4)


@basic
@engines
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(case, engine, dtype):
    b = batch(case).to(dtype)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    expected, expected_gradient = evaluate(loss, b.z.float(), b.y)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert close(value, expected, 1e-3)
    assert relative(gradient, expected_gradient) < 1e-2
    assert close(value, case.build(engine="eager")(batch(case).z, b.y), 2e-2)


@basic
def test_autocast(case):
    """Under autocast a model's output is in half precision; nothing inside the loss may be."""
    b = batch(case).to(torch.float32)
    layer = torch.nn.Conv2d(case.channels, case.channels, 1)
    loss = case.build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = layer(b.z)
        assert z.dtype == torch.bfloat16
        value = loss(z, b.y)
        inside = loss(z.float(), b.y)
    assert value.dtype == torch.float32
    assert torch.equal(value, inside)
    assert torch.equal(value, loss(z.float(), b.y))
    value.backward()
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["DiceLoss", "JaccardLoss", "LovaszSoftmaxLoss", "CrossEntropyLoss"])
def test_half_precision_on_a_large_image(name, dtype):
    """A million pixels: sums far beyond the largest half-precision number, counts beyond the integers it holds."""
    case = next(c for c in BASIC if c.loss == name and c.mode == "multiclass")
    g = torch.Generator().manual_seed(0)
    z = (3 * torch.randn(1, 3, 1024, 1024, generator=g)).to(dtype)
    y = torch.randint(0, 3, (1, 1024, 1024), generator=g).to(torch.uint8)
    value, gradient = evaluate(case.build(), z, y)
    expected, _ = evaluate(case.build(), z.float(), y)
    assert close(value, expected, 1e-3)
    assert gradient.isfinite().all()


@basic
@engines
def test_memory_layout_does_not_matter(case, engine):
    b = batch(case).to(torch.float32)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    weight = torch.rand(label_shaped(case, b.y).shape)
    weighted = loss(b.z, b.y, pixel_weight=weight)
    layouts = {
        "channels last": b.z.contiguous(memory_format=torch.channels_last),
        "transposed": b.z.transpose(2, 3).contiguous().transpose(2, 3),
        "every other": torch.stack([b.z, b.z], -1).flatten(-2)[..., ::2],
    }
    y = b.y.transpose(-1, -2).contiguous().transpose(-1, -2)
    w = weight.transpose(-1, -2).contiguous().transpose(-1, -2)
    for name, z in layouts.items():
        z = z.detach().requires_grad_()
        out = loss(z, y)
        (grad,) = torch.autograd.grad(out, z, torch.tensor(-1.7))
        assert torch.equal(out, value), name
        assert torch.equal(grad, gradient), name
        assert torch.equal(loss(z, y, pixel_weight=w), weighted), name


@basic
@engines
def test_labels_of_every_type(case, engine):
    b = batch(case).to(torch.float32)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    integers = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]
    floats = [] if case.target == "maps" else [torch.float32, torch.float64]  # float maps are tested as such
    for dtype in integers + floats:
        out, grad = evaluate(loss, b.z, b.y.to(dtype))
        assert torch.equal(out, value), dtype
        assert torch.equal(grad, gradient), dtype
    signed = b.y.where(b.y != 255, -1).to(torch.int8)
    for dtype in (torch.int8, torch.int64):
        assert torch.equal(case.build(engine=engine, ignore_index=-1)(b.z, signed.to(dtype)), value), dtype
    binary = b.y == 1
    assert torch.equal(loss(b.z, binary), loss(b.z, binary.long()))


@pytest.mark.parametrize("case", [c for c in BASIC if c.target == "maps"], ids=str)
def test_float_maps_of_whole_numbers_are_labels(case):
    b = batch(case).to(torch.float32)
    assert torch.equal(case.build()(b.z, b.y.float()), case.build()(b.z, b.y))


@every
@engines
def test_inputs_are_never_written(case, engine):
    b = batch(case).to(torch.float32)
    weight = torch.rand(label_shaped(case, b.y).shape)
    z = b.z.requires_grad_()
    kept = [t.detach().clone() for t in (z, b.y, weight)]
    versions = [t._version for t in (z, b.y, weight)]
    case.build(engine=engine)(z, b.y, pixel_weight=weight).backward()
    assert [t._version for t in (z, b.y, weight)] == versions
    for now, before in zip((z, b.y, weight), kept):
        assert torch.equal(now.detach(), before)


PER_CLASS = ("weight", "classes", "alpha", "frequencies", "pos_weight")


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.mode == "multiclass" and not any(k in c.options for k in PER_CLASS)], ids=str
)
def test_renaming_the_classes_changes_nothing(case):
    b = batch(case)
    order = torch.tensor([2, 0, 3, 1] if case.channels == 4 else [1, 0])
    name = torch.empty_like(order)
    name[order] = torch.arange(len(order))
    y = torch.where(b.y == 255, 255, name[b.y.where(b.y != 255, 0)])
    loss = case.build(engine="eager")
    value, gradient = evaluate(loss, b.z, b.y)
    renamed, renamed_gradient = evaluate(loss, b.z[:, order], y)
    assert close(renamed, value, 1e-9)
    assert relative(renamed_gradient, gradient[:, order]) < 1e-9


@pytest.mark.parametrize("case", [c for c in BASIC if c.channels == 1], ids=str)
@engines
def test_binary_logits_in_three_shapes(case, engine):
    """(N, 1, *), (N, *) and two channels, which mean z1 - z0."""
    b = batch(case).to(torch.float32)
    loss = case.build(engine=engine)
    value, gradient = evaluate(loss, b.z, b.y)
    flat, flat_gradient = evaluate(loss, b.z[:, 0], b.y)
    channel, _ = evaluate(loss, b.z, b.y[:, None])
    assert torch.equal(flat, value)
    assert torch.equal(channel, value)
    assert torch.equal(flat_gradient, gradient[:, 0])
    offset = torch.randn(b.z.shape, generator=torch.manual_seed(0))
    double, pair_gradient = evaluate(loss, torch.cat([offset, b.z + offset], 1), b.y)
    assert close(double, value, 1e-4)
    assert relative(pair_gradient[:, 1:], gradient) < 1e-2
    assert torch.equal(pair_gradient[:, 0], -pair_gradient[:, 1])
    half = torch.cat([offset, b.z + offset], 1).bfloat16()
    assert close(loss(half, b.y), loss(half.float(), b.y), 1e-6)


@basic
def test_no_ignored_label(case):
    """ignore_index=None: every pixel counts, and 255 is a bad label."""
    b = batch(case, ignored=0.0).to(torch.float32)
    loss = case.build(ignore_index=None)
    assert torch.equal(loss(b.z, b.y), case.build()(b.z, b.y))
    y = b.y.clone()
    y.view(-1)[0] = 255
    with pytest.raises(ValueError, match=r"no label is ignored\): 255 \(1 pixel\)"):
        loss(b.z, y)
    other = case.build(ignore_index=0)
    value, gradient = evaluate(other, b.z, b.y)
    out = b.y == 0 if case.target == "maps" else (b.y == 0)[:, None].expand_as(b.z)
    assert value.isfinite()
    assert not gradient[out].any()
