"""Efficient Channel Attention on CIFAR-10: which channels to emphasise, computed from neighbouring channels.

python ECA-Attention.py                     100 epochs on CIFAR-10, downloaded into data/
python ECA-Attention.py --data shapes       on images the program draws: no download
python ECA-Attention.py --help              every flag
"""

import math
from functools import partial

import torch
from torch import nn

from common import CNN, run


class ECAAttention(nn.Module):
    """Scales each channel by a gate computed from its own average and its neighbours' in channel order.

        s = mean of x over height and width             (N, C)
        g = scale * sigmoid(w * s)                      (N, C)      w: k weights slid along C, no bias
        y = x * g                                       (N, C, H, W)

    Args:
        channels: C; only the adaptive kernel size depends on it.
        kernel_size: k, odd. None takes the paper's adaptive size, the odd number at or above
            int((log2 C + 1) / 2), which is 5 at 128 channels; the minimum of 3 is ours.
        scale: 1 is as published, and gates start near 1/2; with 2 they start near 1.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` is not positive, or `kernel_size` is not a positive odd number.

    Source: Wang et al.: ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, CVPR
    2020, arXiv 1910.03151.
    """

    def __init__(self, channels: int, kernel_size: int | None = None, scale: float = 1.0):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels ({channels}) must be positive")
        if kernel_size is None:
            kernel_size = max(3, int((math.log2(channels) + 1) / 2) | 1)  # | 1 rounds up to odd
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size ({kernel_size}) must be a positive odd number")
        self.scale = scale
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the gate of each channel, (N, C), from 0 to scale."""
        squeezed = x.mean(dim=(2, 3))  # (N, C)
        return self.scale * self.conv(squeezed[:, None]).squeeze(1).sigmoid()  # (N, 1, C) to (N, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)[:, :, None, None]


def build(num_classes: int, block=partial(ECAAttention, kernel_size=3)) -> nn.Module:  # 3: as published
    return CNN(widths=(32, 64, 128), attention=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")  # the name of the run without the block: --control trains it
