"""The baseline on CIFAR-10: the backbone (trunk) alone; with flags, the matched controls of the attention scripts.

    python CNN.py                                             100 epochs on CIFAR-10, downloaded into data/
    python CNN.py --data shapes                               on images the program draws: no download
    python CNN.py --widths 32 64 128                          the control of the five feature blocks
    python CNN.py --widths 64 128 --hidden 256 --dropout 0    the control of STN
    python CNN.py --help                                      every flag

Each attention script has exactly the model of its control plus the block, so the difference between the two
is what the block adds. A control writes its own files, named after its flags: `CNN-32-64-128.png`.
"""

import argparse

from torch import nn

from common import CNN, run


def build(num_classes: int, **trunk) -> nn.Module:
    return CNN(**trunk, num_classes=num_classes)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--widths", type=int, nargs="+", help="channels of each stage (default: 32 64)")
    parser.add_argument("--hidden", type=int, help="units of the fully connected layer (default: 128)")
    parser.add_argument("--dropout", type=float, help="dropout probability of those units (default: 0.5)")


if __name__ == "__main__":
    run(build, add_flags=add_flags)
