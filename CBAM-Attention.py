"""CBAM on CIFAR-10: which channels to emphasise, then which positions.

python CBAM-Attention.py                    100 epochs on CIFAR-10, downloaded into data/
python CBAM-Attention.py --data shapes      on images the program draws: no download
python CBAM-Attention.py --help             every flag
"""

import torch
from torch import nn

from common import CNN, run


class ChannelAttention(nn.Module):
    """CBAM's first half: scales each channel by a gate computed from all channels' averages and maxima.

        g = scale * sigmoid(M(mean of x) + M(max of x)) (N, C)      mean and max over height and width
        M(s) = W2 relu(W1 s)                            (N, C)      one MLP for both, no biases
        y = x * g                                       (N, C, H, W)

    W1 is (R, C) and W2 is (C, R), where the hidden width R is C / reduction rounded down, at least 1.

    Args:
        channels: C.
        reduction: how many times narrower the hidden layer of M is.
        scale: see `CBAM`.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` or `reduction` is not positive.

    Source: see `CBAM`.
    """

    def __init__(self, channels: int, reduction: int = 16, scale: float = 1.0):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels ({channels}) and reduction ({reduction}) must be positive")
        self.scale = scale
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
        )

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the gate of each channel, (N, C), from 0 to scale."""
        return self.scale * (self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)[:, :, None, None]


class SpatialAttention(nn.Module):
    """CBAM's second half: scales each position by a gate computed from the positions around it.

        p = [mean of x, max of x] over channels         (N, 2, H, W)
        g = scale * sigmoid(conv k x k of p)            (N, 1, H, W)   no bias
        y = x * g                                       (N, C, H, W)

    Args:
        kernel_size: k, odd.
        scale: see `CBAM`.

    Shape: (N, C, H, W) to the same, any C, H and W.

    Raises:
        ValueError: `kernel_size` is not a positive odd number.

    Source: see `CBAM`.
    """

    def __init__(self, kernel_size: int = 7, scale: float = 1.0):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size ({kernel_size}) must be a positive odd number")
        self.scale = scale
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the gate of each position, (N, 1, H, W), from 0 to scale."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (N, 2, H, W)
        return self.scale * self.conv(pooled).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class CBAM(nn.Module):
    """Channel attention, then spatial attention: copy `ChannelAttention` and `SpatialAttention` with it.

        z = x * channel gate of x                       (N, C, H, W)
        y = z * spatial gate of z                       (N, C, H, W)

    These are the paper's formulas. The authors' code has biases in the channel gate's MLP, and a batch norm between
    the spatial gate's convolution and its sigmoid.

    Args:
        channels: C.
        reduction: how many times narrower the hidden layer of the channel gate is.
        kernel_size: of the spatial gate's convolution, odd.
        scale: of each of the two gates. 1 is as published, and both start near 1/2; with 2 they start near 1.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` or `reduction` is not positive, or `kernel_size` is not a positive odd number.

    Source: Woo et al.: CBAM: Convolutional Block Attention Module, ECCV 2018, arXiv 1807.06521.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7, scale: float = 1.0):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, scale)
        self.spatial = SpatialAttention(kernel_size, scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spatial(self.channel(x))


def build(num_classes: int, block=CBAM) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")  # the name of the run without the block: --control trains it
