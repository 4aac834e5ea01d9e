"""The blocks as users copy them: the classes cut out of their scripts, in modules that import torch and math alone."""

import ast
import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from helpers import ROOT
from torch import nn

SCRIPTS = {
    "SelfAttention": "Self-Attention",
    "MultiHeadAttention": "Multi-Head Attention",
    "SEAttention": "SE-Attention",
    "ECAAttention": "ECA-Attention",
    "CBAM": "CBAM-Attention",
    "STN": "STN-Attention",
}
IMPORTS = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


def paste(script: str, folder: Path) -> ModuleType:
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    classes = [
        ast.get_source_segment(source, node) for node in ast.parse(source).body if isinstance(node, ast.ClassDef)
    ]
    path = folder / f"copied_{script.replace('-', '_').replace(' ', '_')}.py"  # TorchScript reads the source again
    path.write_text("\n\n\n".join([IMPORTS, *classes]), encoding="utf-8")
    return importlib.import_module(path.stem)


FOLDER = tempfile.TemporaryDirectory()  # as long as the tests
sys.path.append(FOLDER.name)  # torch.compile imports the module of what it compiles
COPIED = {name: getattr(paste(script, Path(FOLDER.name)), name) for name, script in SCRIPTS.items()}
COMPARE_POSITIONS = ("SelfAttention", "MultiHeadAttention")


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def moved(name: str) -> nn.Module:
    """A copied block for 16 channels that has left its starting point, where some blocks are the identity."""
    torch.manual_seed(0)
    block = COPIED[name](16)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += (0.01 if name == "STN" else 0.1) * torch.randn_like(parameter)
    return block
