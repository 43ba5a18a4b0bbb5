"""The sums themselves: by definition, with their gradients, in both engines."""

import dataclasses

import numpy as np
import pytest
import torch

from evenseg.statistics import Members, SegmentStatistics, explain, segment_statistics
from evenseg.statistics.bins import bin_edges, hinge_bins, probability_bins

ALL = Members(
    prob=True, prob_sq=True, overlap=True, product=True, nll=True, nll_all=True, focal=(0.5, 2.0), power=(0.3, 2.0), hits=True,
    errors=True, absent=True, pixel_nll=True,
)  # fmt: skip
SIGMOID = dataclasses.replace(ALL, nll_all=False)
SMOOTH = ["prob", "prob_sq", "overlap", "product", "nll", "nll_all", "focal", "power", "pixel_nll"]
engines = pytest.mark.parametrize("engine", ["eager", "numba"])


def inputs(activation="softmax", channels=4, images=2, pixels=15, maps=False, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(images, channels, pixels, generator=g, dtype=torch.float64).to(dtype)
    shape = (images, channels, pixels) if maps else (images, pixels)
    y = torch.randint(0, 2 if maps else max(channels, 2), shape, generator=g)
    y = torch.where(torch.rand(shape, generator=g) < 0.2, 255, y)
    w = torch.rand(images, pixels, generator=g, dtype=torch.float64)
    return z, y, w


def flat(stats):
    """{name: tensor} of everything that is there."""
    out = {}
    for f in dataclasses.fields(SegmentStatistics):
        value = getattr(stats, f.name)
        if isinstance(value, dict):
            out.update({f"{f.name}.{k}": v for k, v in value.items()})
        elif isinstance(value, torch.Tensor):
            out[f.name] = value
    return out


def by_definition(z, y, w, activation, gammas, powers, num_bins):
    """Every sum over one group with plain loops; z (N, C, P), y (N, P) or (N, C, P)."""
    n_images, n_classes, n_pixels = z.shape
    size = num_bins * 4 if activation == "hinge" else num_bins  # hinge errors get four times as many bins
    names = ["pixels", "valid", "labels", "labels_sq", "prob", "prob_sq", "overlap", "product", "nll", "nll_rest", "nll_all",
             "predicted", "hits", "peak"]  # fmt: skip
    names += [f"focal.{g}" for g in gammas] + [f"focal_rest.{g}" for g in gammas] + [f"power.{q}" for q in powers]
    out = {name: np.zeros(n_classes) for name in names}
    out["errors"], out["error_counts"] = np.zeros((n_classes, 2, size)), np.zeros((n_classes, 2, size))
    for n in range(n_images):
        for i in range(n_pixels):
            for c in range(n_classes):
                label = y[n, c, i] if y.ndim == 3 else y[n, i]
                if label == 255:
                    continue
                on = float(label == 1 if y.ndim == 3 or n_classes == 1 else label == c)
                x = z[n, :, i]
                if activation == "softmax":
                    p = np.exp(x[c]) / np.exp(x).sum()
                    chosen = int(x.argmax()) == c
                else:
                    p = 1 / (1 + np.exp(-x[c]))
                    chosen = x[c] > 0
                m = 1 - p if on else p
                rest = -np.log(1 - p)
                add = {"pixels": 1 / w[n, i], "valid": 1, "labels": on, "labels_sq": on, "prob": p, "prob_sq": p * p,
                       "overlap": on * p, "product": on * p, "nll": -on * np.log(p), "nll_rest": (1 - on) * rest,
                       "nll_all": -np.log(p), "predicted": chosen, "hits": chosen and on}  # fmt: skip
                for g in gammas:
                    add[f"focal.{g}"] = on * (1 - p) ** g * -np.log(p)
                    add[f"focal_rest.{g}"] = (1 - on) * p**g * rest
                for q in powers:
                    add[f"power.{q}"] = on * (-np.log(p)) ** q
                for name, value in add.items():
                    out[name][c] += w[n, i] * value
                if activation == "hinge":
                    m = max(0.0, 1 - (x[c] if on else -x[c]))
                    octave = int(np.floor(np.log2(1 + m)))
                    k = int((octave + (1 + m) / 2**octave - 1) * (size // 8))
                else:
                    k = min(int(m * num_bins), num_bins - 1)
                out["errors"][c, int(on), k] += w[n, i] * m
                if activation != "hinge" or m > 0:  # nothing ranks below a hinge error of 0
                    out["error_counts"][c, int(on), k] += w[n, i]
                if not on:
                    out["peak"][c] = max(out["peak"][c], m)
    return out


SHAPES = [("softmax", 4, False), ("softmax", 2, False), ("sigmoid", 1, False), ("sigmoid", 3, True), ("sigmoid", 4, False),
          ("hinge", 1, False), ("hinge", 3, True)]  # fmt: skip


@pytest.mark.parametrize(("activation", "channels", "maps"), SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@engines
def test_every_member_is_its_definition(activation, channels, maps, weighted, engine):
    z, y, w = inputs(activation, channels, maps=maps)
    members = ALL if activation == "softmax" else SIGMOID
    stats = segment_statistics(
        z, y, members, activation=activation, num_bins=64, pixel_weight=w if weighted else None, engine=engine
    )
    w = w if weighted else torch.ones_like(w)
    expected = by_definition(z.numpy(), y.numpy(), w.numpy(), activation, members.focal, members.power, 64)
    got = flat(stats)
    seen = set()
    for name, value in expected.items():
        if name not in got:
            continue
        seen.add(name)
        assert got[name].shape[0] == 1
        # the packed histogram of the kernels keeps 9 bits of an error's place in its bin, and 64 bins are wide
        tolerance = 2e-4 if name == "errors" and engine == "numba" else 1e-9
        actual = got[name][0].detach().numpy()
        if name == "peak":  # it speaks of classes without labels
            actual, value = (x * (expected["labels"] == 0) for x in (actual, value))
        np.testing.assert_allclose(actual, value, atol=10 * tolerance, rtol=tolerance, err_msg=name)
    missing = {"softmax": {"nll_rest", *(f"focal_rest.{g}" for g in members.focal)}}.get(activation, {"nll_all"})
    assert set(expected) - seen == missing
    maps_of_pixels = stats.pixel_nll
    assert (
        abs(maps_of_pixels.sum() - sum(expected["nll"] + (0 if activation == "softmax" else expected["nll_rest"]))) < 1e-9
        or weighted
    )
    assert (stats.pixel_labels == -1).sum() == ((y == 255).sum() * (channels if activation != "softmax" and not maps else 1))


@engines
@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Members)])
def test_only_what_is_asked_for_is_there(name, engine):
    z, y, _ = inputs()
    asked = Members(**{name: (2.0,) if name in ("focal", "power") else True})
    stats = segment_statistics(z, y, asked, engine=engine)
    got = flat(stats)
    assert stats.ranked is None  # ranks come with the histogram alone
    always = {"pixels", "area", "valid", "labels", "labels_sq"}
    brings = {
        "hits": {"hits", "predicted"}, "errors": {"errors", "error_counts"}, "focal": {"focal.2.0"}, "power": {"power.2.0"},
        "pixel_nll": {"pixel_nll", "pixel_labels", "pixel_weight"}, "ranks": set(), "absent": set(),
    }  # fmt: skip
    assert set(got) == always | brings.get(name, {name})


def test_members_unite():
    union = Members(prob=True, focal=(2.0,)) | Members(nll=True, focal=(0.5, 2.0))
    assert union == Members(prob=True, nll=True, focal=(0.5, 2.0))


@pytest.mark.parametrize(("activation", "channels", "maps"), [*SHAPES, ("softmax", 20, False), ("softmax", 70, False),
                                                              ("softmax", 200, False), ("sigmoid", 20, False)])  # fmt: skip
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_kernels_agree_with_the_definition(activation, channels, maps, per_image, weighted):
    """Sizes: several blocks and a rest in every image (1031 is prime), and every block size (it depends on the channels)."""
    z, y, w = inputs(activation, channels, pixels=1031, maps=maps, dtype=torch.float32)
    members = ALL if activation == "softmax" else SIGMOID
    results = []
    for engine in ("eager", "numba"):
        leaf = z.clone().requires_grad_()
        stats = segment_statistics(
            leaf, y.to(torch.uint8) if channels == 4 else y, members, activation=activation, per_image=per_image,
            num_bins=256, pixel_weight=w if weighted else None, engine=engine,
        )  # fmt: skip
        got = flat(stats)
        # a random, fixed upstream gradient; the histogram is not smooth, its weights here are (they vary with the bin)
        total = 0.0
        for k, (name, value) in enumerate(sorted(got.items())):
            if value.requires_grad:
                g = torch.Generator().manual_seed(k)
                factor = torch.rand(value.shape if name != "errors" else value.shape[:-1] + (1,), generator=g, dtype=torch.float64)
                if name == "errors":
                    factor = factor * torch.linspace(1, 1.1, value.shape[-1])
                if name == "peak":
                    factor = factor * (got["labels"] == 0)
                total = total + (factor * value).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
        results.append((got, gradient))
    (eager, eager_gradient), (fused, fused_gradient) = results
    assert eager.keys() == fused.keys()
    for name, value in eager.items():
        assert value.shape == fused[name].shape, name
        assert fused[name].requires_grad == value.requires_grad, name
        if name == "error_counts":  # rounding may move an error to the next bin
            assert (value - fused[name]).abs().sum() <= 4 + 1e-3 * value.sum() * 0.01, name
        elif name == "peak":
            absent = eager["labels"] == 0
            torch.testing.assert_close(fused[name] * absent, value * absent, rtol=1e-5, atol=1e-6)
        elif name != "errors":
            torch.testing.assert_close(
                fused[name], value, rtol=1e-5, atol=2e-4, check_dtype=False, msg=lambda m, n=name: f"{n}: {m}"
            )
    torch.testing.assert_close(fused["errors"].sum(-1), eager["errors"].sum(-1), rtol=1e-5, atol=2e-3)
    assert (fused_gradient - eager_gradient).norm() <= 1e-3 * eager_gradient.norm()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("activation", "channels", "maps"), SHAPES)
