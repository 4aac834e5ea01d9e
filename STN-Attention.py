"""Spatial transformer on CIFAR-10: the network crops, turns or scales its input before it looks at it.

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
        (u, v) = theta (a, b, 1)                        (N, H, W, 2)   where output position (a, b) looks
        y(a, b) = x(u, v), bilinear, 0 outside          (N, C, H, W)

    Coordinates run from -1 to 1 across the map, edge to edge. theta starts as the identity transform, so the
    block starts as the identity. On CIFAR-10 it also stays there: the localisation network's 32 ReLU units die
    one after another (alive on any of 2,000 test images of a JPEG copy, seed 0: 32 at first, 12 after 600 steps,
    none after 2,346), and the frame remains the whole image. Where the object varies in place and size, as in the
    drawn shapes, the frame can find the object.

    Args:
        channels: C.

    Shape: (N, C, H, W) to the same, any H and W from 4.

    Source: Jaderberg et al.: Spatial Transformer Networks, NeurIPS 2015, arXiv 1506.02025.
    """

    def __init__(self, channels: int = 3):
        super().__init__()
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
        # not in bfloat16, which would move the frame's corners in steps of an eighth of a pixel
        with torch.autocast(x.device.type, enabled=False):
            return self.localisation(x.to(self.localisation[-1].weight.dtype)).unflatten(1, (2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.theta(x), list(x.shape), align_corners=False)  # (N, H, W, 2)
        return F.grid_sample(x, grid, align_corners=False)


def build(num_classes: int) -> nn.Module:
    return CNN(widths=(64, 128), hidden=256, dropout=0.0, stem=STN, num_classes=num_classes)


if __name__ == "__main__":
    # the run of: CNN.py --widths 64 128 --hidden 256 --dropout 0
    run(build, control="CNN-64-128-hidden256-dropout0")
