"""Makes `import torchvision` work beside a CPU build of torch; import this before torchvision, timm, SMP or torchmetrics.

PyPI's torchvision wheel is linked to CUDA. Beside a CPU torch its C++ library does not load, and its import then fails
because two operator schemas are missing (pytorch/vision issues 9077 and 9085), taking every package that imports it
down too. Defining the two schemas is enough for all but torchvision.io and the compiled operators.
"""

import torch

_library = None
if torch.version.cuda is None:
    _missing = [op for op in ("nms", "qnms") if not hasattr(torch.ops.torchvision, op)]
    if _missing:
        _library = torch.library.Library("torchvision", "FRAGMENT")  # must stay alive
        for _op in _missing:
            _library.define(f"{_op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
