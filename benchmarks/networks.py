"""The networks of the seven scripts and their two controls, by the names of their runs."""

import importlib
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the scripts say `from common import ...`

import common  # noqa: E402
from support.errors import UserError  # noqa: E402


class Network(NamedTuple):
    """The words after `python` that train it, and its control's name."""

    typed: list[str]
    control: str | None


NETWORKS: dict[str, Network] = {
    "CNN": Network(["CNN.py"], None),
    "CNN-32-64-128": Network(["SE-Attention.py", "--control"], None),
    "CNN-64-128": Network(["STN-Attention.py", "--control"], None),
    "Self-Attention": Network(["Self-Attention.py"], "CNN-32-64-128"),
    "Multi-Head Attention": Network(["Multi-Head Attention.py"], "CNN-32-64-128"),
    "SE-Attention": Network(["SE-Attention.py"], "CNN-32-64-128"),
    "ECA-Attention": Network(["ECA-Attention.py"], "CNN-32-64-128"),
    "CBAM-Attention": Network(["CBAM-Attention.py"], "CNN-32-64-128"),
    "STN-Attention": Network(["STN-Attention.py"], "CNN-64-128"),
}


def load(script: str) -> ModuleType:
    """A script as a module: `load("SE-Attention").SEAttention`."""
    return importlib.import_module(script)  # `import` does not take names with hyphens and spaces


def build(name: str, num_classes: int = 10) -> nn.Module:
    """The network of a run's name, one of `NETWORKS`, with fresh weights."""
    script, *control = NETWORKS[name].typed
    return load(Path(script).stem).build(num_classes=num_classes, **({"block": None} if control else {}))


def arguments(name: str) -> list[str]:
    """What to type after `python` for the run of that name."""
    script, *words = NETWORKS[name].typed if name in NETWORKS else ["benchmarks/variants.py", name]
    return [str(ROOT / script), *words]


def one_line(error: BaseException, script: Path) -> str:
    """What someone's own script raised, and in which of its lines."""
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(script)]
    return f"{type(error).__name__}: {error}".splitlines()[0] + (f" (line {numbers[-1]})" if numbers else "")


def read_script(path: Path) -> tuple[Callable[..., nn.Module], str]:
    """What a script, also a user's own, passes to `run`: its `build`, and the name of its control.

    Raises:
        UserError: the script cannot be run, or its block cannot be exchanged.
    """
    if not path.is_file():
        raise UserError(f"{path}: script not found", 2)
    sys.path.append(str(path.resolve().parent))  # for its own modules
    handed = []
    run, common.run = common.run, lambda build, control=None, *_, **__: handed.append((build, control))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except (Exception, SystemExit) as error:
        raise UserError(f"{path}: {one_line(error, path)}", 2) from error
    finally:
        common.run = run
    if not handed or not handed[-1][1]:
        raise UserError(f'{path}: name its control where it calls run: run(build, control="CNN-32-64-128")', 2)
    block = inspect.signature(handed[-1][0]).parameters.get("block")
    if block is None or not callable(block.default):
        raise UserError(f"{path}: give build a block to exchange: def build(num_classes, block=MyAttention)", 2)
    return handed[-1]
