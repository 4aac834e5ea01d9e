"""The networks that the runs compare, listed once: the seven scripts' and the two controls'."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the scripts say `from common import ...`


class Network(NamedTuple):
    """A script, its own flags, and the name of the run that has the same model without the block."""

    script: str
    own: dict
    control: str | None


NETWORKS: dict[str, Network] = {
    "CNN": Network("CNN.py", {}, None),
    "CNN-32-64-128": Network("CNN.py", {"widths": [32, 64, 128]}, None),
    "CNN-64-128-hidden256-dropout0": Network("CNN.py", {"widths": [64, 128], "hidden": 256, "dropout": 0.0}, None),
    "Self-Attention": Network("Self-Attention.py", {}, "CNN-32-64-128"),
    "Multi-Head Attention": Network("Multi-Head Attention.py", {}, "CNN-32-64-128"),
    "SE-Attention": Network("SE-Attention.py", {}, "CNN-32-64-128"),
    "ECA-Attention": Network("ECA-Attention.py", {}, "CNN-32-64-128"),
    "CBAM-Attention": Network("CBAM-Attention.py", {}, "CNN-32-64-128"),
    "STN-Attention": Network("STN-Attention.py", {}, "CNN-64-128-hidden256-dropout0"),
}


def load(script: str) -> ModuleType:
    """A script as a module: `load("SE-Attention").SEAttention`."""
    # by file, since names with spaces and hyphens cannot be imported
    spec = importlib.util.spec_from_file_location(script.replace("-", "_").replace(" ", "_"), ROOT / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name: str, num_classes: int = 10) -> nn.Module:
    """The network of a run's name, with fresh weights."""
    network = NETWORKS[name]
    return load(Path(network.script).stem).build(num_classes=num_classes, **network.own)


def arguments(name: str) -> list[str]:
    """What to type after `python` for that run: the script and its own flags."""
    script, own, _ = NETWORKS[name]
    typed = [script]
    for flag, value in own.items():
        values = value if isinstance(value, list) else [value]
        typed += [f"--{flag}", *(f"{number:g}" for number in values)]
    return typed
