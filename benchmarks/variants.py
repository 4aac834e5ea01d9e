"""The blocks in variants that take them apart, by the names that `--attention` takes.

Some variants draw no random numbers of their own, so that a network with one starts from the weights of the
network with the block it varies.
"""

from collections.abc import Callable

import torch
from networks import load
from torch import Tensor, nn

SelfAttention = load("Self-Attention").SelfAttention
MultiHeadAttention = load("Multi-Head Attention").MultiHeadAttention
SEAttention = load("SE-Attention").SEAttention
ECAAttention = load("ECA-Attention").ECAAttention
CBAM = load("CBAM-Attention").CBAM


class Scaled(nn.Module):
    """factor * block(x), or factor * x; a gate that starts near 1 / factor starts near 1 in it."""

    def __init__(self, factor: float, block: nn.Module | None = None):
        super().__init__()
        self.factor, self.block = factor, block or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.block(x)


class Gradually(nn.Module):
    """x + alpha * (block(x) - x), with a learned alpha that starts at 0: the README's."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block, self.alpha = block, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * (self.block(x) - x)


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


# gates, called with the channels and the reduction of SE and CBAM
GATES: dict[str, Callable[[int, int], nn.Module]] = {
    "Half": lambda channels, reduction: Scaled(1 / 2),
    "Quarter": lambda channels, reduction: Scaled(1 / 4),
    "SE": SEAttention,
    "ECA": lambda channels, reduction: ECAAttention(channels),
    "CBAM": CBAM,
    "SE-Twice": lambda channels, reduction: Scaled(2, SEAttention(channels, reduction)),
    "ECA-Twice": lambda channels, reduction: Scaled(2, ECAAttention(channels)),
    "CBAM-Four": lambda channels, reduction: Scaled(4, CBAM(channels, reduction)),
    "SE-Gradually": lambda channels, reduction: Gradually(SEAttention(channels, reduction)),
    "ECA-Gradually": lambda channels, reduction: Gradually(ECAAttention(channels)),
    "CBAM-Gradually": lambda channels, reduction: Gradually(CBAM(channels, reduction)),
}
# called with the channels
ATTENTION: dict[str, Callable[[int], nn.Module]] = {
    "Self": SelfAttention,
    "Self-Local": SelfLocal,
    "Self-Uniform": SelfUniform,
    "Multi-Head": MultiHeadAttention,
}
