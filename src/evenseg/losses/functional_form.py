"""`dice_loss(logits, target, **options)` from `DiceLoss`: one definition, two ways to call it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def functional(module: type[nn.Module]) -> Callable[..., Tensor]:
    """The function that builds the module with the keywords and calls it once.

    The function is for single evaluations (tests, notebooks, metrics); in training keep the module, which checks its
    options once and can hold a memory.
    """
    parameters = inspect.signature(module.__init__).parameters.values()
    own = [p for p in parameters if p.name != "self"]
    of_call = inspect.signature(module.forward).parameters
    extra = [*getattr(module, "requires", ()), *(["annotated"] if "annotated" in of_call else [])]

    def loss(logits: Tensor, target: Tensor, *, pixel_weight: Tensor | None = None, **options: Any) -> Tensor:
        context = {name: options.pop(name) for name in extra if name in options}
        return module(**options)(logits, target, pixel_weight, **context)

    loss.__name__ = loss.__qualname__ = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", module.__name__).lower()
    loss.__module__ = module.__module__
    own_words = (module.__doc__ or "").strip()
    loss.__doc__ = f"{own_words}\n\n    As a function: the module {module.__name__} built with the keywords and called once."
    call = inspect.signature(loss).parameters
    context = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Tensor) for name in getattr(module, "requires", ())]
    partial = [of_call["annotated"]] if "annotated" in extra else []
    loss.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [call["logits"], call["target"], *context, call["pixel_weight"], *partial, *own], return_annotation=Tensor
    )
    return loss