def test_repeated_calls_give_the_same_bits(activation, channels, maps, weighted):
    z, y, w = inputs(activation, channels, pixels=60013, maps=maps, dtype=torch.float32)
    members = ALL if activation == "softmax" else SIGMOID
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)  # whichever of them gets which pixels
        runs = [
            flat(segment_statistics(z, y, members, activation=activation, pixel_weight=w.float() if weighted else None, engine="numba"))
            for _ in range(6)
        ]
    finally:
        torch.set_num_threads(threads)
    for name, first in runs[0].items():
        assert all(torch.equal(first, other[name]) for other in runs[1:]), name


@pytest.mark.parametrize(("activation", "channels", "maps"), SHAPES)
def test_number_of_threads_does_not_change_the_histogram(activation, channels, maps):
    z, y, _ = inputs(activation, channels, pixels=20011, maps=maps, dtype=torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            stats = segment_statistics(z, y, Members(errors=True, absent=True, hits=True), activation=activation, engine="numba")
            results.append((stats.error_counts, stats.errors, stats.hits, stats.peak))
    finally:
        torch.set_num_threads(threads)
    for name, one, three in zip(("error_counts", "errors", "hits", "peak"), *results):
        if name == "errors":  # the lowest bin is a float sum
            assert torch.equal(one[..., 1:], three[..., 1:])
            torch.testing.assert_close(one[..., 0], three[..., 0], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(one, three), name


@pytest.mark.parametrize(("activation", "channels", "maps"), SHAPES)
@pytest.mark.parametrize("name", [*SMOOTH, "errors"])
@engines
def test_gradcheck(activation, channels, maps, name, engine):
    if name == "nll_all" and activation != "softmax":
        pytest.skip("label smoothing belongs to the softmax")
    if name == "errors" and engine == "numba":
        pytest.skip("the kernels round an error's place in its bin: differences of the value are steps")
    z, y, w = inputs(activation, channels, images=1, pixels=7, maps=maps)
    asked = Members(**{name: (0.3, 1.0, 2.0) if name in ("focal", "power") else True})

    def sums(z):
        stats = segment_statistics(z, y, asked, activation=activation, per_image=True, num_bins=16, pixel_weight=w, engine=engine)
        return tuple(v for v in flat(stats).values() if v.requires_grad)

    z.requires_grad_()
    assert len(sums(z)) > 0
    assert torch.autograd.gradcheck(sums, (z,), eps=1e-6, atol=1e-6, rtol=1e-4)


@engines
def test_a_joined_batch_is_the_sum(engine):
    z, y, w = inputs(images=3, pixels=40)
    run = lambda s: segment_statistics(z[s], y[s], ALL, num_bins=64, pixel_weight=w[s], engine=engine)  # noqa: E731
    whole, first, rest = run(slice(0, 3)), run(slice(0, 1)), run(slice(1, 3))
    by_image = segment_statistics(z, y, ALL, num_bins=64, pixel_weight=w, engine=engine, per_image=True)
    pooled = flat(by_image.pooled())
    for name, value in flat(whole).items():
        if name.startswith("pixel_"):
            continue
        a, b = flat(first)[name], flat(rest)[name]
        joined = torch.maximum(a, b) if name == "peak" else a + b
        if name == "peak":  # it speaks of classes without labels
            joined, value = joined * (whole.labels == 0), value * (whole.labels == 0)
            pooled[name] = pooled[name] * (whole.labels == 0)
        torch.testing.assert_close(value, joined, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(pooled[name], value, msg=lambda m, n=name: f"{n}: {m}")
    assert by_image.labels.shape == (3, 4)


def test_explain_names_engine_and_reason():
    z, y, _ = inputs(dtype=torch.float32)
    assert explain(z, y) == "numba: hard labels on the CPU"
    assert explain(z.half(), y) == "numba: hard labels on the CPU"
    assert explain(z, y, engine="eager") == "eager: asked for"
    assert explain(z, y, engine="numba") == "numba: asked for"
    assert explain(z.double(), y).startswith("eager: float64")
    assert explain(z, z.softmax(1)) == "eager: the targets are probabilities"
    one_hot = torch.nn.functional.one_hot(y.where(y != 255, 0), 4).movedim(-1, 1).float()
    assert explain(z, one_hot) == "eager: the targets are probabilities"
    maps = torch.zeros(2, 4, 15)
    assert explain(z, maps, activation="sigmoid") == "numba: hard labels on the CPU"
    assert explain(z.to("meta"), y.to("meta")) == "eager: the logits are on meta"


def test_a_forced_engine_never_falls_back():
    z, y, _ = inputs(dtype=torch.float32)
    with pytest.raises(
        ValueError, match=r"engine='numba' cannot be used: the targets are probabilities; use engine='auto' or 'eager'"
    ):
        segment_statistics(z, z.softmax(1), Members(prob=True), engine="numba")
    with pytest.raises(ValueError, match=r"engine must be one of .*'?auto.*got 'cuda'"):
        segment_statistics(z, y, Members(prob=True), engine="cuda")
    with pytest.raises(ValueError, match="the logits are on meta"):
        segment_statistics(z.to("meta"), y.to("meta"), Members(prob=True), engine="numba")


def test_missing_numba_is_said(monkeypatch):
    from evenseg.statistics import api

    monkeypatch.setattr(api, "_HAS_NUMBA", False)
    z, y, _ = inputs(dtype=torch.float32)
    assert explain(z, y) == "eager: numba is not installed"
    with pytest.raises(ValueError, match="numba is not installed"):
        segment_statistics(z, y, Members(prob=True), engine="numba")


@pytest.mark.parametrize("num_bins", [16, 256, 4096, 16384])
def test_bins_are_monotone_and_lie_between_their_edges(num_bins):
    g = torch.Generator().manual_seed(0)
    for kind, place, errors in (
        ("softmax", probability_bins, torch.rand(20000, generator=g, dtype=torch.float64)),
        (
            "hinge",
            hinge_bins,
            torch.rand(20000, generator=g, dtype=torch.float64) * 10 ** torch.randint(-3, 5, (20000,), generator=g),
        ),
    ):
        errors = torch.cat([errors, torch.tensor([0.0, 1.0])]).sort().values
        bins, edges = place(errors, num_bins), bin_edges(num_bins, kind)
        assert (bins.diff() >= 0).all()
        assert bins.min() == 0
        assert bins.max() <= num_bins - 1
        inside = errors < edges[-1]
        assert (edges[bins] <= errors).all()
        assert (errors < edges[bins + 1])[inside].all()
