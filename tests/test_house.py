"""Stairs only go down, and a block imports torch alone."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT, SCRIPTS

ROOMS = ["", "data", "run", "pictures"]  # of support, from the lowest; "": the modules in its own folder


def imports(path: Path) -> set[str]:
    """The modules that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> int:
    """How high up a module of the project stands: rooms of support, then common."""
    first, second, *_ = [*module.split("."), ""]
    return len(ROOMS) if first == "common" else ROOMS.index(second) if second in ROOMS else 0


@pytest.mark.parametrize("path", [*(ROOT / "support").rglob("*.py"), ROOT / "common.py"], ids=lambda path: path.stem)
def test_nothing_imports_from_further_up(path):
    here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imports(path):
        assert module.partition(".")[0] not in ("benchmarks", "tests", *SCRIPTS)
        if module.startswith(("support", "common")):
            assert room(module) <= here, module


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_the_trunk_and_the_run_from_common(script):
    allowed = {"common.CNN", "common.run", "functools.partial", "math", "torch", "torch.nn", "torch.nn.functional"}
    assert {"common.CNN", "common.run"} <= imports(ROOT / f"{script}.py") <= allowed
