"""Multi-head attention on CIFAR-10: every position attends to all positions in four ways at once.

python "Multi-Head Attention.py"                    100 epochs on CIFAR-10, downloaded into data/
python "Multi-Head Attention.py" --data shapes      on images the program draws: no download
python "Multi-Head Attention.py" --help             every flag
"""

import torch
from torch import nn
from torch.nn import functional as F

from common import CNN, run


class MultiHeadAttention(nn.Module):
    """Adds to each position what several heads gather for it, each with its own queries, keys and values.

    With x read as H*W tokens of C channels, h heads and d = C / h; each head projects all C channels to d:

        Q, K, V = x W + b                               (N, h, HW, d)  each
        A = softmax(Q K^T / sqrt(d))                    (N, h, HW, HW) rows sum to 1
        y = x + gamma * (concat of the heads' A V) Wo   (N, C, H, W)   with a bias

    With the same weights, the part in brackets with Wo equals PyTorch's `nn.MultiheadAttention`. gamma is a learned
    number that starts at 0, so the block starts as the identity. Positions are not encoded: permute the tokens, and
    the result is permuted in the same way. Time grows with (HW)^2, and so does memory unless PyTorch has a fused
    kernel.

    Args:
        channels: C, a multiple of `num_heads`.
        num_heads: h.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `num_heads` is not a positive divisor of `channels`.

    Source: Vaswani et al.: Attention Is All You Need, NeurIPS 2017, arXiv 1706.03762; gamma from Zhang et al.:
    Self-Attention Generative Adversarial Networks, ICML 2019, arXiv 1805.08318.
    """

    def __init__(self, channels: int, num_heads: int = 4):
        super().__init__()
        if num_heads < 1 or channels < num_heads or channels % num_heads:
            raise ValueError(f"num_heads ({num_heads}) must be a positive divisor of channels ({channels})")
        self.num_heads = num_heads
        # rows: queries, keys, values, as in nn.MultiheadAttention
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, C, H, W) to queries, keys and values, (N, h, HW, d) each."""
        tokens = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        split = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1))  # (N, HW, 3, h, d)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to A, (N, h, HW, HW): row i holds position i's weights over all positions (row-major)."""
        q, k, _ = self.heads(x)
        return (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.heads(x)
        out = F.scaled_dot_product_attention(q, k, v)  # (N, h, HW, d): weights(x) @ values
        out = self.proj(out.transpose(1, 2).flatten(2))  # (N, HW, C): the heads concatenated
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def build(num_classes: int, block=MultiHeadAttention) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")  # the name of the run without the block: --control trains it
