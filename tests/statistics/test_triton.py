"""The CUDA kernels: on a GPU if there is one, else in Triton's interpreter on the CPU; and compiled for a GPU that is not there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evenseg import losses as L
from evenseg.statistics import Members, explain, segment_statistics

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # without a GPU, conftest.py turns the interpreter on

EVERYTHING = Members(
    prob=True, prob_sq=True, overlap=True, nll=True, nll_all=True, focal=(0.0, 1.5, 2.0), power=(0.3,), hits=True, errors=True,
    absent=True, ranks=True, pixel_nll=True,
)  # fmt: skip
SIGMOID = Members(**{**EVERYTHING.__dict__, "nll_all": False})
CASES = {  # channels, activation, per image, weighted, maps as targets
    "softmax": (4, "softmax", False, False, False),
    "softmax, by image, weighted": (5, "softmax", True, True, False),
    "two classes": (2, "softmax", False, False, False),
    "more classes than registers": (300, "softmax", False, False, False),
    "sigmoid": (1, "sigmoid", False, False, False),
    "hinge, by image": (1, "hinge", True, False, False),
    "hinge, maps, weighted": (3, "hinge", False, True, True),
    "sigmoid, maps": (3, "sigmoid", False, False, True),
    "sigmoid, one against the rest": (3, "sigmoid", True, True, False),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
FLOATS = ("prob", "prob_sq", "overlap", "nll", "nll_rest", "nll_all", "errors", "peak", "pixel_nll")
COUNTS = ("valid", "labels", "predicted", "hits", "error_counts")


def batch(case, seed=0, spatial=(7, 9), images=2):
    C, activation, per_image, weighted, maps = case
    g = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(images, C, *spatial, generator=g)
    if maps:
        y = (torch.rand(images, C, *spatial, generator=g) < 0.3).long()
    else:
        y = torch.randint(0, max(C, 2) - (C > 2), (images, *spatial), generator=g)  # the last of several classes is absent
    y[0, ..., :2, :] = 255
    w = torch.rand(images, *spatial, generator=g) if weighted else None
    z[0, :, :2] = torch.nan  # under ignored pixels anything may stand
    options = {"activation": activation, "per_image": per_image, "pixel_weight": None if w is None else w.to(DEVICE)}
    return z.to(DEVICE), y.to(DEVICE), options


def members_of(case):
    return EVERYTHING if case[1] == "softmax" else SIGMOID


def scalar(stats):
    """One number that depends on every differentiable member, each with random factors."""
    g = torch.Generator().manual_seed(3)

    def factors(x):
        return torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.device)

    found = [getattr(stats, name) for name in FLOATS if getattr(stats, name) is not None]
    found += [x for name in ("focal", "focal_rest", "power") for x in getattr(stats, name).values()]
    return sum((x.double() * factors(x)).sum() for x in found)


def gradient(z, y, members, engine, **options):
    z = z.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    (found,) = torch.autograd.grad(scalar(segment_statistics(z, y, members, engine=engine, **options)), z)
    return found


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@every
def test_every_member_is_its_definition(case):
    z, y, options = batch(case)
    ours = segment_statistics(z, y, members_of(case), engine="triton", num_bins=4096, **options)
    definition = segment_statistics(z, y, members_of(case), engine="eager", num_bins=4096, **options)
    for name in (*FLOATS, *COUNTS):
        a, b = getattr(ours, name), getattr(definition, name)
        assert (a is None) == (b is None), name
        if a is not None and name != "error_counts":
            # packing cuts each error's place in its bin to 10 bits
            assert (a.double() - b.double()).abs().max() <= 2e-6 * max(1.0, b.double().abs().max().item()) + 3e-7 * 63, name
        elif a is not None:
            assert a.sum().item() == pytest.approx(b.sum().item(), rel=1e-6)
            assert ((a - b).abs() > 1e-6).double().mean() < 2e-3  # rounding may move an error into the next bin
    for name in ("focal", "focal_rest", "power"):
        for exponent, b in getattr(definition, name).items():
            assert (getattr(ours, name)[exponent] - b).abs().max() <= 2e-6 * max(1.0, b.abs().max().item())


@every
def test_gradients_are_as_good_as_the_definition_in_the_same_precision(case):
    z, y, options = batch(case, seed=1)
    truth = gradient(z.double(), y, members_of(case), "eager", **options)
    ours, plain = (relative(gradient(z, y, members_of(case), engine, **options), truth) for engine in ("triton", "eager"))
    assert ours <= plain + 2e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", [CASES["softmax"], CASES["sigmoid"]], ids=["softmax", "sigmoid"])
def test_half_precision(case, dtype):
    z, y, options = batch(case)
    z = z.to(dtype)
    found = gradient(z, y, members_of(case), "triton", **options)
    assert found.dtype == dtype
    assert relative(found, gradient(z.float(), y, members_of(case), "triton", **options)) < 2e-2
    half, single = (segment_statistics(x, y, members_of(case), engine="triton", **options) for x in (z, z.float()))
    assert torch.equal(half.prob, single.prob)
    assert torch.equal(half.errors, single.errors)


@pytest.mark.parametrize("case", [CASES["softmax"], CASES["sigmoid, maps"]], ids=["softmax", "sigmoid"])
def test_channels_last_and_other_strides(case):
    z, y, options = batch(case)
    expected = gradient(z, y, members_of(case), "triton", **options)
    for other in (z.contiguous(memory_format=torch.channels_last), z.transpose(2, 3).contiguous().transpose(2, 3)):
        found = gradient(other, y, members_of(case), "triton", **options)
        assert relative(found, expected) < 1e-6


def test_the_gradient_has_the_layout_of_the_logits():
    z, y, _ = batch(CASES["softmax"])
    z = z.contiguous(memory_format=torch.channels_last).requires_grad_()
    segment_statistics(z, y, Members(prob=True), engine="triton").prob.sum().backward()
    assert z.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_every_type(dtype):
    z, y, options = batch(CASES["softmax"])
    expected = segment_statistics(z, y, EVERYTHING, engine="triton", **options)
    found = segment_statistics(z, y.to(dtype), EVERYTHING, engine="triton", **options)
    assert torch.equal(found.nll, expected.nll)
    assert torch.equal(found.error_counts, expected.error_counts)


@pytest.mark.parametrize("case", [CASES["softmax, by image, weighted"], CASES["hinge, by image"]], ids=["softmax", "hinge"])
def test_twice_the_same_bits(case):
    z, y, options = batch(case)
    first, second = (gradient(z, y, members_of(case), "triton", **options) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("case", [CASES["softmax"], CASES["hinge, maps, weighted"]], ids=["softmax", "hinge"])
def test_histograms_packed_in_several_rounds(case, monkeypatch):
    from evenseg.statistics.triton import launch

    z, y, options = batch(case, spatial=(40, 60))
    whole = segment_statistics(z, y, members_of(case), engine="triton", **options)
    monkeypatch.setattr(launch, "MOST", 2048)
    parts = segment_statistics(z, y, members_of(case), engine="triton", **options)
    assert (parts.error_counts - whole.error_counts).abs().max() < (1e-4 if case[3] else 1e-12)  # weights are in fixed point
    assert (parts.errors - whole.errors).abs().max() < 2e-7 * whole.errors.sum()


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_saturated_logits(logit):
    z, y, _ = batch(CASES["softmax"])
    z = torch.where(torch.arange(4, device=DEVICE)[None, :, None, None] == 1, logit, 0.0).expand_as(z).contiguous()
    for members in (EVERYTHING, Members(errors=True, ranks=True)):
        assert gradient(z, y, members, "triton").isfinite().all()
    stats = segment_statistics(z, y, EVERYTHING, engine="triton")
    assert torch.allclose(stats.nll, segment_statistics(z, y, EVERYTHING, engine="eager").nll)


LOSSES = {
    "Lovász": (L.LovaszSoftmaxLoss, {}, 4),
    "Lovász, all classes, by image": (L.LovaszSoftmaxLoss, {"classes": "all", "per_image": True}, 4),
    "hinge": (L.LovaszHingeLoss, {}, 1),
    "OHEM": (L.OhemCrossEntropyLoss, {"min_kept": 20}, 4),
    "recall": (L.RecallLoss, {}, 4),
    "label smoothing": (L.CrossEntropyLoss, {"label_smoothing": 0.1}, 4),
}


@pytest.mark.parametrize(("make", "options", "channels"), LOSSES.values(), ids=LOSSES)
def test_losses(make, options, channels):
    z, y, _ = batch((channels, "softmax", False, False, False), spatial=(16, 24))
    found = []
    for engine in ("triton", "eager"):
        x = z.detach().clone().requires_grad_()
        value = make(**options, engine=engine)(x, y)
        value.backward()
        found.append((value, x.grad))
    assert found[0][0].item() == pytest.approx(found[1][0].item(), abs=2e-6)
    assert relative(found[0][1], found[1][1]) < 1e-3


def test_a_mix_compiles_into_one_graph():
    z, y, _ = batch(CASES["softmax"])
    mix = L.MixedLoss([L.CrossEntropyLoss(engine="triton"), L.LovaszSoftmaxLoss(engine="triton"), L.DiceLoss(engine="triton")], [1, 1, 1])
    x = z.detach().clone().requires_grad_()
    value = mix(x, y)
    value.backward()
    again = z.detach().clone().requires_grad_()
    compiled = torch.compile(mix, fullgraph=True, backend="aot_eager")(again, y)
    compiled.backward()
    assert compiled.item() == pytest.approx(value.item(), abs=1e-6)
    assert relative(again.grad, x.grad) < 1e-5


@pytest.mark.parametrize("name", ["softmax", "margin"])
def test_opcheck(name):
    from evenseg.statistics import slots
    from evenseg.statistics.triton.engine import softmax_sums
    from evenseg.statistics.triton.margin_engine import margin_sums

    z = torch.randn(2, 3, 20, device=DEVICE, requires_grad=True)
    y = torch.randint(0, 3, (2, 20), device=DEVICE)
    none = z.new_empty(0)
    want = slots.WANT_PROB | slots.WANT_NLL | slots.WANT_ERRORS | slots.WANT_RANKS | slots.WANT_ABSENT | slots.WANT_PIXEL
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    if name == "softmax":
        torch.library.opcheck(softmax_sums, (z, y, none, 255, False, 64, want, [2.0], [0.3]), test_utils=checks)
    else:
        arguments = (z, y[:, None], none, [0, 1, 2], 3, True, 255, True, 128, want, [2.0], [])
        torch.library.opcheck(margin_sums, arguments, test_utils=checks)


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU the error comes with a later batch")
def test_bad_labels():
    z, y, _ = batch(CASES["softmax"])
    y[1, 3, :2] = 9
    with pytest.raises(ValueError, match=r"outside the classes 0\.\.3 \(255 is ignored\): 9 \(2 pixels\)"):
        segment_statistics(z, y, Members(prob=True), engine="triton")


def test_a_forced_engine_never_falls_back():
    z, y, _ = batch(CASES["softmax"])
    with pytest.raises(ValueError, match="engine='triton' cannot be used: the logits are float64; use engine='auto' or 'eager'"):
        segment_statistics(z.double(), y, Members(prob=True), engine="triton")
    with pytest.raises(ValueError, match="the targets are probabilities"):
        segment_statistics(z, torch.rand_like(z).softmax(1), Members(prob=True), engine="triton")
    if DEVICE == "cpu":
        assert explain(z, y) == "numba: hard labels on the CPU"
    assert explain(z, y, engine="triton") == "triton: asked for"


def test_without_the_interpreter_the_cpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="engine='triton' cannot be used: the logits are on cpu"):
        segment_statistics(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), Members(prob=True), engine="triton")


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
def test_no_host_synchronisation_and_cuda_graphs():
    z, y, _ = batch(CASES["softmax"], spatial=(64, 64))
    mix = L.MixedLoss([L.CrossEntropyLoss(), L.LovaszSoftmaxLoss()], [1.0, 1.0])
    z = z.nan_to_num().requires_grad_()
    for _ in range(3):
        mix(z, y).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mix(z, y).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = z.grad.clone()
    graph = torch.cuda.CUDAGraph()
    z.grad = None
    with torch.cuda.graph(graph):
        value = mix(z, y)
        (found,) = torch.autograd.grad(value, z)
    graph.replay()
    torch.cuda.synchronize()
    assert found.isfinite().all()
    assert relative(found * 4, expected) < 1e-4


def test_every_kernel_compiles_for_a_gpu():
    """Ahead of time, for sm_90: shape and type errors that the interpreter lets pass are caught here."""
    # the narrow selection; `python tests/statistics/compile_triton.py --all` compiles every variant
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    program = Path(__file__).with_name("compile_triton.py")
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    names = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    expected = {("softmax", k) for k in ("normalisers", "sums", "backward", "list_open")} | {
        ("margin", k) for k in ("sums", "backward", "list_open")
    }
    assert names == expected
