"""The blocks as users copy them: the classes cut out of their scripts, in modules that import torch and math alone."""

import ast
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ATTENTION, ROOT
from torch import nn

IMPORTS = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
FOLDER = tempfile.TemporaryDirectory()  # as long as the tests, since TorchScript reads the source again
sys.path.append(FOLDER.name)  # torch.compile and pickle import the module of a class


def paste(script: str) -> list[type[nn.Module]]:
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    path = Path(FOLDER.name, f"copied_{script.replace('-', '_').replace(' ', '_')}.py")
    parts = [IMPORTS, *(ast.get_source_segment(source, node) for node in classes)]
    path.write_text("\n\n\n".join(parts), encoding="utf-8")
    module = importlib.import_module(path.stem)
    return [getattr(module, node.name) for node in classes]


[SelfAttention, MultiHeadAttention, SEAttention, ECAAttention, ChannelAttention, SpatialAttention, CBAM, STN] = [
    block for script in ATTENTION for block in paste(script)
]
BLOCKS = [SelfAttention, MultiHeadAttention, SEAttention, ECAAttention, CBAM, STN]
every_block = pytest.mark.parametrize("make", BLOCKS)


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def moved(make: Callable[..., nn.Module], **arguments) -> nn.Module:
    """A block for 16 channels that has left its starting point, where some blocks are the identity."""
    torch.manual_seed(0)
    block = make(16, **arguments)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += (0.01 if isinstance(block, STN) else 0.1) * torch.randn_like(parameter)
    return block
