"""Self-attention that cannot choose: every position attends to all alike. `--help` has every flag.

    python benchmarks/ablations/Self-Uniform.py

Self-Attention minus this is what choosing where to look adds.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from networks import load

from common import CNN, run

SelfAttention = load("Self-Attention").SelfAttention


class SelfUniform(SelfAttention):
    """Self-attention with A = 1 / HW, so y = x + gamma * mean of V; query and key stay, unused.

    Why: Cao et al. (GCNet, 2019, arXiv 1904.11492) found learned maps almost the same for every query.
    """

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        positions = x.shape[2] * x.shape[3]
        return x.new_full((len(x), positions, positions), 1 / positions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = self.value(x.flatten(2).transpose(1, 2))
        out = v.mean(dim=1, keepdim=True).expand_as(v)
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def build(num_classes: int) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=SelfUniform, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")
