"""The progress bar of commands that read data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def reading() -> Iterator[Callable[[str, int], Callable[[], object]]]:
    """Yields a function that starts a bar for a section and its number of pairs, and returns what moves it on."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    # on the terminal only, and never in what a pipe reads
    console = Console(stderr=True)
    with Progress(
        *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    ) as bars:  # fmt: skip

        def start(section: str, pairs: int) -> Callable[[], object]:
            task = bars.add_task(f"reading {section}", total=pairs)
            return lambda: bars.advance(task)

        yield start
