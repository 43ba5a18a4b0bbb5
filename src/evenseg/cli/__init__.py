"""The command line; one file per command, heavy imports inside them."""

import os
import sys
from pathlib import Path

import typer

from evenseg import _notice
from evenseg.cli.bench import bench
from evenseg.cli.check import check
from evenseg.cli.compare import compare
from evenseg.cli.config import config
from evenseg.cli.demo import demo
from evenseg.cli.evaluate import evaluate
from evenseg.cli.explain_loss import explain_loss
from evenseg.cli.export import export
from evenseg.cli.fit_edges import fit_edges
from evenseg.cli.losses import losses
from evenseg.cli.options import ScalesCommand, SeedsCommand
from evenseg.cli.predict import predict
from evenseg.cli.search import search
from evenseg.cli.stats import stats
from evenseg.cli.train import train

app = typer.Typer(
    help="Semantic segmentation on uneven classes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(check)
app.command()(stats)
app.command()(train)
app.command("fit-edges")(fit_edges)
app.command(cls=ScalesCommand)(evaluate)
app.command(cls=ScalesCommand)(predict)
app.command()(export)
app.command(cls=SeedsCommand)(compare)
app.command()(search)
app.command()(demo)
app.command()(losses)
app.command()(bench)
app.command()(explain_loss)
app.add_typer(config, name="config")


@app.command()
def version() -> None:
    """Print the version."""
    from evenseg import __version__

    typer.echo(__version__)


def main() -> None:
    """Runs the command line."""
    # last, so that nothing is shadowed: a configuration may name a loss or model that lies in the working folder
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    if os.environ.get("LOCAL_RANK", "0") == "0":
        _notice.on_compiling = _say_compiling
    app()


def _say_compiling() -> None:
    typer.echo("compiling the CPU kernels, once per machine: about half a minute", err=True)


__all__ = ["app", "main"]
