"""What the README says is what happens."""

import re
from pathlib import Path

import pytest

from evenseg.losses.table import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [README, *[(ROOT / "docs" / f"{name}.md").read_text() for name in ("training", "evaluation", "partial_labels", "migrating")]]


def test_table_of_losses_is_the_generated_one():
    written = re.search(r"<!-- losses:begin[^\n]*\n(.*?)<!-- losses:end -->", README, re.S).group(1).strip()
    assert written == markdown_table(), "run `evenseg losses --markdown` and put its output between the marks"


@pytest.mark.parametrize("code", [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page, re.S)])
def test_python_examples_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_first_configuration_fits_together(tmp_path):
    pytest.importorskip("lightning")
    from evenseg.config import load_config
    from evenseg.engine.checks import check_signatures

    code = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.S).group(1)
    (tmp_path / "my.yml").write_text(code)
    check_signatures(load_config(tmp_path / "my.yml"))


def test_commands_exist():
    typer_testing = pytest.importorskip("typer.testing")
    from evenseg.cli import app

    commands = set(re.findall(r"^evenseg ([\w-]+)", README, re.M))
    assert {"train", "compare", "evaluate", "losses"} <= commands
    for command in commands:
        assert typer_testing.CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_targets_of_links_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
