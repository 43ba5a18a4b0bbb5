"""Defects that were found once; each test fails without its fix."""

import pytest
import torch

from evenseg.losses import DiceLoss, FocalTverskyLoss, JaccardLoss, LovaszHingeLoss, LovaszSoftmaxLoss, MixedLoss


@pytest.mark.parametrize("ignored", [False, True])
def test_empty_image_beyond_the_margin_has_no_gradient(ignored):
    z = torch.full((2, 1, 8, 8), -9.0).requires_grad_()
    y = torch.zeros(2, 8, 8, dtype=torch.long)
    if ignored:
        y[0, 0, 0] = 255
    LovaszHingeLoss(per_image=True)(z, y).backward()
    assert not z.grad.any()


def test_compiled_two_channel_lovasz():
    torch.manual_seed(0)
    z, y = torch.randn(1, 2, 16, 16), torch.randint(0, 2, (1, 16, 16))
    loss = LovaszSoftmaxLoss()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, y), loss(z, y), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", [DiceLoss, JaccardLoss])
def test_keyword_of_the_base_class_is_refused(loss):
    with pytest.raises(ValueError, match=r"has no keyword 'alpha'"):
        loss(alpha=0.3)


def test_focal_tversky_has_no_log():
    with pytest.raises(ValueError, match="has no keyword 'log_loss'"):
        FocalTverskyLoss(log_loss=True)


def test_mix_takes_losses_from_elsewhere():
    z, y = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    mix = MixedLoss([torch.nn.CrossEntropyLoss(), DiceLoss()], [1, 1])
    torch.testing.assert_close(mix(z, y), torch.nn.CrossEntropyLoss()(z, y) + DiceLoss()(z, y))


def test_nan_is_not_swallowed_by_the_hinge():
    z = torch.tensor([[[float("nan"), 1.0]]])
    for engine in ("eager", "numba"):
        assert LovaszHingeLoss(engine=engine)(z, torch.tensor([[0, 1]])).isnan()


def test_ignore_index_of_any_size_is_checked():
    with pytest.raises(ValueError, match="at most 32 bits"):
        DiceLoss(ignore_index=2**70)
