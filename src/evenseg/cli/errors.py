"""How commands fail: one line and exit code 2 for what the user can change, a traceback for our own mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from evenseg._collect import one_by_one


@contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Turns ValueError (ConfigError among them) and what the system refuses (no such file, a full disk) into `error: ...`, exit
    code 2; an error that stands for several gets a line for each.

    Args:
        debug: let the traceback through instead.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if debug or isinstance(error, BrokenPipeError):  # a reader that has seen enough is no mistake
            raise
        for one in one_by_one(error):
            typer.echo(f"error: {' '.join(str(one).split())}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from error
