"""Squeeze-and-Excitation on CIFAR-10: which channels to emphasise in this image, computed from all channels.

python SE-Attention.py                      100 epochs on CIFAR-10, downloaded into data/
python SE-Attention.py --data shapes        on images the program draws: no download
python SE-Attention.py --help               every flag
"""

import torch
from torch import nn

from common import CNN, run


class SEAttention(nn.Module):
    """Scales each channel by a gate computed from the averages of all channels.

        s = mean of x over height and width             (N, C)      squeeze
        g = scale * sigmoid(W2 relu(W1 s))              (N, C)      excitation, no biases
        y = x * g                                       (N, C, H, W)

    W1 is (R, C) and W2 is (C, R), where the hidden width R is C / reduction rounded down, at least 1. torchvision's
    `SqueezeExcitation` has biases and takes R itself.

    Args:
        channels: C.
        reduction: how many times narrower the hidden layer is.
        scale: 1 is as published, and gates start near 1/2; with 2 they start near 1.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` or `reduction` is not positive.

    Source: Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018, arXiv 1709.01507.
    """

    def __init__(self, channels: int, reduction: int = 16, scale: float = 1.0):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels ({channels}) and reduction ({reduction}) must be positive")
        self.scale = scale
        hidden = max(1, channels // reduction)
        self.excitation = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the gate of each channel, (N, C), from 0 to scale."""
        return self.scale * self.excitation(x.mean(dim=(2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)[:, :, None, None]


def build(num_classes: int, block=SEAttention) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-32-64-128")  # the name of the run without the block: --control trains it
