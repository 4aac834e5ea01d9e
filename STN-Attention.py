"""Spatial transformer on CIFAR-10: which part of the image to look at, cut out and straightened.

Max Jaderberg et al.: Spatial Transformer Networks. NeurIPS 2015, arXiv 1506.02025.

    python STN-Attention.py                     100 epochs on CIFAR-10, downloaded into data/
    python STN-Attention.py --data shapes       on images the program draws: no download
    python STN-Attention.py --help              every flag
"""

import torch
from torch import nn
from torch.nn import functional as F

from common import CNN, run


class STN(nn.Module):
    """Resamples each map along an affine transform that a small network chooses for it.

        theta = localisation net of x                   (N, 2, 3)
        (u, v) = theta (a, b, 1)                        (N, H, W, 2)   where output place (a, b) looks
        y(a, b) = x(u, v), bilinear, 0 outside          (N, C, H, W)

    Coordinates run from -1 to 1 across the map, edge to edge. theta starts as the identity transform, so the
    block starts as the identity.

    Args:
        channels: C.

    Shape: (N, C, H, W) to the same, any H and W from 4.

    Raises:
        ValueError: `channels` is not positive.

    Source: Jaderberg et al., Spatial Transformer Networks, 2015, arXiv 1506.02025.
    """

    def __init__(self, channels: int = 3):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels ({channels}) must be positive")
        self.localisation = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 10, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(8),  # nothing to do on 32x32 images; makes other sizes fit
            nn.Flatten(),
            nn.Linear(10 * 8 * 8, 32),
            nn.ReLU(),
            nn.Linear(32, 6),
        )
        nn.init.zeros_(self.localisation[-1].weight)
        with torch.no_grad():
            self.localisation[-1].bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def theta(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the affine transform of each map, (N, 2, 3)."""
        return self.localisation(x).unflatten(1, (2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.theta(x).to(x.dtype), list(x.shape), align_corners=False)  # (N, H, W, 2)
        return F.grid_sample(x, grid, align_corners=False)


def build(classes: int) -> nn.Module:
    return CNN(widths=(64, 128), hidden=256, dropout=0.0, stem=STN, classes=classes)


def look(picture) -> str:
    picture.pictures()
    picture.transforms(picture.network.features[0])
    return "The frame that is cut out of each image and straightened: the image's own border means no change."


if __name__ == "__main__":
    run(build, look)
