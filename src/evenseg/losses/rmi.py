"""Region mutual information."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from evenseg.losses.functional_form import functional
from evenseg.losses.maps import MapLoss, MapOptions, Maps
from evenseg.losses.options import number, one_of, whole
from evenseg.losses.pixel_term import pixel_cross_entropy, pixel_terms_for

POOLS = ("avg", "max", "interp", "none")
WINDOW_VALUES = 1 << 21  # float64 values of windows held at a time


def centred_windows(x_MHW: Tensor, radius: int) -> Tensor:
    """All radius x radius windows inside the maps as float64 points, less their mean: (M, radius², windows)."""
    windows = F.unfold(x_MHW[:, None].double(), radius)
    return windows - windows.mean(2, keepdim=True)


class WindowCovariance(torch.autograd.Function):
    """Scatter matrices of the windows of labels and predictions, map by map.

    A window of d = radius² values is a point; with A and B the centred points of labels and predictions (d x windows) the
    results are A Aᵀ, A Bᵀ and B Bᵀ, each (M, d, d) float64, not divided by the number of points. Windows are made for a few
    maps at a time and again in the backward pass, so that nothing d times the size of the maps is kept.
    """

    @staticmethod
    def forward(ctx: Any, truth_MHW: Tensor, probs_MHW: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(truth_MHW, probs_MHW)
        ctx.radius = radius
        parts = []
        for some in WindowCovariance.slices(truth_MHW, radius):
            a, b = centred_windows(truth_MHW[some], radius), centred_windows(probs_MHW[some], radius)
            parts.append((a @ a.mT, a @ b.mT, b @ b.mT))
        aa, ab, bb = (torch.cat(matrices) for matrices in zip(*parts))
        return aa, ab, bb

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, None]:
        truth_MHW, probs_MHW = ctx.saved_tensors
        _, of_ab, of_bb = upstream
        parts = []
        for some in WindowCovariance.slices(truth_MHW, ctx.radius):
            a, b = centred_windows(truth_MHW[some], ctx.radius), centred_windows(probs_MHW[some], ctx.radius)
            # the rows of a and b sum to 0, so taking the mean out has no part in the gradient
            of_b = of_ab[some].mT @ a + (of_bb[some] + of_bb[some].mT) @ b
            parts.append(F.fold(of_b, probs_MHW.shape[1:], ctx.radius)[:, 0])
        return None, torch.cat(parts).to(probs_MHW.dtype), None

    @staticmethod
    def slices(x_MHW: Tensor, radius: int) -> list[slice]:
        """The maps in lots whose windows fit into WINDOW_VALUES."""
        M, H, W = x_MHW.shape
        lot = max(1, WINDOW_VALUES // (radius**2 * H * W))
        return [slice(first, first + lot) for first in range(0, M, lot)]


def information_bound(aa: Tensor, ab: Tensor, bb: Tensor, alpha: float) -> Tensor:
    """1/(2d) logdet(aa - ab (bb + alpha 1)⁻¹ abᵀ + alpha 1) of (M, d, d) scatter matrices: (M,)."""
    d = aa.shape[-1]
    ridge = alpha * torch.eye(d, dtype=aa.dtype, device=aa.device)
    # with L Lᵀ = bb + alpha 1, the product is (L⁻¹ abᵀ)ᵀ (L⁻¹ abᵀ): no inverse, and what is left stays symmetric
    lower = torch.linalg.cholesky_ex(bb + ridge).L
    explained = torch.linalg.solve_triangular(lower, ab.mT, upper=False)
    left = torch.linalg.cholesky_ex(aa - explained.mT @ explained + ridge).L
    return left.diagonal(dim1=-2, dim2=-1).log().sum(-1) / d


class RMILoss(MapLoss):
    """Region mutual information: cross-entropy, and how well windows of the prediction explain windows of the labels.

    L = lam BCE + (1 - lam) RMI, or BCE + lam RMI with form="sum", where

        BCE = sum over pixels i and classes c of v_i bce(z_ic, y_ic), divided by sum_i v_i + 1,
        RMI = sum over c of the mean over images n of I_nc,
        I = 1/(2d) logdet(S_yy - S_yp (S_pp + alpha 1)^-1 S_py + alpha 1).

    v is 1 on valid pixels, p = sigmoid(z) v + eps. Labels y and predictions p of an image and class are made `stride` times
    smaller; their radius x radius windows are points of d = radius² dimensions, S the scatter matrices of these points (sums,
    not means: the value grows with the logarithm of the image size). I bounds from above, up to constants, what is left
    unknown of a window of labels when the window of the prediction is known; it may be negative.

    Args:
        pixel_term: "bce" (published), "ce" (softmax cross-entropy, the mean over the valid pixels), or "none": L = RMI alone, for
            mixes of one's own; `lam` and `form` do not apply then.
        lam: weight in [0, 1].
        form: "convex" (lambda_way 1 of the authors' code) or "sum" (lambda_way 0).
        radius: side of the windows, in pixels of the smaller maps.
        pool: how maps get smaller: "avg" (published), "max", "interp" (labels nearest, predictions bilinear), or "none".
        stride: factor by which they get smaller, and side of the pooled squares. 4 as in the paper's runs, 2 was best there.
        alpha: ridge of both matrices.
        eps: added to the probabilities.
        activation: "sigmoid" (published) or "softmax" (mode="multiclass") for the probabilities of RMI.
        **common: see :class:`evenseg.losses.maps.MapLoss`. `weight` multiplies the classes' terms of BCE and RMI. pixel_weight
            is v in all formulas: it scales the labels and predictions of a pixel in RMI, as masking does with 0 and 1.

    Images only: logits (N, C, H, W). Maps of fewer than radius x radius pixels are a ValueError. Scatter matrices are float64.

    Range: [(1 - lam) C/2 log alpha, inf); with form="sum" lam in place of 1 - lam, with pixel_term="none" 1.

    Source: Zhao et al., Region mutual information loss for semantic segmentation, NeurIPS 2019, eq. 8-16. Here an image
    without a valid pixel is left out of the mean; the authors' code counts it with I = 1/2 log alpha.

    Example:
        >>> import torch
        >>> from evenseg.losses import RMILoss
        >>> logits, target = torch.randn(2, 3, 32, 32, requires_grad=True), torch.randint(0, 3, (2, 32, 32))
        >>> RMILoss(stride=2)(logits, target).backward()
    """

    soft_labels = True
    dimensions = (2,)

    def __init__(
        self,
        *,
        pixel_term: str = "bce",
        lam: float = 0.5,
        form: str = "convex",
        radius: int = 3,
        pool: str = "avg",
        stride: int = 4,
        alpha: float = 5e-4,
        eps: float = 1e-6,
        activation: str = "sigmoid",
        **common: Unpack[MapOptions],
    ):
        super().__init__(**common)
        self.pixel_term = one_of("pixel_term", pixel_term, pixel_terms_for(self.mode))
        self.lam = number("lam", lam, 0, 1)
        self.form = one_of("form", form, ("convex", "sum"))
        self.radius, self.stride = whole("radius", radius, 1, 10), whole("stride", stride, 1)
        self.pool = one_of("pool", pool, POOLS)
        self.alpha, self.eps = number("alpha", alpha, 0, open_low=True), number("eps", eps, 0)
        self.activation = one_of("activation", activation, ("sigmoid", "softmax") if self.mode == "multiclass" else ("sigmoid",))

    def smaller(self, x: Tensor, *, labels: bool) -> Tensor:
        """(N, C, H, W) maps made `stride` times smaller, squares at the border padded by half a side of nothing."""
        s = self.stride
        if s == 1 or self.pool == "none":
            return x
        if self.pool == "interp":
            size = (x.shape[2] // s, x.shape[3] // s)
            if min(size) == 0:
                return x[:, :, : size[0], : size[1]]
            return F.interpolate(x, size, mode="nearest") if labels else F.interpolate(x, size, mode="bilinear", align_corners=True)
        return (F.avg_pool2d if self.pool == "avg" else F.max_pool2d)(x, s, s, s // 2)

    def region(self, maps: Maps) -> Tensor:
        """RMI, float64."""
        probs = maps.logits.softmax(1) if self.activation == "softmax" else maps.logits.sigmoid()
        one_11HW = probs.new_ones(1, 1, *probs.shape[2:])
        truth = self.smaller(maps.truth * maps.weight, labels=True)
        # eps apart from the predictions: the same sums, and one map of all classes less
        probs = self.smaller(probs * maps.weight, labels=False) + self.eps * self.smaller(one_11HW, labels=False)
        N, C, h, w = probs.shape
        if min(h, w) < self.radius:
            raise ValueError(
                f"RMILoss(radius={self.radius}, pool={self.pool!r}, stride={self.stride}) makes maps of {h} x {w} of logits of "
                f"{maps.logits.shape[2]} x {maps.logits.shape[3]} pixels, fewer than one window; use a smaller stride or radius"
            )
        aa, ab, bb = WindowCovariance.apply(truth.reshape(N * C, h, w), probs.reshape(N * C, h, w), self.radius)
        bound_NC = information_bound(aa, ab, bb, self.alpha).view(N, C)
        counted_NC = maps.valid.flatten(2).any(2).expand(N, C)
        mean_C = self.mean(torch.where(counted_NC, bound_NC, 0.0).sum(0), counted_NC.sum(0))
        return (self.class_weight(maps) * mean_C).sum()

    def from_maps(self, maps: Maps, **context: Any) -> Tensor:
        if self.pixel_term == "none":
            return self.region(maps)
        # the published BCE adds one pixel, its softmax form does not
        pixels = self.mean(*pixel_cross_entropy(maps, self.pixel_term, self.weight), added=1.0 if self.pixel_term == "bce" else 0.0)
        return self.lam * pixels + (1 - self.lam) * self.region(maps) if self.form == "convex" else pixels + self.lam * self.region(maps)


rmi_loss = functional(RMILoss)
