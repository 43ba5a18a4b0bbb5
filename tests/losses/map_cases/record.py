"""What is known of a loss on maps, and the batches it is tried on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from evenseg.losses import LOSSES


@dataclass(frozen=True)
class MapCase:
    """How to build a loss, what it must return, and which general properties hold for it."""

    loss: str
    oracle: Callable  # (z (N, C, H, W), y (N, H, W) or maps, w (N, H, W) or None, **context) -> float; all float64 numpy, 255 ignored
    options: dict = field(default_factory=dict)
    channels: int = 4
    target: str = "labels"  # "labels" or "maps" (one 0/1 map per channel)
    spatial: tuple = (12, 14)
    low: float = 0.0
    high: float = float("inf")
    perfect: float | None = None  # value of a saturated right prediction, if it is a fixed number
    tolerance64: float = 1e-9  # relative to max(1, |value|)
    tolerance32: float = 1e-5
    differentiable: bool = True  # the gradient is that of the value (False where a part is detached: then it has a test of its own)
    fullgraph: bool = True  # torch.compile(fullgraph=True) takes it
    name: str = ""

    @property
    def mode(self):
        return self.options.get("mode", LOSSES[self.loss].default_mode)

    @property
    def requires(self):
        return LOSSES[self.loss].requires

    @property
    def uses_labels(self):
        """False: the loss sees every pixel of positive weight, ignored ones too, so only a weight of 0 leaves pixels out."""
        return LOSSES[self.loss].uses_labels

    def __str__(self):
        shown = [f"{k}={v}" for k, v in self.options.items()]
        return self.name or "-".join([self.loss.removesuffix("Loss"), f"{self.channels}ch", *shown]).replace(" ", "")

    def build(self, **overrides):
        """The module, with keywords replaced."""
        return LOSSES[self.loss](**{**self.options, **overrides})


@dataclass
class MapBatch:
    """Logits, target and context as tensors in float64."""

    z: torch.Tensor
    y: torch.Tensor
    context: dict

    def numpy(self):
        context = {k: v.detach().double().numpy() for k, v in self.context.items()}
        return self.z.detach().double().numpy().copy(), self.y.numpy(), context

    def float(self):
        return MapBatch(self.z.float(), self.y, {k: v.float() for k, v in self.context.items()})


def context_of(case, images, spatial, seed=0):
    """Generated images (N, 3, H, W) in [0, 1] and features (N, 6, H, W), as far as the loss requires them."""
    g = torch.Generator().manual_seed(100 + seed)
    every = {
        "image": torch.rand(images, 3, *spatial, generator=g, dtype=torch.float64),
        "features": torch.randn(images, 6, *spatial, generator=g, dtype=torch.float64),
    }
    return {name: every[name] for name in case.requires}


def map_batch(case, *, seed=0, images=2, spatial=None, ignored=True, scale=1.5):
    """Blobs of every class (the last one small), a block and some single pixels ignored, and logits that know a little."""
    spatial = spatial or case.spatial
    g = torch.Generator().manual_seed(seed)
    C, classes = case.channels, max(case.channels, 2)
    if case.target == "maps":
        coarse = torch.rand(images, C, *(max(1, s // 3) for s in spatial), generator=g)
        y = (torch.nn.functional.interpolate(coarse, spatial) < 0.4).long()
        hot = y.double()
    else:
        coarse = torch.randint(0, classes - 1, (images, 1, *(max(1, s // 4) for s in spatial)), generator=g).double()
        y = torch.nn.functional.interpolate(coarse, spatial)[:, 0].long()
        y[:, 1:3, 1:4] = classes - 1
        hot = y[:, None].double() if C == 1 else torch.nn.functional.one_hot(y, C).movedim(-1, 1).double()
    z = scale * torch.randn(images, C, *spatial, generator=g, dtype=torch.float64) + 1.5 * (2 * hot - 1)
    if ignored:
        out = torch.rand(images, *spatial, generator=g) < 0.05
        out[0, -4:, -5:] = True
        out[:, 1:3, 1:4] = False
        y = torch.where(out[:, None] if case.target == "maps" else out, 255, y)
    return MapBatch(z, y, context_of(case, images, spatial, seed))
