"""Self-attention that looks nowhere: every position attends to itself alone. `--help` has every flag.

    python benchmarks/ablations/Self-Local.py

Self-Attention minus this is what looking at other positions adds.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from networks import load

from common import CNN, run

SelfAttention = load("Self-Attention").SelfAttention


class SelfLocal(SelfAttention):
    """Self-attention with A = I, so y = x + gamma * V: query and key stay unused, for the same first weights."""

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        positions = x.shape[2] * x.shape[3]
        return torch.eye(positions, dtype=x.dtype, device=x.device).expand(len(x), -1, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.value(x.flatten(2).transpose(1, 2))
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def build(num_classes: int) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=SelfLocal, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")
