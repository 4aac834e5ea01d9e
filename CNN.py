"""The baseline on CIFAR-10: the trunk alone; with flags, the matched controls of the attention scripts.

    python CNN.py                                               100 epochs on CIFAR-10, downloaded into data/
    python CNN.py --data shapes                                 on images the program draws: no download
    python CNN.py --widths 32 64 128                            the control of the five feature blocks
    python CNN.py --widths 64 128 --hidden 256 --dropout 0      the control of STN
    python CNN.py --help                                        every flag

Each attention script has exactly the network of its control plus the block, so the difference between the two
is what the block adds. A control writes its own files, named after its widths: `CNN-32-64-128.png`.
"""

import argparse
from collections.abc import Sequence

from torch import nn

from common import CNN, run


def build(
    classes: int, widths: Sequence[int] = (32, 64), hidden: int = 128, dropout: float = 0.5
) -> nn.Module:
    return CNN(widths, hidden, dropout, classes=classes)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64], help="channels of each stage")
    parser.add_argument("--hidden", type=int, default=128, help="units of the fully connected layer")
    parser.add_argument("--dropout", type=float, default=0.5, help="share of them dropped in training")


def look(picture) -> str:
    picture.pictures()
    picture.grad_cam(picture.network.features[-1])
    return "Places that speak for the true class, by Grad-CAM: no attention, but a row to lay beside it."


if __name__ == "__main__":
    run(build, look, add_flags)
