"""Spatial transformer on CIFAR-10: the network crops, rotates or scales its input before processing it.

python STN-Attention.py                     100 epochs on CIFAR-10, downloaded into data/
python STN-Attention.py --data shapes       on images the program draws: no download
python STN-Attention.py --help              every flag
"""

import torch
from torch import nn
from torch.nn import functional as F

from common import CNN, run


class STN(nn.Module):
    """Resamples each map by an affine transform that a small network chooses for it.

        theta = localisation net of x                   (N, 2, 3)      it sees x resized to 32x32
        (u, v) = theta (a, b, 1)                        (N, H, W, 2)   where output position (a, b) looks
        y(a, b) = x(u, v), bilinear, 0 outside          (N, C, H, W)

    Coordinates run from -1 to 1 across the map, edge to edge, and are computed in float32 at least, whatever the
    map's type: bfloat16 would move the frame's corners in steps of an eighth of a pixel. theta is the identity plus
    a learned change that starts at zero, so the block starts as the identity.

    Args:
        channels: C.
        slope: of the localisation net's leaky ReLUs. The paper does not specify this network; with plain ReLU,
            slope 0, its units can die before the frame has moved.

    Shape: (N, C, H, W) to the same, any H and W.

    Raises:
        ValueError: `channels` is not positive.

    Source: Jaderberg et al.: Spatial Transformer Networks, NeurIPS 2015, arXiv 1506.02025.
    """

    def __init__(self, channels: int = 3, slope: float = 0.1):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels ({channels}) must be positive")
        self.localisation = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.MaxPool2d(2),
            nn.LeakyReLU(slope),
            nn.Conv2d(8, 10, 3, padding=1),
            nn.MaxPool2d(2),
            nn.LeakyReLU(slope),
            nn.Flatten(),
            nn.Linear(10 * 8 * 8, 32),
            nn.LeakyReLU(slope),
        )
        # the last layer, as vectors under other names than weight and bias: an initialiser of the whole network
        # would otherwise give it random values, and the frame would start anywhere
        self.projection = nn.Parameter(torch.zeros(6 * 32))
        self.offset = nn.Parameter(torch.zeros(6))

    def theta(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the affine transform of each map, (N, 2, 3), in float32 or float64."""
        h = self.localisation(F.interpolate(x, size=(32, 32), mode="bilinear"))  # (N, 32)
        h = h * x.new_ones(1, dtype=torch.float32)  # promotes float16 and bfloat16, and leaves float64
        # no matrix product, which autocast would round
        change = (self.projection.view(6, 32) * h[:, None]).sum(-1) + self.offset  # (N, 6)
        return change.unflatten(1, (2, 3)) + torch.eye(2, 3, device=x.device, dtype=change.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        theta = self.theta(x)[:, None, None]  # (N, 1, 1, 2, 3)
        # F.affine_grid, written out: it cannot be exported with dynamic shapes, and autocast would round its result
        a = (2 * torch.arange(width, device=x.device, dtype=theta.dtype) + 1) / width - 1  # (W,) columns' centres
        b = (2 * torch.arange(height, device=x.device, dtype=theta.dtype) + 1) / height - 1  # (H,) rows' centres
        grid = theta[..., 0] * a[:, None] + theta[..., 1] * b[:, None, None] + theta[..., 2]  # (N, H, W, 2)
        return F.grid_sample(x.to(grid.dtype), grid, align_corners=False).to(x.dtype)


def build(num_classes: int, block=STN) -> nn.Module:
    return CNN(widths=(64, 128), hidden=256, dropout=0.0, stem=block, num_classes=num_classes)


if __name__ == "__main__":
    run(build, control="CNN-64-128")  # the name of the run without the block: --control trains it
