"""`evenseg explain-loss A B`"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evenseg.cli.check import write_json
from evenseg.cli.errors import one_line_errors
from evenseg.cli.options import Debug, JsonFile

if TYPE_CHECKING:
    from torch import Tensor

    from evenseg.losses.explain import Explanation, Switch

_LOSS = "A loss: a name (DiceLoss), a preset (smp.dice), YAML ('{type: DiceLoss, squared: true}'), or a file with a loss section."


def explain_loss(
    a: Annotated[str, typer.Argument(metavar="A", help=_LOSS)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    classes: Annotated[int | None, typer.Option(help="Classes of the made-up batch; 2 for binary losses, else 4.")] = None,
    images: Annotated[int, typer.Option(help="Its images.")] = 2,
    ignored: Annotated[float, typer.Option(help="Share of its pixels that are ignored; 0.5 ignores one of two images.")] = 0.05,
    absent: Annotated[bool, typer.Option("--absent", help="Leave the last class out of its labels.")] = False,
    seed: Annotated[int, typer.Option(help="Of the batch.")] = 0,
    batch: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="A batch of your own instead: arrays logits (N, C, ...) and labels; 255 is ignored."),
    ] = None,
    json_file: JsonFile = None,
    debug: Debug = False,
) -> None:
    """Say why two losses give different numbers: value and gradient on one batch, and what every option that differs does."""
    with one_line_errors(debug):
        first, second = read_loss(a, "A"), read_loss(b, "B")
        from evenseg.losses.explain import explain_losses

        logits, target = _read_batch(batch) if batch else _made_up(first, second, classes, images, ignored, absent, seed)
        found = explain_losses(first, second, logits, target)
        _print(found, a, b, logits, target)
        if json_file is not None:
            write_json(json_file, as_json(found))


def read_loss(text: str, what: str) -> dict[str, Any]:
    """Returns {"type": name, **keywords} for a name, inline YAML or a file.

    Raises:
        ValueError: one line that says what was received and what is allowed.
    """
    import yaml

    from evenseg._names import unknown_name
    from evenseg.losses import LOSSES, PRESETS
    from evenseg.losses.presets import PROJECTS, unknown_preset

    file, _, wanted = text.partition(":") if ".yml:" in text or ".yaml:" in text else (text, "", "")
    path = Path(file)
    if text.lstrip().startswith("{"):
        where = what
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{what}: {text!r} is no YAML: {error}") from error
    elif path.suffix in (".yml", ".yaml") or path.is_file():
        from evenseg.config.inherit import read_inherited

        where = file
        data, _ = read_inherited(path)
        if "losses" in data and "type" not in data:
            named = data["losses"] if isinstance(data["losses"], Mapping) else {}
            if wanted not in named:
                told = unknown_name("loss", wanted, named) if wanted else f"has several losses ({', '.join(named)}); write {file}:NAME"
                raise ValueError(f"{where}: {told}")
            data = named[wanted]
    else:
        known = text.count(".") == 1 and text.partition(".")[0] in PROJECTS
        if text not in LOSSES and text not in PRESETS and (known or "." not in text):
            raise ValueError(f"{what}: {unknown_preset(text) if known else unknown_name('loss', text, [*LOSSES, *PRESETS])}")
        return {"type": text}
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: must be a mapping with a loss, got {data!r}")
    section = data.get("loss", data)
    if isinstance(section, Mapping) and "types" in section:
        types = section["types"]
        section = types[0] if isinstance(types, list) and types else None
    if not isinstance(section, Mapping) or "type" not in section:
        raise ValueError(f"{where}: has no loss; expected {{type: NAME, ...}}, a loss section, or a configuration with one `loss`")
    return {str(k): v for k, v in section.items()}


def _made_up(
    a: Mapping[str, Any], b: Mapping[str, Any], classes: int | None, images: int, ignored: float, absent: bool, seed: int
) -> tuple[Tensor, Tensor]:
    from evenseg.losses.example_batch import example_batch
    from evenseg.losses.explain import modes_and_classes

    modes, needed = modes_and_classes(a, b)
    if classes is None:
        classes = needed or (2 if "binary" in modes else 4)
    return example_batch(classes, images=images, ignored=ignored, absent=absent, maps=modes == {"multilabel"}, seed=seed)


def _read_batch(file: Path) -> tuple[Tensor, Tensor]:
    """Returns logits and labels of an .npz file."""
    import zipfile

    import numpy as np
    import torch

    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: is no .npz file of plain arrays") from error
    for name in ("logits", "labels"):
        if name not in arrays:
            raise ValueError(f"{file}: has no array {name!r}, only {', '.join(arrays) or 'none'}; expected logits and labels")
    logits, labels = arrays["logits"], arrays["labels"]
    if logits.dtype.kind != "f":
        raise ValueError(f"{file}: logits must be floating point numbers, got {logits.dtype}")
    whole = labels.astype("int64") if labels.dtype.kind in "biu" else labels
    return torch.from_numpy(logits), torch.from_numpy(whole)


def verdict(found: Explanation) -> str:
    """Returns the explanation in a sentence or two."""
    differing = [s.option for s in found.switches if s.option != "type"]
    if found.equal:
        text = "A and B give the same value and gradient on this batch to 1e-7"
        if not differing:
            return f"{text}."
        return f"{text}, though they differ in {', '.join(differing)}. Try --absent, --ignored 0.5, or a batch of your own."
    if found.needed is not None:
        word = "together explain" if " and " in found.needed.option else "explains"
        return f"{found.needed.option} {word} the difference{_of_all(found.needed)}."
    if found.explained:
        return "It takes more than three of these options together; all of them give B."
    if found.same_terms:
        return "The options that differ do not add up to B one by one; some do not go together (see the table)."
    rest = "" if found.together is None else f" With all that both have set as in B, {_left(found.together)} of the difference stays."
    return f"A and B are different formulas; no option that both have explains the difference.{rest}"


def _of_all(switch: Switch) -> str:
    return "" if switch.closes(1 - 1e-6) else " (99 % of it and more)"


def _left(switch: Switch) -> str:
    left = [1 - closed for closed in (switch.value_closed, switch.gradient_closed) if closed is not None]
    return "all" if not left or max(left) >= 1 else f"{100 * max(left):.3g} %"


def _print(found: Explanation, a: str, b: str, logits: Tensor, target: Tensor) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shape = " x ".join(map(str, logits.shape))
    share = 100 * (target == 255).double().mean().item()
    console.print(f"batch: logits {shape}, {share:.3g} % of the labels ignored", highlight=False)
    table = Table("", "loss", "value", "|gradient|", title_justify="left")
    for name, given, terms, measured in (("A", a, found.terms_a, found.a), ("B", b, found.terms_b, found.b)):
        said = describe(terms)
        table.add_row(name, given if said == f"{given}()" else f"{given}\n= {said}", f"{measured.value:.9g}", f"{measured.norm:.9g}")
    table.add_row("", "relative difference", f"{found.value_difference:.3g}", f"{found.gradient_difference:.3g}")
    console.print(table, markup=False)
    if found.switches:
        table = Table("option", "A", "B", "A with B's", title="each alone, from A to B", title_justify="left")
        for heading in ("value gap closed", "gradient gap closed"):
            table.add_column(heading, justify="right")
        for switch in found.switches:
            table.add_row(*_row(switch))
        if len(found.switches) > 1 and found.together is not None:
            table.add_section()
            name = "all but the type" if any(s.option.rpartition(".")[2] == "type" for s in found.switches) else "all of these"
            table.add_row(name, *_row(found.together)[1:])
        console.print(table, markup=False)
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if only:
            console.print(f"only {name} has: {', '.join(f'{k}={v!r}' for k, v in only.items())}", highlight=False, markup=False)
    console.print(verdict(found), style="bold", highlight=False, markup=False)


def _row(switch: Switch) -> list[str]:
    values = [switch.option, *("" if v is None and switch.a is switch.b else _value(v) for v in (switch.a, switch.b))]
    if switch.measured is None:
        return [*values, f"not alone: {switch.refusal}", "", ""]
    return [*values, f"{switch.measured.value:.9g}", *map(_share, (switch.value_closed, switch.gradient_closed))]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    # of our own variants the class says enough
    return value.rpartition(".")[2] if isinstance(value, str) and value.startswith("evenseg.") else str(value)


def _share(closed: float | None) -> str:
    if closed is None:
        return "no gap"
    if abs(closed) < 5e-4:
        return "0 %"
    return "100 %" if closed == 1 else f"{100 * closed:.{1 if abs(closed) < 10 else 0}f} %"


def describe(terms: list[tuple[float, dict[str, Any]]]) -> str:
    """Returns the terms of a loss as they would be written with its class."""
    said = []
    for coef, term in terms:
        words = ", ".join(f"{k}={v!r}" for k, v in term.items() if k != "type")
        said.append(("" if coef == 1 else f"{coef:g} ") + f"{_value(term['type'])}({words})")
    return " + ".join(said)


def as_json(found: Explanation) -> dict[str, Any]:
    """Returns everything found, but for the gradients themselves."""

    def switch(one: Switch | None) -> dict[str, Any] | None:
        if one is None:
            return None
        value = None if one.measured is None else one.measured.value
        return {
            "option": one.option, "a": one.a, "b": one.b, "value": value, "value_closed": one.value_closed,
            "gradient_closed": one.gradient_closed, "refusal": one.refusal,
        }  # fmt: skip

    sides = {
        name: {"loss": [{"coef": coef, **term} for coef, term in terms], "value": measured.value, "gradient_norm": measured.norm}
        for name, terms, measured in (("a", found.terms_a, found.a), ("b", found.terms_b, found.b))
    }
    return sides | {
        "value_difference": found.value_difference,
        "gradient_difference": found.gradient_difference,
        "equal": found.equal,
        "switches": [switch(one) for one in found.switches],
        "needed": switch(found.needed),
        "together": switch(found.together),
        "verdict": verdict(found),
    }
