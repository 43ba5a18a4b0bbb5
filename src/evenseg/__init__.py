"""Semantic segmentation on uneven classes: losses that optimise what is measured, and honest comparison."""

import typing

if typing.TYPE_CHECKING:
    from evenseg.losses import build_loss

__version__ = "0.1.0"
__all__ = ["__version__", "build_loss"]


def __getattr__(name: str) -> object:
    # on first use, so that reading a configuration or writing a report need not load torch
    if name == "build_loss":
        from evenseg.losses import build_loss

        globals()[name] = build_loss
        return build_loss
    raise AttributeError(f"module 'evenseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
