"""Variants that take the blocks apart, each on its script's network, with the scripts' flags.

    python benchmarks/variants.py SE-scale2 --data shapes

Some variants draw no random numbers of their own, so that a network with one starts from the weights of the
network with the block it varies.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from networks import NETWORKS, load
from torch import Tensor, nn

from common import run
from support.errors import finish

SelfAttention = load("Self-Attention").SelfAttention
MultiHeadAttention = load("Multi-Head Attention").MultiHeadAttention
SEAttention = load("SE-Attention").SEAttention
ECAAttention = load("ECA-Attention").ECAAttention
CBAM = load("CBAM-Attention").CBAM
STN = load("STN-Attention").STN


class Constant(nn.Module):
    """factor * x: what remains of a gate that learns nothing."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Gradually(nn.Module):
    """x + alpha * (block(x) - x), with a learned alpha that starts at 0: docs/using.md's."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block, self.alpha = block, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * (self.block(x) - x)


class LinearShortcut(nn.Module):
    """A linear layer with a shortcut: attention's frame without the attention.

        V = x W + b                                     (N, HW, C)  x read as H*W tokens of C channels
        y = x + gamma * V                               (N, C, H, W)

    gamma is a learned number that starts at 0, so the block starts as the identity. A block minus this is what it
    adds to plain further capacity.

    Args:
        channels: C.

    Shape: (N, C, H, W) to the same, any H and W.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.linear(x.flatten(2).transpose(1, 2))  # (N, HW, C)
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


class SelfLocal(SelfAttention):
    """Self-attention with A = I, so y = x + gamma * V: every position attends to itself alone.

    Self-attention minus this is what looking at other positions adds. Queries and keys stay, unused, for the same
    first weights.
    """

    def weights(self, x: Tensor) -> Tensor:
        positions = x.shape[2] * x.shape[3]
        return torch.eye(positions, dtype=x.dtype, device=x.device).expand(len(x), -1, -1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.value(x.flatten(2).transpose(1, 2))
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


class SelfUniform(SelfAttention):
    """Self-attention with A = 1 / HW, so y = x + gamma * mean of V: every position attends to all equally.

    Self-attention minus this is what choosing where to look adds. Why: Cao et al. (GCNet, 2019, arXiv 1904.11492)
    found learned maps almost the same for every query. Queries and keys stay, unused.
    """

    def weights(self, x: Tensor) -> Tensor:
        positions = x.shape[2] * x.shape[3]
        return x.new_full((len(x), positions, positions), 1 / positions)

    def forward(self, x: Tensor) -> Tensor:
        v = self.value(x.flatten(2).transpose(1, 2))
        out = v.mean(dim=1, keepdim=True).expand_as(v)
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def on(script: str, block: Callable[[int], nn.Module]) -> tuple[Callable[..., nn.Module], str]:
    """A script's network with another block, and its control's name."""
    return partial(load(script).build, block=block), NETWORKS[script].control


ECA = partial(ECAAttention, kernel_size=3)  # as the script has it
VARIANTS = {
    "SE-scale2": on("SE-Attention", partial(SEAttention, scale=2)),
    "ECA-scale2": on("ECA-Attention", partial(ECA, scale=2)),
    "CBAM-scale2": on("CBAM-Attention", partial(CBAM, scale=2)),
    "SE-Gradually": on("SE-Attention", lambda channels: Gradually(SEAttention(channels))),
    "ECA-Gradually": on("ECA-Attention", lambda channels: Gradually(ECA(channels))),
    "CBAM-Gradually": on("CBAM-Attention", lambda channels: Gradually(CBAM(channels))),
    "Half": on("SE-Attention", lambda channels: Constant(1 / 2)),
    "Quarter": on("SE-Attention", lambda channels: Constant(1 / 4)),
    "Self-Local": on("Self-Attention", SelfLocal),
    "Self-Uniform": on("Self-Attention", SelfUniform),
    "STN-slope0": on("STN-Attention", partial(STN, slope=0)),
}


if __name__ == "__main__":
    name, *argv = sys.argv[1:] or [""]
    if name not in VARIANTS:
        finish(f"give the name of a variant, then a script's flags; the variants are {', '.join(VARIANTS)}", 2)
    run(*VARIANTS[name], name, argv)
