"""`evenseg compare CONFIG --seeds 0 1 2`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Output, Overrides, Overwrite, output_folder, read_config


def read_grid(assignments: list[str]) -> dict[str, list[Any]]:
    """Reads `key.path=value,value` options; the values are YAML.

    Raises:
        ValueError: no `=`, no value, or no valid YAML.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    grid: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip() or not text.strip():
            raise ValueError(f"--grid needs key.path=value,value, got {assignment!r}")
        try:
            parsed: Any = OmegaConf.to_container(OmegaConf.create(f"values: [{text}]"))
        except (YAMLError, OmegaConfBaseException) as error:
            raise ValueError(f"--grid: the values {text!r} are no valid YAML: {' '.join(str(error).split())}") from error
        grid[key.strip()] = parsed["values"]
    return grid


def compare(
    config: ConfigFile,
    seeds: Annotated[list[int] | None, typer.Option(help="Several after one --seeds; the config's otherwise.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY.PATH=VALUE,VALUE", help="Every loss with each of these values; may be repeated."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna storage shared by all workers: a database URL or a journal file; default: in the study folder."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that train at the same time.")] = None,
    prune: Annotated[bool | None, typer.Option("--prune/--no-prune", help="Stop runs that lag far behind.")] = None,
    evaluate: Annotated[
        list[str] | None,
        typer.Option("--evaluate", metavar="SPLIT", help="Splits to measure best weights on: val (the default), test or none."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again.")] = False,
    overrides: Overrides = None,
    output: Output = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train every named loss with every seed and write one report; its path is printed last.

    A study that was broken off goes on where it stopped; started several times on one study folder or storage, the
    processes share the work. Exit code 1 says that a run failed.
    """
    with one_line_errors(debug):
        settings = read_config(config, overrides or [])
        for split in evaluate or ():
            if split not in ("val", "test", "none"):
                raise ValueError(f"--evaluate takes val, test or none, got {split!r}")
        from evenseg import study

        folder = output_folder(output, settings.output, config)
        chosen = settings.study.seeds if settings.study is not None and not seeds else seeds
        report = study.compare(
            settings,
            chosen or [settings.seed],
            folder,
            grid=read_grid(grid) if grid else None,
            storage=storage,
            workers=workers,
            prune=prune,
            evaluate=None if evaluate is None else [split for split in evaluate if split != "none"],
            overwrite=overwrite,
            retry_failed=retry_failed,
            say=lambda line: typer.echo(line, err=True),
        )
        typer.echo(str(report))
        failed = study.failures(folder)
        if failed:
            typer.echo(f"{len(failed)} failed: {'; '.join(failed)}", err=True)
            raise typer.Exit(1)
