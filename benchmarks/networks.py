"""The networks that the runs compare, listed once: the seven scripts', the two controls' and the variants'."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the scripts say `from common import ...`


class Network(NamedTuple):
    """A script, its own flags, and the name of the run that has the same model without the block."""

    script: str
    flags: dict
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
VARIANTS = {  # `Trunk-SE-next2`: SE, the first weights of the layers after it doubled
    f"Trunk{f'-{block}' if block else ''}{f'-next{factor:g}' if factor else ''}": Network(
        "benchmarks/Trunk.py",
        ({"attention": block} if block else {}) | ({"next": factor} if factor else {}),
        "CNN-32-64-128",
    )
    for block, factor in [
        *((block, None) for block in ("Half", "Quarter", "SE-Twice", "ECA-Twice", "CBAM-Four")),
        *((block, None) for block in ("SE-Gradually", "ECA-Gradually", "CBAM-Gradually", "Self-Local", "Self-Uniform")),
        *((None, 0.5), ("Half", 2.0), ("SE", 2.0), ("CBAM", 4.0)),
    ]
}
IN_RESNET = ["SE", "CBAM", "Self", "Multi-Head", "SE-Twice", "CBAM-Four"]
IN_RESNET += ["ECA", "Half", "Self-Local", "Self-Uniform", "STN"]
VARIANTS["ResNet-8"] = Network("benchmarks/ResNet-8.py", {}, None)
VARIANTS |= {
    f"ResNet-8-{block}": Network("benchmarks/ResNet-8.py", {"attention": block}, "ResNet-8") for block in IN_RESNET
}
ALL = NETWORKS | VARIANTS


def load(script: str) -> ModuleType:
    """A script as a module: `load("SE-Attention").SEAttention`."""
    return importlib.import_module(script)  # `import` would not take the hyphens and spaces of their names


def build(name: str, num_classes: int = 10) -> nn.Module:
    """The network of a run's name, one of `NETWORKS`, with fresh weights."""
    network = NETWORKS[name]
    return load(Path(network.script).stem).build(num_classes=num_classes, **network.flags)


def arguments(name: str) -> list[str]:
    """What to type after `python` for the run of that name: the script and its own flags."""
    network = ALL[name]
    typed = [str(ROOT / network.script)]
    for flag, value in network.flags.items():
        typed += [f"--{flag}", *(f"{word}" for word in (value if isinstance(value, list) else [value]))]
    return typed
