"""What every network asks of its numbers."""

from __future__ import annotations


def check_sizes(num_classes: int, in_channels: int, dropout: float = 0.0) -> None:
    """ValueError when a network cannot be built with these numbers."""
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
