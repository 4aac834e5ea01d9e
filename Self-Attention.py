"""Self-attention on CIFAR-10: every place of the map asks every other place what it holds.

Xiaolong Wang et al.: Non-local Neural Networks. CVPR 2018, arXiv 1711.07971.
Han Zhang et al.: Self-Attention Generative Adversarial Networks. ICML 2019, arXiv 1805.08318.

    python Self-Attention.py                    100 epochs on CIFAR-10, downloaded into data/
    python Self-Attention.py --data shapes      on images the program draws: no download
    python Self-Attention.py --help             every flag
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from common import CNN, run


class SelfAttention(nn.Module):
    """Adds to each place a weighted sum over all places, weighted by how well key matches query.

    With x read as H*W tokens of C channels and d = C / reduction:

        Q = x Wq + bq,  K = x Wk + bk                   (N, HW, d)
        V = x Wv + bv                                   (N, HW, C)
        A = softmax(Q K^T / sqrt(d))                    (N, HW, HW)    rows sum to 1
        y = x + gamma * A V                             (N, C, H, W)

    gamma is a learned number that starts at 0, so the block starts as the identity.

    Args:
        channels: C, a multiple of `reduction`.
        reduction: how many times narrower queries and keys are.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` or `reduction` is not positive, or `reduction` does not divide `channels`.

    Source: Wang et al., Non-local Neural Networks, 2018, arXiv 1711.07971; gamma and the reduction of 8 from
    Zhang et al., Self-Attention Generative Adversarial Networks, 2019, arXiv 1805.08318.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        if channels < 1 or reduction < 1 or channels % reduction:
            raise ValueError(f"channels ({channels}) must be a positive multiple of reduction ({reduction})")
        self.query = nn.Linear(
            channels, channels // reduction
        )  # on tokens: the 1x1 convolution of the papers
        self.key = nn.Linear(channels, channels // reduction)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to A, (N, HW, HW): row i says where place i (row-major) looks."""
        tokens = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        q, k = self.query(tokens), self.key(tokens)  # (N, HW, d)
        return (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (N, HW, C)
        # weights(x) @ value, in one call that may use a faster kernel
        out = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def build(classes: int) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=SelfAttention, classes=classes)


def look(picture) -> str:
    picture.pictures(mark=picture.queries)
    for where, block in picture.stages(SelfAttention):
        picture.attention(where, block, picture.queries)
    return "Where the places A and B look, in multiples of a uniform spread (1 everywhere: no preference)."


if __name__ == "__main__":
    run(build, look)
