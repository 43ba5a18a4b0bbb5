"""`evenseg config show|check|schema`"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import ConfigFile, Debug, Overrides, read_config

if TYPE_CHECKING:
    from evenseg.config import Config
    from evenseg.engine.checks import Fit

config = typer.Typer(help="Look at configurations.", no_args_is_help=True, rich_markup_mode=None)


@config.command()
def show(
    file: ConfigFile,
    overrides: Overrides = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Also what model, data sets, transforms, optimizer and losses take by default.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print the configuration as it is run: bases merged, --set applied, references resolved, top-level defaults filled in."""
    with one_line_errors(debug):
        if defaults:
            settings = read_config(file, overrides or [])
            from evenseg.engine import check_signatures
            from evenseg.engine.defaults import dump_with_defaults

            check_signatures(settings)
            typer.echo(dump_with_defaults(settings), nl=False)
            return
        from evenseg.config import dump_config, load_config

        typer.echo(dump_config(load_config(file, overrides or [])), nl=False)


@config.command()
def check(file: ConfigFile, overrides: Overrides = None, debug: Debug = False) -> None:
    """Check everything that can be told without reading data: names, values, classes, outputs, crop, ignored labels."""
    with one_line_errors(debug):
        settings = read_config(file, overrides or [])
        from evenseg.engine import cross_check

        for line in _report(settings, cross_check(settings)):
            typer.echo(line)


@config.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/configuration.md instead.")] = False,
) -> None:
    """Print the JSON Schema of configurations, for editors that complete and check YAML."""
    if markdown:
        from evenseg.config import key_table

        typer.echo(key_table())
        return
    import json

    from evenseg.engine import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))


def _report(settings: Config, fit: Fit) -> list[str]:
    from evenseg.engine import loss_sections

    data = settings.train_dataset
    facts = {"data set": f"{data.type}: ", "model": f"{settings.model.type}: "}
    if fit.classes is None or fit.model is None:
        facts["data set"] += f"its classes are not known before {data.keywords.get('root', data.type)} exists"
        facts["model"] += "not held against the classes, nor are the losses"
    else:
        names = fit.classes.names
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        facts["data set"] += f"{len(names)} classes ({shown}), {fit.classes.ignore_index} ignored"
        parameters = sum(parameter.numel() for parameter in fit.model.parameters())
        outputs = int(fit.model.num_outputs)  # type: ignore[arg-type]
        facts["model"] += f"{parameters / 1e6:.2f} million parameters, {outputs} output{'' if outputs == 1 else 's'}"
    facts |= {path.removeprefix("losses."): _loss(section, settings.iters) for path, section in loss_sections(settings).items()}
    facts["training"] = f"{settings.iters} steps of {settings.batch_size} images, evaluated every {settings.evaluate_every}, "
    facts["training"] += f"{settings.optimizer.type}, {settings.lr_scheduler.type}, seed {settings.seed}"
    width = max(map(len, facts))
    return [f"{settings.source}: fits together", *[f"  {name:<{width}}  {fact}" for name, fact in facts.items()]]


def _loss(section: Mapping[str, Any], iters: int) -> str:
    """Returns a loss section in a line: coefficients and types of every output, phases after each other."""
    from evenseg.losses.phases import first_step

    text = " + ".join(_outputs(section))
    for phase in section.get("phases") or ():
        outputs = " + ".join(_outputs({"coef": section.get("coef", [1])} | dict(phase)))
        text += f"; from step {first_step(phase['start'], iters)} {outputs}"
    return text


def _outputs(section: Mapping[str, Any]) -> list[str]:
    types, coef = section.get("types", [section]), section.get("coef", [1])
    types = list(types) * len(coef) if len(types) == 1 else types
    return [f"{number:g} {_type(entry)}" for number, entry in zip(coef, types, strict=True)]


def _type(loss: Mapping[str, Any]) -> str:
    if "losses" not in loss:
        return str(loss["type"])
    return "(" + " + ".join(f"{number:g} {_type(part)}" for number, part in zip(loss["coef"], loss["losses"], strict=True)) + ")"
