"""Which room may import which, what an import costs, and what is public."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import evenseg
from evenseg import functional, losses, statistics

SOURCE = Path(evenseg.__file__).parent
ROOMS = ["statistics", "losses", "functional", "bench", "metrics", "data", "models", "config", "engine", "study", "report", "cli"]
# what each room may import of the others; statistics <- losses <- engine <- study <- cli
ALLOWED = {
    "statistics": set(),
    "losses": {"statistics"},
    "functional": {"losses", "statistics"},
    "bench": {"losses", "statistics"},
    "metrics": {"statistics"},
    "models": set(),
    "config": set(),
    "report": {"config"},
    "data": {"config"},
    "engine": {"statistics", "losses", "functional", "metrics", "data", "models", "config", "report"},
    "study": {"engine", "losses", "functional", "statistics", "metrics", "data", "models", "config", "report"},
    "cli": set(ROOMS),
}
HEAVY = ("torch", "numba", "triton", "lightning", "torchvision", "segmentation_models_pytorch", "timm", "plotly", "optuna")


def imports(path):
    """Every module that a file imports anywhere, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = path.relative_to(SOURCE.parent).with_suffix("").parts[: -node.level]
                base = ".".join([*parts, base] if base else parts)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def files(room):
    single = SOURCE / f"{room}.py"
    return [single] if single.exists() else sorted((SOURCE / room).rglob("*.py"))


def test_every_room_is_known():
    here = {p.stem if p.suffix == ".py" else p.name for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert {name for name in here if not name.startswith("_")} <= set(ROOMS)
    assert files("statistics")
    assert "evenseg.statistics" in imports(SOURCE / "losses" / "base.py")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    for path in files(room):
        of_rooms = {name.split(".")[1] for name in imports(path) if name.startswith("evenseg.")} & set(ROOMS)
        outside = of_rooms - {room} - ALLOWED[room]
        assert not outside, f"{path.relative_to(SOURCE)} imports {', '.join(sorted(outside))}"


@pytest.mark.parametrize("room", ["config", "report"])
def test_these_rooms_know_no_torch(room):
    for path in files(room):
        heavy = {name for name in imports(path) if name.split(".")[0] in ("torch", "lightning", "torchvision", "torchmetrics")}
        assert not heavy, f"{path.relative_to(SOURCE)} imports {heavy}"


def loaded(code):
    """The heavy packages in memory after running the code in a fresh interpreter."""
    probe = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("modules", ["evenseg", "evenseg.config", "evenseg.report", "evenseg.cli"])
def test_what_needs_no_torch_loads_none(modules):
    assert loaded(f"import {modules}") == set()


def test_import_is_light():
    assert loaded("import evenseg, evenseg.losses, evenseg.functional, evenseg.statistics; evenseg.build_loss") == {"torch"}


def test_eager_losses_load_no_numba():
    call = "L.LovaszSoftmaxLoss(engine='eager')(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())"
    code = f"import torch, evenseg.losses as L; {call}"
    assert loaded(code) - {"triton"} == {"torch"}  # torch itself loads triton where it is installed


@pytest.mark.parametrize("package", [losses, functional, statistics, evenseg], ids=lambda m: m.__name__)
def test_all_is_what_is_public(package):
    public = {
        name
        for name, value in ((name, getattr(package, name)) for name in dir(package))
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "evenseg").startswith("evenseg")
    }
    public -= {"annotations"}
    assert set(package.__all__) - {"__version__"} == public
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert hasattr(package, name)


@pytest.mark.parametrize("package", [losses, functional, statistics], ids=lambda m: m.__name__)
def test_everything_public_says_what_it_is(package):
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            assert len(text) > 40, name
            assert text.splitlines()[0].strip().endswith((".", ":")), f"{name}: the first line is a sentence"


def test_losses_say_range_and_formula():
    for name, loss in losses.LOSSES.items():
        text = inspect.getdoc(loss)
        assert name == loss.__name__
        assert "Range: [" in text or name == "MixedLoss", name
        assert "L = " in text or "L_c = " in text or "coef_k" in text or name in ("FocalLoss",), name


def test_keywords_in_docstrings_are_those_of_the_signature():
    """Every own keyword of a loss is described, and nothing that does not exist."""
    for name, loss in losses.LOSSES.items():
        text = inspect.getdoc(loss)
        own = [p.name for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
        inherited = {"absent_as_zero", "weight_normalization"}
        for keyword in own:
            covered = "**options" in text or keyword in inherited or keyword in text
            assert covered, f"{name}: {keyword} is not described"


def test_no_two_test_files_share_a_name():
    """pytest imports test files by their bare name."""
    names = [file.name for file in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
