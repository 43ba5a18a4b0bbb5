"""The histogram form of the Lovász losses beside the exact one, on inputs from easy to hostile.

`python test_lovasz_histogram.py` prints the measured table.
"""

import sys

import pytest
import torch

from evenseg import losses as L
from evenseg.losses.lovasz import lovasz_by_sorting, lovasz_from_histogram

K = 4096


def scene(kind, seed):
    """(logits (2, C, 96, 96), labels) of a kind."""
    g = torch.Generator().manual_seed(seed)
    C, shape = 5, (2, 96, 96)
    y = torch.randint(0, C, shape, generator=g)
    z = torch.randn(2, C, *shape[1:], generator=g)
    own = torch.nn.functional.one_hot(y, C).movedim(-1, 1).float()
    if kind == "random":
        return z, y
    if kind == "trained-like":  # nearly all pixels right and sure, 3 % wrong
        wrong = torch.rand(2, 1, 96, 96, generator=g) < 0.03
        return z + 9 * torch.where(wrong, own.roll(1, 1), own), y
    if kind.startswith("2-pixel"):
        y = y.clamp(max=3)  # class 4 has two pixels in all
        y[0, 10, 10] = y[1, 20, 20] = 4
        if kind.endswith("trained"):
            own = torch.nn.functional.one_hot(y, C).movedim(-1, 1).float()
            z = z + 9 * own
            z[:, 4] -= 3
        return z, y
    if kind == "road, 4 %":
        y = (torch.rand(shape, generator=g) < 0.04).long()
        own = torch.nn.functional.one_hot(y, 2).movedim(-1, 1).float()
        return z[:, :2] + 3 * own, y
    if kind == "one bin":  # all errors of both sides within a tenth of a bin
        return 1e-5 * z[:, :2], (y > 2).long()
    if kind == "on an edge":  # four classes at p = 1/4: the errors lie around edges of bins
        return 1e-5 * z[:, :4], y.clamp(max=3)
    if kind == "ties":  # a handful of different errors
        return z.round(), y
    if kind == "all equal":
        return torch.zeros_like(z), y
    if kind == "hard":
        return 1e4 * (own.roll(1, 1) if seed % 2 else own), y
    raise KeyError(kind)


TYPICAL = ["random", "trained-like", "road, 4 %"]
RARE = ["2-pixel class", "2-pixel class trained"]
ADVERSARIAL = ["one bin", "on an edge", "ties", "all equal", "hard"]


def compare(kind, form, seed, engine="eager", num_bins=K):
    """(exact value, histogram value minus it, relative gradient error, cosine, width of the widest bin in use)."""
    z, y = scene(kind, seed)
    if form == "hinge":
        z, y = z[:, -1] - z[:, 0], (y == z.shape[1] - 1).long()
        make = L.LovaszHingeLoss
    else:
        make = L.LovaszSoftmaxLoss
    out = []
    for options in ({"method": "sort"}, {"num_bins": num_bins, "engine": engine}):
        leaf = z.double().requires_grad_() if engine == "eager" else z.clone().requires_grad_()
        value = make(**options)(leaf, y)
        out.append((value.item(), torch.autograd.grad(value, leaf)[0].double()))
    (exact, g), (value, h) = out
    norm = g.norm().item()
    error = (h - g).norm().item() / norm if norm > 1e-12 else (h - g).norm().item()
    cosine = torch.nn.functional.cosine_similarity(h.flatten(), g.flatten(), 0).item() if norm > 1e-12 else float("nan")
    width = 1 / num_bins
    if form == "hinge":  # a bin of the largest error's octave
        largest = torch.relu(1 - torch.where(y == 1, z, -z)).max().item()
        width = 2 ** torch.tensor(1 + largest).log2().floor().item() * 8 / (4 * num_bins)
        width = width if largest < 255 else largest - 255  # all that is larger shares the last bin
    return exact, value - exact, error, cosine, width


cases = pytest.mark.parametrize("kind", TYPICAL + RARE + ADVERSARIAL)
forms = pytest.mark.parametrize("form", ["softmax", "hinge"])


@cases
@forms
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("num_bins", [16, 256, K])
def test_never_above_and_within_one_bin(kind, form, seed, num_bins):
    exact, difference, _, _, width = compare(kind, form, seed, num_bins=num_bins)
    assert difference <= 1e-9 * max(1.0, exact)
    assert difference >= -width - 1e-9


