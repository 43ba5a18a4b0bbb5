"""The custom operators under PyTorch's own checks and under torch.compile."""

import pytest
import torch

from evenseg import losses as L
from evenseg.statistics import slots
from evenseg.statistics.labels import canonical_labels
from evenseg.statistics.numba.engine import margin_sums, margin_sums_backward, softmax_sums, softmax_sums_backward

SMOOTH = slots.WANT_PROB | slots.WANT_PROB_SQ | slots.WANT_OVERLAP | slots.WANT_NLL | slots.WANT_PIXEL

WANTS = (
    SMOOTH, SMOOTH | slots.WANT_ERRORS | slots.WANT_RANKS | slots.WANT_HITS, slots.WANT_ERRORS | slots.WANT_ABSENT,
)  # fmt: skip


def logits(C, requires_grad=True):
    z = torch.randn(2, C, 12, generator=torch.manual_seed(0))
    return z.requires_grad_(requires_grad)


def labels(C):
    return torch.randint(0, max(C, 2), (2, 12), generator=torch.manual_seed(1))


def softmax_arguments(want, per_image=False, weighted=False):
    weight = torch.rand(2, 12) if weighted else torch.empty(0)
    return (logits(3), labels(3), weight, 255, per_image, 32, want, [1.5], [0.5])


def margin_arguments(want, channels=1, pair=False, hinge=False, per_image=False):
    y = labels(2)[:, None]
    return (logits(channels), y, torch.empty(0), [1], 2, pair, hinge, 255, per_image, 32, want, [2.0], [])


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_opcheck_softmax(per_image, weighted):
    for want in (*WANTS, 0):
        torch.library.opcheck(softmax_sums, softmax_arguments(want, per_image, weighted))


@pytest.mark.parametrize(("channels", "pair", "hinge"), [(1, False, False), (2, True, False), (1, False, True)])
def test_opcheck_margin(channels, pair, hinge):
    for want in WANTS:
        torch.library.opcheck(margin_sums, margin_arguments(want, channels, pair, hinge))
        torch.library.opcheck(margin_sums, margin_arguments(want, channels, pair, hinge, per_image=True))


def test_opcheck_backward_operators():
    want = SMOOTH | slots.WANT_ERRORS | slots.WANT_RANKS
    z, y, w, ignore, per_image, num_bins, _, gammas, powers = softmax_arguments(want)
    out = softmax_sums(z.detach(), y, w, ignore, per_image, num_bins, want, gammas, powers)
    gradients = [torch.rand_like(out[i]) for i in (0, 2, 4, 6, 9)]
    tail = (ignore, num_bins, want, gammas, powers)
    torch.library.opcheck(
        softmax_sums_backward, (*gradients, z.detach(), y, w, out[1], out[5], out[10], out[12], out[7], out[8], *tail),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
    z, y, w, positive, labels_to, pair, hinge, ignore, per_image, num_bins, _, gammas, powers = margin_arguments(want)
    options = (positive, labels_to, pair, hinge, ignore)
    out = margin_sums(z.detach(), y, w, *options, per_image, num_bins, want, gammas, powers)
    gradients = [torch.rand_like(out[i]) for i in (0, 2, 4, 6, 8)]
    torch.library.opcheck(
        margin_sums_backward, (*gradients, z.detach(), w, out[5], out[7], out[9], out[11], pair, hinge, num_bins, want, gammas, powers),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_opcheck_labels(dtype):
    y = torch.tensor([[0, 1, 2, 100]]).to(dtype)
    torch.library.opcheck(canonical_labels, (y, 3, 100))
    assert canonical_labels(y, 3, 100).tolist() == [[0, 1, 2, -1]]


class Model(torch.nn.Module):
    """One layer and a loss, as a training step holds them."""

    def __init__(self, loss, channels):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, channels, 1)
        self.loss = loss

    def forward(self, x, y, w=None):
        return self.loss(self.layer(x), y, pixel_weight=w)


COMPILED = {
    "LovaszSoftmax": (lambda: L.LovaszSoftmaxLoss(), 4, False),
    "Dice eager": (lambda: L.DiceLoss(engine="eager", per_image=True), 4, False),
    "Mixed": (
        lambda: L.MixedLoss([L.CrossEntropyLoss(), L.LovaszHingeLoss(), L.DiceLoss(mode="binary")], [1.0, 0.5, 0.5]),
        2,
        True,
    ),
    "soft binary": (lambda: L.BinaryCrossEntropyLoss(), 1, False),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_is_eager(name):
    """The whole module in one graph: no breaks, the same value and parameter gradients."""
    make, channels, weighted = COMPILED[name]
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Model(make(), channels)
    x = torch.randn(2, 3, 16, 16)
    y = torch.randint(0, max(channels, 2), (2, 16, 16))
    y[0, :4] = 255
    y = torch.rand(2, 1, 16, 16) if name == "soft binary" else y
    w = torch.rand(2, 16, 16) if weighted else None
    value = model(x, y, w)
    expected = torch.autograd.grad(value, list(model.parameters()))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    again = compiled(x, y, w)
    torch.testing.assert_close(again, value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(again, list(model.parameters())), expected, rtol=1e-5, atol=1e-6)


def test_bad_labels_are_found_under_compile():
    torch._dynamo.reset()
    loss = torch.compile(L.DiceLoss(engine="eager"), backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match=r"labels outside the classes 0\.\.2 \(255 is ignored\): 7 \(16 pixels\)"):
        loss(torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), 7))
