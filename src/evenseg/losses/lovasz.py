"""The Lovász extension of the Jaccard loss: from a histogram of errors, and by sorting them.

Both take the errors m of one class, on the foreground (side 1, labelled with the class) and on the background (side 0).
statistics/README.md derives the histogram form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics.ranking import RankedErrors


def lovasz_from_histogram(
    errors_GC2K: Tensor, counts_GC2K: Tensor, labels_GC: Tensor, peak_GC: Tensor | None = None,
    ranked: RankedErrors | None = None,
) -> Tensor:
    """(G, C) Lovász extension from the error histogram.

    A bin entered from the large errors with F0 foreground and B0 background errors above it, and left with F1 and B1, gives
    its foreground errors the weight (1/(G+B0) + 1/(G+B1))/2 and its background errors (G - (F0+F1)/2)/((G+B0)(G+B1)), with
    G the size of the foreground. The weights carry no gradient: they are the gradient with respect to the errors. The value
    is never above the exact one and at most one bin width below it. Without foreground the extension is the largest error.

    Args:
        errors_GC2K: sums of the errors by side and bin, smallest errors first, float64.
        counts_GC2K: their number (or weight). Errors of exactly 0 may be left out: nothing ranks below them.
        labels_GC: G, the number (or weight) of the pixels labelled with the class.
        peak_GC: the largest background error; may be left out if classes without foreground do not count.
        ranked: errors whose exact rank is known: they get the weight of their rank instead of their bin's.
    """
    with torch.no_grad():
        upto = counts_GC2K.cumsum(-1)
        above = upto[..., -1:] - upto  # (B0, F0); turned into the weights in place, for these tensors can be large
        present = labels_GC > 0
        G = torch.where(present, labels_GC, 1)[..., None].to(upto.dtype)  # without foreground any will do: it weighs nothing
        entered = above[:, :, 0].add_(G)
        left = entered + counts_GC2K[:, :, 0]
        scale = (entered * left).reciprocal_().mul_(present[..., None])
        above[:, :, 1].neg_().add_(G).sub_(counts_GC2K[:, :, 1], alpha=0.5).mul_(scale)
        entered.add_(left).mul_(scale.mul_(0.5))
        weight = above.flip(2)
    value = (errors_GC2K * weight).sum((-1, -2))
    if ranked is not None:
        with torch.no_grad():
            group, cls, side, bin_ = ranked.place.clamp(min=0).unbind(1)
            size = G[group, cls, 0]
            union = (size + ranked.above[:, 0]).clamp(min=1)
            exact = torch.where(side == 1, 1 / union, (size - ranked.above[:, 1]) / (union * (union + 1)))
            correction = torch.where(ranked.place[:, 0] >= 0, exact - weight[group, cls, side, bin_], 0.0)
        value = value.view(-1).index_add(0, group * value.shape[1] + cls, ranked.error * correction).view(value.shape)
    return value if peak_GC is None else value + torch.where(present, 0.0, peak_GC)


def lovasz_by_sorting(error_P: Tensor, foreground_P: Tensor, weight_P: Tensor | None = None) -> Tensor:
    """The exact Lovász extension of one class: sorted errors times the steps of the Jaccard loss along them.

    Args:
        error_P: errors of the valid pixels.
        foreground_P: bool, whether the pixel is labelled with the class.
        weight_P: weights of the pixels.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, eq. 8-9 and algorithm 1.
    """
    if weight_P is not None:  # without foreground the first error weighs 1, so a pixel of weight 0 must not be there
        counted = weight_P > 0
        error_P, foreground_P, weight_P = error_P[counted], foreground_P[counted], weight_P[counted]
    if error_P.numel() == 0:
        return error_P.sum()
    error_P, order = error_P.sort(descending=True, stable=True)
    w = torch.ones_like(error_P, dtype=torch.float64) if weight_P is None else weight_P[order].double()
    fg = foreground_P[order].double() * w
    # float64: in half precision the counts would overflow, in float32 they lose digits beyond 2^24 pixels
    total = fg.sum()
    union = total + (w - fg).cumsum(0)
    jaccard = 1 - (total - fg.cumsum(0)) / union.clamp(min=1e-300)
    step = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return (error_P.double() * step.detach()).sum()