@cases
@forms
def test_never_above_and_within_one_bin_float32_kernels(kind, form):
    exact, difference, _, _, width = compare(kind, form, 0, engine="numba")
    assert difference <= 1e-6 * max(1.0, exact)
    assert difference >= -width - 1e-6 * max(1.0, exact)


@pytest.mark.parametrize("kind", TYPICAL + RARE)
@forms
@pytest.mark.parametrize("engine", ["eager", "numba"])
def test_typical_inputs(kind, form, engine):
    """What a training run sees, classes of two pixels included."""
    for seed in range(3):
        exact, difference, error, cosine, _ = compare(kind, form, seed, engine=engine)
        assert abs(difference) <= 1e-5 * max(1.0, exact)
        # nearly all errors of a trained network lie in the lowest bin, which is too full to be sorted
        assert error <= (1e-2 if (kind, form) == ("trained-like", "softmax") else 1e-3)
        assert cosine >= 0.9999


@pytest.mark.parametrize("sizes", [(1, 40), (5, 60), (30, 30), (60, 1)])
@pytest.mark.parametrize("num_bins", [1, 4, 64])
def test_the_gradient_is_a_mean_over_orders(sizes, num_bins):
    """The extension is the largest w·m over the weights w of all orders. So weights that are a mean over some orders never
    give more than the extension, for any errors whatever, and that holds however many errors share a bin.
    """
    g = torch.Generator().manual_seed(num_bins)
    foreground = torch.arange(sum(sizes)) < sizes[0]
    m = torch.rand(sum(sizes), generator=g, dtype=torch.float64)
    place = foreground.long(), (m * num_bins).long()
    counts = torch.zeros(1, 1, 2, num_bins, dtype=torch.float64)
    counts[0, 0].index_put_(place, torch.ones_like(m), accumulate=True)
    errors = torch.zeros_like(counts).requires_grad_()
    (table,) = torch.autograd.grad(lovasz_from_histogram(errors, counts, counts[:, :, 1].sum(-1), torch.zeros(1, 1)).sum(), errors)
    w = table[0, 0][place]
    assert abs(w.sum() - 1) < 1e-12
    assert (w >= 0).all()
    others = [torch.rand(len(m), generator=g).double() ** 4 for _ in range(50)]
    others += [(torch.rand(len(m), generator=g) < 0.2).double() for _ in range(50)]
    others += [m, foreground.double(), (~foreground).double()]
    for other in others:
        assert w @ other <= lovasz_by_sorting(other, foreground) + 1e-12


def test_weights_are_the_change_of_the_jaccard_loss():
    """Summed over all bins the weights times counts are the Jaccard loss of everything wrong: 1, as sorting gives."""
    g = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 5, (1, 3, 2, 32), generator=g).double()
    errors = counts.clone().requires_grad_()
    value = lovasz_from_histogram(errors, counts, counts[:, :, 1].sum(-1), torch.zeros(1, 3))
    torch.testing.assert_close(value, torch.ones(1, 3, dtype=torch.float64))
    (weights,) = torch.autograd.grad(value.sum(), errors)
    assert (weights >= 0).all()
    assert (weights[:, :, 1] > 0).all()  # empty bins too: rounding may look one bin aside
    # within a bin no foreground error weighs less than one of a smaller bin's: 1/(G+B) shrinks as B grows
    assert (weights[:, :, 1].diff(dim=-1) >= 0).all()


def table():
    """The measured table, as Markdown."""
    lines = ["| input | form | engine | exact | value error | gradient error | cosine |", "|---|---|---|---|---|---|---|"]
    for kind in TYPICAL + RARE + ADVERSARIAL:
        for form in ("softmax", "hinge"):
            for engine in ("eager", "numba"):
                runs = [compare(kind, form, seed, engine) for seed in range(5)]
                exact = runs[0][0]
                worst = max(abs(r[1]) for r in runs)
                error = max(r[2] for r in runs)
                cosine = min((r[3] for r in runs if r[3] == r[3]), default=float("nan"))
                lines.append(f"| {kind} | {form} | {engine} | {exact:.4f} | {worst:.1e} | {error:.1e} | {cosine:.7f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
