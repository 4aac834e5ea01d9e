"""Variants of the blocks on the trunk of the five feature blocks. `--help` has every flag.

python benchmarks/Trunk.py --attention SE-Twice
python benchmarks/Trunk.py --attention SE --next 2
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from variants import ATTENTION, GATES

from common import CNN, run


def build(num_classes: int, attention: str | None = None, next: float = 1.0) -> nn.Module:
    """The network of `CNN.py --widths 32 64 128`, with a variant after stages 2 and 3, or without.

    `next` multiplies the first weights (not the biases) of the two layers that a block's output goes to.
    """
    block = ATTENTION.get(attention) or (lambda channels: GATES[attention](channels, 16))
    model = CNN(widths=(32, 64, 128), attention=block if attention else None, num_classes=num_classes)
    layers = [layer for layer in [*model.features, *model.classifier] if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer in layers[2:4]:  # the convolution of stage 3 and the first fully connected layer
            layer.weight *= next
    return model


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--attention", choices=[*GATES, *ATTENTION], help="the block (default: none)")
    parser.add_argument("--next", type=float, help="multiplies the first weights of the layers after a block")


if __name__ == "__main__":
    run(build, control="CNN-32-64-128", add_flags=add_flags)
