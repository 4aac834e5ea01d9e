"""The house's own rules: who imports whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT, SCRIPTS

SCRIPT_FILES = [ROOT / f"{script}.py" for script in SCRIPTS]
COMMON = ROOT / "common.py"
SUPPORT = sorted((ROOT / "support").rglob("*.py"))
ROOMS = ["ground", "data", "run", "pictures"]  # of support, from the lowest; ground: the modules of its own folder
FILES = [*SCRIPT_FILES, COMMON, *SUPPORT]
OWN = {path.stem for path in [*SCRIPT_FILES, COMMON]} | {"support", "benchmarks", "tests"}
LINES = {**dict.fromkeys(SCRIPT_FILES, 99), ROOT / "CBAM-Attention.py": 129, COMMON: 320}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[tuple[str, str | None]]:
    """What a file imports, within functions too, as (module, name): `import a.b` is ("a.b", None)."""
    found = set()
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            found |= {(module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found.add((ast.unparse(node.args[0]).strip("'\""), None))
    return found


def own_imports(path: Path) -> set[tuple[str, str | None]]:
    """Those of them that are of this project."""
    return {(module, name) for module, name in imports(path) if module.split(".")[0] in OWN}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(module: str) -> str:
    _, *rooms, _ = module.split(".")
    return rooms[0] if rooms else "ground"


def support_modules(path: Path) -> set[str]:
    """The modules of support that a file imports, as `from support import x` too."""
    modules = {module_name(other) for other in SUPPORT}
    found = {f"{module}.{name}" for module, name in own_imports(path)} | {module for module, _ in own_imports(path)}
    return found & modules


def test_the_top_holds_the_scripts_and_common_alone():
    assert {path.name for path in ROOT.glob("*.py")} == {path.name for path in [*SCRIPT_FILES, COMMON]}


@pytest.mark.parametrize("path", SCRIPT_FILES, ids=lambda path: path.stem)
def test_a_script_has_the_trunk_and_the_run_from_common(path):
    assert own_imports(path) == {("common", "CNN"), ("common", "run")}
    assert {module for module, _ in imports(path) - own_imports(path)} <= {"argparse", "math", "torch", "torch.nn"}


def test_common_imports_from_support_alone():
    assert {module.split(".")[0] for module, _ in own_imports(COMMON)} == {"support"}


@pytest.mark.parametrize("path", SUPPORT, ids=module_name)
def test_support_imports_from_support_alone(path):
    assert {module.split(".")[0] for module, _ in own_imports(path)} <= {"support"}


@pytest.mark.parametrize("path", SUPPORT, ids=module_name)
def test_stairs_go_down_within_support(path):
    here = ROOMS.index(room(module_name(path)))
    assert all(ROOMS.index(room(module)) <= here for module in support_modules(path))


def test_no_circle_within_support():
    needs = {module_name(path): support_modules(path) for path in SUPPORT}
    assert any(needs.values())
    while free := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs, f"these import each other in a circle, or one that does: {', '.join(needs)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_length(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LINES.get(path, 199)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = node.end_lineno - first + 1
            assert lines <= (120 if isinstance(node, ast.ClassDef) else 60), f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SUPPORT, ids=module_name)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(parse(path))
