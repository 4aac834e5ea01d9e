"""A run's figures, epoch by epoch, and the CSV that keeps them."""

from pathlib import Path
from typing import NamedTuple

from support.files import replacing


class Epoch(NamedTuple):
    """A line of a run's CSV: mean losses, accuracies in percent, wall time of training and testing."""

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    seconds: float


def write_csv(path: Path, history: list[Epoch]) -> None:
    rows = [
        f"{e.epoch},{e.train_loss:.6f},{e.train_acc:.3f},{e.test_loss:.6f},{e.test_acc:.3f},{e.seconds:.2f}"
        for e in history
    ]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join([",".join(Epoch._fields), *rows, ""]).encode())


def read_csv(path: Path) -> list[Epoch]:
    """The run in a CSV; an empty list where the file is missing or no run's."""
    try:
        header, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line]
        if tuple(header) != Epoch._fields:
            return []
        return [Epoch(int(epoch), *map(float, values)) for epoch, *values in rows]
    except (OSError, ValueError, TypeError):
        return []
