"""A small residual network with batch norm, with a block in it or without. `--help` has every flag.

python benchmarks/ResNet-8.py
python benchmarks/ResNet-8.py --attention SE
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import load
from variants import ATTENTION, GATES

from common import run

STN = load("STN-Attention").STN


class BasicBlock(nn.Module):
    """relu(shortcut(x) + gate(branch(x))), (N, C, H, W) to (N, width, H / stride, W / stride).

    The shortcut is a 1x1 convolution where the shape changes, or else x itself.
    """

    def __init__(self, channels: int, width: int, stride: int, gate: Callable[[int], nn.Module]):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            gate(width),
        )
        self.shortcut = nn.Identity()
        if (channels, stride) != (width, 1):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.branch(x))


class ResNet(nn.Module):
    """For CIFAR, of 6 * blocks + 2 layers: stages of 16, 32 and 64 channels, global average pool, a linear layer.

    Args:
        blocks: of each stage.
        gate: called with a channel count for a block that ends each residual branch, behind its last batch norm.
        attention: likewise, for one after stages 2 and 3.
        stem: likewise, for one before the network.
        num_classes: K.

    Shape: images (N, 3, 32, 32) to logits (N, K).

    Source: He et al.: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385, section 4.2, with the
    shortcuts of its option B.
    """

    def __init__(
        self,
        blocks: int = 1,
        gate: Callable[[int], nn.Module] | None = None,
        attention: Callable[[int], nn.Module] | None = None,
        stem: Callable[[int], nn.Module] | None = None,
        num_classes: int = 10,
    ):
        super().__init__()
        layers = [stem(3)] if stem else []
        layers += [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        channels = 16
        for width in (16, 32, 64):
            for block in range(blocks):
                stride = 2 if width > 16 and block == 0 else 1
                layers.append(BasicBlock(channels, width, stride, gate or nn.Identity))
                channels = width
            if attention and width > 16:
                layers.append(attention(width))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))


def build(num_classes: int, attention: str | None = None) -> nn.Module:
    if attention in GATES:
        # at 16 channels a reduction of 16 would leave one hidden unit
        return ResNet(gate=lambda channels: GATES[attention](channels, 4), num_classes=num_classes)
    if attention == "STN":
        return ResNet(stem=STN, num_classes=num_classes)
    return ResNet(attention=ATTENTION.get(attention), num_classes=num_classes)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--attention", choices=[*GATES, *ATTENTION, "STN"], help="the block (default: none)")


if __name__ == "__main__":
    run(build, control="ResNet-8", add_flags=add_flags)
