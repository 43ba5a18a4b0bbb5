"""Semantic segmentation on uneven classes: losses that optimise what is measured, and honest comparison."""

from evenseg.losses import build_loss

__version__ = "0.1.0"
__all__ = ["__version__", "build_loss"]
