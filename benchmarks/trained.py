"""Trained networks, from the checkpoints that runs leave, and what their blocks attend to."""

import argparse
from pathlib import Path

import torch
from networks import build
from torch import Tensor, nn

from support.data.dataset import Data, checksum
from support.errors import UserError
from support.pictures.attention import ask, attention, find_blocks
from support.run.command_line import Parser, writable_folder


def parse(description: str | None, out: Path) -> argparse.Namespace:
    """The flags of a program that draws from checkpoints; `out` is where its result goes by default."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--runs", type=Path, default="plots", help="the folder with the checkpoints (default: plots)")
    stn = "the folder with STN's checkpoints for the drawn shapes (default: plots)"
    add("--shapes", type=Path, default="plots", help=stn)
    add("--data", default="data", help="the images that --runs was trained on, as for the scripts (default: data)")
    add("--out", type=writable_folder, default=out, help="the output folder (default: %(default)s)")
    return parser.parse_args()


def load_run(path: Path, script: str, data: Data) -> tuple[nn.Module, dict]:
    """A script's trained network, in evaluation mode, and its run's facts, with the number of epochs.

    Raises:
        UserError: the checkpoint is missing, cannot be used, or was trained on other images.
    """
    if not path.exists():
        raise UserError(f"no checkpoint {path}: train it as --help says, or give its folder", 2)
    model = build(script, len(data.classes))
    try:
        saved = torch.load(path, "cpu", weights_only=True)
        if saved["facts"]["checksum"] != checksum(data):
            raise UserError(f"{path} was trained on other images than {data.name}", 2)
        model.load_state_dict(saved["model"])
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path} is damaged, or of another version of {script}: train it again", 2) from error
    return model.eval(), {**saved["facts"], "epochs": len(saved["history"])}


def nth_of_class(data: Data, wanted: list[tuple[str, int]]) -> Tensor:
    """The indices of test images, given by class and place within it.

    If the dataset has other classes, the one at the same place in the list is taken.
    """
    indices = []
    for k, (name, n) in enumerate(wanted):
        label = data.classes.index(name) if name in data.classes else k % len(data.classes)
        of_class = (data.test_labels == label).nonzero()[:, 0]
        indices.append(of_class[n % len(of_class)])
    return torch.stack(indices)


def attended(model: nn.Module, kind: str, images: Tensor) -> list[Tensor]:
    """What each of a network's blocks of a kind (weights, channels, positions, theta) attends to in images."""
    blocks = [block for block in find_blocks(model, images)[0] if block.kind == kind]
    return list(ask(model, blocks, images, attention).values())
