"""Every loss mixes with every other, in Python and from YAML, and keeps its value there."""

import itertools

import pytest
import torch

from evenseg import build_loss
from evenseg.losses import LOSSES, MixedLoss

NAMES = [name for name in LOSSES if name != "MixedLoss"]
SHAPE = (2, 2, 16, 20)


@pytest.fixture(scope="module")
def batch():
    """Two channels, which losses of one foreground class and of several classes both take; and what some need besides."""
    from evenseg.losses.edge_network import EdgeNetwork

    g = torch.Generator().manual_seed(0)
    z = torch.randn(SHAPE, generator=g)
    y = torch.nn.functional.interpolate(torch.rand(2, 1, 4, 5, generator=g), SHAPE[2:])[:, 0].round().long()
    y[0, :2] = 255
    context = {"image": torch.rand(2, 3, *SHAPE[2:], generator=g), "features": torch.randn(2, 6, 8, 10, generator=g)}
    options = {"SemanticEdgeAwareLoss": {"edges": EdgeNetwork(2, hidden=8)}}
    sections = {name: {"type": name, **options.get(name, {})} for name in NAMES}
    return z, y, context, sections


@pytest.fixture(scope="module")
def alone(batch):
    """Value of every loss by itself."""
    z, y, context, sections = batch
    values = {}
    for name in NAMES:
        loss = build_loss(sections[name])
        values[name] = loss(z, y, **{k: context[k] for k in loss.requires}).item()
    return values


@pytest.mark.parametrize("first", NAMES)
def test_every_pair_of_losses_mixes(first, batch, alone):
    z, y, context, sections = batch
    for second in NAMES[NAMES.index(first) :]:
        section = {"types": [{"type": "MixedLoss", "losses": [sections[first], sections[second]], "coef": [0.7, 0.4]}], "coef": [1]}
        mix = build_loss(section)
        x = z.clone().requires_grad_()
        value = mix([x], y, **{k: context[k] for k in mix.requires})
        value.backward()
        expected = 0.7 * alone[first] + 0.4 * alone[second]
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-4), second
        assert x.grad.isfinite().all(), second
        assert not x.grad[0, :, :2].any() or "DenseCRF" in first + second or "DynamicFeature" in first + second, second
        names = {first, second} if first != second else {f"{first}_1", f"{first}_2"}
        assert {term.split(".")[0] for term in mix.terms} == names


def test_there_are_pairs_enough():
    assert len(list(itertools.combinations(NAMES, 2))) > 250
    assert MixedLoss in LOSSES.values()
