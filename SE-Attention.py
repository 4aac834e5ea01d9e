"""Squeeze-and-Excitation on CIFAR-10: which channels matter in this image?

Jie Hu, Li Shen, Gang Sun: Squeeze-and-Excitation Networks. CVPR 2018, arXiv 1709.01507.

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
        g = sigmoid(W2 relu(W1 s))                      (N, C)      excitation, no biases
        y = x * g                                       (N, C, H, W)

    W1 is (C / reduction, C) and W2 is (C, C / reduction).

    Args:
        channels: C, a multiple of `reduction`.
        reduction: how many times narrower the hidden layer is.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` or `reduction` is not positive, or `reduction` does not divide `channels`.

    Source: Hu et al., Squeeze-and-Excitation Networks, 2018, arXiv 1709.01507.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if channels < 1 or reduction < 1 or channels % reduction:
            raise ValueError(f"channels ({channels}) must be a positive multiple of reduction ({reduction})")
        self.excitation = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the gate of each channel, (N, C), between 0 and 1."""
        return self.excitation(x.mean(dim=(2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)[:, :, None, None]


def build(classes: int) -> nn.Module:
    return CNN(widths=(32, 64, 128), attention=SEAttention, classes=classes)


def look(picture) -> str:
    picture.pictures()
    for where, block in picture.stages(SEAttention):
        picture.channels(where, block)
    return (
        "How far each channel is let through, by class: a column of one colour does not tell classes apart."
    )


if __name__ == "__main__":
    run(build, look)
