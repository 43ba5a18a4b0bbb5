"""How commands fail: one line and exit code 2 for what the user can change, a traceback for our own mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Turns ValueError (ConfigError among them), FileNotFoundError and the like into `error: ...` and exit code 2.

    Args:
        debug: let the traceback through instead.
    """
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if debug:
            raise
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from error
