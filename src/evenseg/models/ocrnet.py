"""OCRNet: object-contextual representations on an HRNet.

Sources: Y. Yuan, X. Chen, J. Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020, arXiv
1909.11065, section 3; K. Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", arXiv
1904.04514 (the trunk and how its branches are joined). Layer sizes, biases, initial values and the order of the outputs
are PaddleSeg's; the authors' code has dropout 0.05, align_corners True, fewer biases, and gives the auxiliary output
first. timm's trunk is that of the classification network, whose branches meet by nearest neighbour; here they meet by
bilinear interpolation, as in PaddleSeg, in the authors' segmentation code and in MMSegmentation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evenseg.models.checks import check_sizes
from evenseg.models.padding import pad_to_multiple, resize
from evenseg.models.pretrained import NONE, timm_trunk

# channels of pixels and objects, and of the queries and keys that compare them (section 3.3 of the paper)
FEATURES, KEYS = 512, 256


class OCRNet(nn.Module):
    """OCRNet (Yuan et al. 2020) on timm's HRNet: 12.08 million parameters with W18 and 19 classes.

    Args:
        num_classes: channels of the logits.
        backbone: a timm HRNet, "hrnet_w18" or "hrnet_w48" for example.
        pretrained: weights of the backbone: "none", the name of weights that timm knows ("hrnet_w18_ssld.paddle_in1k",
            fetched unless they are in the local cache), or a file.
        in_channels: of the images.
        dropout: probability of dropping a channel of the features before the last convolution.
        align_corners: how branches and logits are resized.

    `forward` takes images (N, in_channels, H, W) of any size, padded inside to a multiple of 32, and returns
    [logits (N, C, H, W), auxiliary logits (N, C, H, W)]. The auxiliary logits say which pixels make up an object, so
    they need a loss too: `coef: [1, 0.4]` is usual.
    """

    num_outputs = 2
    stride = 32

    def __init__(
        self,
        num_classes: int,
        backbone: str = "hrnet_w18",
        pretrained: str = NONE,
        in_channels: int = 3,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(num_classes, in_channels, dropout)
        self.num_classes, self.align_corners = num_classes, align_corners
        # without its feature_location timm would widen the branches for classification
        self.backbone = timm_trunk(backbone, "hrnet", pretrained, in_channels, feature_location="")
        for module in self.backbone.modules():
            if isinstance(module, nn.Upsample):
                module.mode, module.align_corners = "bilinear", align_corners
        # the first feature map is the stem's, at half the image's size
        width = sum(self.backbone.feature_info.channels()[1:])
        self.auxiliary = nn.Sequential(_unit(width, width), nn.Conv2d(width, num_classes, 1))
        self.pixels = _unit(width, FEATURES, kernel=3)
        self.attention = ObjectAttention(FEATURES, KEYS)
        self.join = nn.Sequential(_unit(2 * FEATURES, FEATURES), nn.Dropout2d(dropout))
        self.head = nn.Conv2d(FEATURES, num_classes, 1)
        for part in (self.auxiliary, self.pixels, self.attention, self.join, self.head):
            part.apply(_initialize)

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.stride)
        _, *branches = self.backbone(padded)
        joined = torch.cat([self._resize(branch, branches[0]) for branch in branches], dim=1)
        auxiliary = self.auxiliary(joined)
        pixels = self.pixels(joined)
        context = self.attention(pixels, object_regions(pixels, auxiliary))
        logits = self.head(self.join(torch.cat([context, pixels], dim=1)))
        return [self._resize(output, padded)[..., :height, :width] for output in (logits, auxiliary)]

    def _resize(self, features: Tensor, like: Tensor) -> Tensor:
        return resize(features, like, align_corners=self.align_corners)


def object_regions(pixels: Tensor, logits: Tensor) -> Tensor:
    """Returns what each class looks like in each image: the mean of its pixels' features, (N, D, K, 1).

    f_k = sum_i w_ki x_i with w_k = softmax of the class's logits over all pixels i (equation 8).

    Args:
        pixels: features x (N, D, H, W).
        logits: coarse scores (N, K, H, W).
    """
    # a weight is about 1 / (H W), which half precision cannot hold
    with torch.autocast(pixels.device.type, enabled=False):
        weights_NKP = logits.flatten(2).float().softmax(dim=2)
        means_NKD = weights_NKP @ pixels.flatten(2).float().transpose(1, 2)
    return means_NKD.transpose(1, 2).unsqueeze(3).to(pixels.dtype)


class ObjectAttention(nn.Module):
    """Gives every pixel a mix of the object regions, by how much it resembles each (equations 9 and 10).

    y_i = up(sum_k a_ik down(f_k)),  a_i = softmax over k of q(x_i) . key(f_k) / sqrt(keys)
    """

    def __init__(self, features: int, keys: int) -> None:
        super().__init__()
        self.scale = keys**-0.5
        self.query = nn.Sequential(_unit(features, keys), _unit(keys, keys))
        self.key = nn.Sequential(_unit(features, keys), _unit(keys, keys))
        self.down = _unit(features, keys)
        self.up = _unit(keys, features)

    def forward(self, pixels: Tensor, objects: Tensor) -> Tensor:
        """Returns the context of every pixel (N, D, H, W) from pixels (N, D, H, W) and objects (N, D, K, 1)."""
        # scaled before the product, which half precision might not hold
        query_NPJ = self.scale * self.query(pixels).flatten(2).transpose(1, 2)
        key_NJK = self.key(objects).flatten(2)
        value_NKJ = self.down(objects).flatten(2).transpose(1, 2)
        attention_NPK = (query_NPJ @ key_NJK).softmax(dim=2)
        context_NJP = (attention_NPK @ value_NKJ).transpose(1, 2)
        return self.up(context_NJP.unflatten(2, pixels.shape[-2:]))


def _unit(in_channels: int, out_channels: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
