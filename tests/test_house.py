"""The house: scripts on `common`, `common` on `support`, never back nor round; and its rooms stay small."""

import ast

import pytest
from helpers import ROOT, SCRIPTS

MODULES = {path.stem: path for path in (ROOT / "support").glob("*.py")}


def imports(path) -> dict[str, list[str]]:
    """The modules that a file imports, also inside functions, each with the names that it takes from there."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name: [] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found[node.module] = [alias.name for alias in node.names]
    return found


def used_in_support(path) -> set[str]:
    found = imports(path)
    whole = {module.partition(".")[2] for module in found if module.startswith("support.")}
    return whole | set(found.get("support", []))


def test_the_top_level_holds_the_scripts_and_common_alone():
    assert {path.stem for path in ROOT.glob("*.py")} == {*SCRIPTS, "common"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_knows_common_alone(script):
    found = imports(ROOT / f"{script}.py")
    assert sorted(found.pop("common")) == ["CNN", "run"]
    assert set(found) <= {"argparse", "math", "torch", "torch.nn"}


def test_common_knows_no_script_and_support_knows_neither():
    assert all(module.partition(".")[0] not in SCRIPTS for module in imports(ROOT / "common.py"))
    for path in MODULES.values():
        assert not {module.partition(".")[0] for module in imports(path)} & {"common", "tests", "benchmarks", *SCRIPTS}


def test_support_goes_round_nowhere():
    below = {name: used_in_support(path) for name, path in MODULES.items()}
    while free := [name for name, used in below.items() if not used & below.keys()]:
        for name in free:
            del below[name]
    assert not below, f"these import one another: {sorted(below)}"


@pytest.mark.parametrize("path", [ROOT / "common.py", *MODULES.values()], ids=lambda path: path.stem)
def test_rooms_are_small(path):
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n")
    assert lines <= (320 if path.stem == "common" else 199)
    for node in ast.walk(ast.parse(source)):
        length = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
        if isinstance(node, ast.FunctionDef):
            assert length <= 60, node.name
        elif isinstance(node, ast.ClassDef):
            assert length <= 120, node.name


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_read_in_one_sitting(script):
    assert len((ROOT / f"{script}.py").read_text(encoding="utf-8").splitlines()) < (130 if "CBAM" in script else 100)
