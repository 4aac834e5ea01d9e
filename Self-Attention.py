"""Self-attention on CIFAR-10: every position of the map attends to all positions.

python Self-Attention.py                    100 epochs on CIFAR-10, downloaded into data/
python Self-Attention.py --data shapes      on images the program draws: no download
python Self-Attention.py --help             every flag
"""

import torch
from torch import nn
from torch.nn import functional as F

from common import CNN, run


class SelfAttention(nn.Module):
    """Adds to each position a sum of all positions' values, weighted by how well each key matches its query.

    With x read as H*W tokens of C channels and d = C / reduction:

        Q = x Wq + bq,  K = x Wk + bk                   (N, HW, d)
        V = x Wv + bv                                   (N, HW, C)
        A = softmax(Q K^T / sqrt(d))                    (N, HW, HW)    rows sum to 1
        y = x + gamma * A V                             (N, C, H, W)

    gamma is a learned number that starts at 0, so the block starts as the identity. Positions are not encoded:
    permute the tokens, and the result is permuted in the same way. Time grows with (HW)^2, and so does memory unless
    PyTorch has a fused kernel. Wang et al. and Zhang et al. project the output once more; here the values are as wide
    as the input, and their sum is the output.

    Args:
        channels: C, a multiple of `reduction`.
        reduction: how many times narrower queries and keys are.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `reduction` is not a positive divisor of `channels`.

    Source: Wang et al.: Non-local Neural Networks, CVPR 2018, arXiv 1711.07971; gamma and the reduction of 8
    from Zhang et al.: Self-Attention Generative Adversarial Networks, ICML 2019, arXiv 1805.08318; the division
    by sqrt(d) from Vaswani et al.: Attention Is All You Need, NeurIPS 2017, arXiv 1706.03762.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        if reduction < 1 or channels < reduction or channels % reduction:
            raise ValueError(f"reduction ({reduction}) must be a positive divisor of channels ({channels})")
        # on tokens a linear layer is the 1x1 convolution of the papers
        self.query = nn.Linear(channels, channels // reduction)
        self.key = nn.Linear(channels, channels // reduction)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def qkv(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, C, H, W) to queries and keys, (N, 1, HW, d) each, and values, (N, 1, HW, C).

        The axis of 1 is that of heads: PyTorch's fused kernels take four dimensions only.
        """
        tokens = x.flatten(2).transpose(1, 2).unsqueeze(1)  # (N, 1, HW, C)
        return self.query(tokens), self.key(tokens), self.value(tokens)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to A, (N, HW, HW): row i holds position i's weights over all positions (row-major)."""
        q, k, _ = self.qkv(x)
        return (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1).squeeze(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x)
        out = F.scaled_dot_product_attention(q, k, v).squeeze(1)  # (N, HW, C): weights(x) @ values, in one call
        return x + self.gamma * out.transpose(1, 2).unflatten(2, x.shape[2:])


def build(num_classes: int, block=SelfAttention) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")  # the name of the run without the block: --control trains it
