import errno

import pytest
import typer

from evenseg.cli.errors import one_line_errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("wrong\n  value"), "error: wrong value"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.png"), "error: [Errno 28] No space left on device: 'out/a.png'"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out"), "error: [Errno 21] Is a directory: 'out'"),
    ],
)
def test_what_the_user_can_change_is_one_line(error, line, capsys):
    with pytest.raises(typer.Exit) as exit, one_line_errors(debug=False):
        raise error
    assert exit.value.exit_code == 2
    assert capsys.readouterr().err == line + "\n"
    with pytest.raises(type(error)), one_line_errors(debug=True):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("our own mistake"), BrokenPipeError()])
def test_other_errors_pass(error, capsys):
    with pytest.raises(type(error)), one_line_errors(debug=False):
        raise error
    assert capsys.readouterr().err == ""
