"""Trained networks, from the checkpoints that runs leave."""

from pathlib import Path

import networks  # noqa: F401, since it puts the repository on the path
import torch
from torch import nn

from support.data.dataset import Data, checksum
from support.errors import UserError
from support.run.record import load_checkpoint


def load_trained(path: Path, model: nn.Module, data: Data) -> int:
    """Puts the weights of a run's checkpoint into its network; returns after how many epochs they are.

    Raises:
        UserError: it is not there, is damaged, or is of another network or other images.
    """
    if not path.exists():
        raise UserError(f"{path} is not there: train it as --help says, or give its folder", 2)
    same = {"data": data.name, "checksum": checksum(data)}
    optimizer = torch.optim.Adam(model.parameters())
    history, _ = load_checkpoint(path, same, same, model, optimizer, "train it again, as --help says")
    return len(history)
