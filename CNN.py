"""The baseline on CIFAR-10: the backbone (trunk) alone, with two stages and no attention.

python CNN.py                     100 epochs on CIFAR-10, downloaded into data/
python CNN.py --data shapes       on images the program draws: no download
python CNN.py --help              every flag
"""

from torch import nn

from common import CNN, run


def build(num_classes: int) -> nn.Module:
    return CNN(num_classes=num_classes)


if __name__ == "__main__":
    run(build)
