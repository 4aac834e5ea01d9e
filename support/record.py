"""What is kept of a run: its history, the files that hold it, and going on from them with --resume or --look."""

import argparse
import io
import math
import time
import zipfile
from pathlib import Path

import torch
from torch import nn

from support import comparison, curves
from support.command_line import suffix
from support.dataset import Data, fingerprint
from support.errors import UserError, continue_command, quote
from support.files import remove_leftovers, replacing, set_aside
from support.history import Epoch, write_csv

SECONDS_BETWEEN_DRAWINGS = 30  # of the curves, where epochs are shorter


def load_checkpoint(
    path: Path, settings: dict, model: nn.Module, optimizer: torch.optim.Optimizer, advice: str
) -> list[Epoch]:
    """Puts weights and the optimiser's state back as `Record.save` left them, and returns the history.

    Raises:
        UserError: the file cannot be read, or is of a run with other settings; `advice` says what to do then.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if broken := parts.testzip():  # torch.load does not look at checksums
                raise ValueError(broken)
        saved = torch.load(path, map_location="cpu", weights_only=True)  # runs no code that the file holds
        for key, new in settings.items():
            if (old := saved["settings"].get(key)) != new:
                raise UserError(f"{path} was trained with {key} {old}, this is {new}: give the same, or {advice}", 2)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        return [Epoch(int(epoch), *map(float, values)) for epoch, *values in saved["history"]]
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", 2) from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path} is damaged or of another network: {advice}", 2) from error


class Record:
    """A run's files in the folder `--out`, kept up to date epoch by epoch.

    Used as a context: on entering, the run goes on from its checkpoint if the user wants that; on leaving, also with
    --look and by Ctrl-C, its curves are drawn where they are behind.

    Args:
        options: as `command_line.parse` gives them.
        control: the name of the run that this one is to be compared with.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        data: Data,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        control: str | None,
    ):
        self.options, self.data, self.model, self.optimizer = options, data, model, optimizer
        self.control = control + suffix(options.data) if control else ""
        self.checkpoint = options.out / f"{options.name}.pt"
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.fingerprint = fingerprint(data)
        self.settings = {"script": options.script.stem, **options.model_flags, "data": self.fingerprint}
        if not options.look:  # a look needs the same network and data, however the network was trained
            self.settings |= {key: getattr(options, key) for key in ("batch_size", "lr", "seed", "precision")}
        self.history: list[Epoch] = []
        self.drawn, self.next_drawing = 0, 0.0  # epochs that the curves show; when they may be drawn again

    def __enter__(self) -> "Record":
        options = self.options
        what = (self.checkpoint, self.settings, self.model, self.optimizer)
        if options.look:
            self.history = load_checkpoint(*what, "train anew, without --look")
            options.epochs = len(self.history)  # so there is nothing to train
            return self
        remove_leftovers(options.out, options.name)
        if options.resume and self.checkpoint.exists():
            self.history = load_checkpoint(*what, "start afresh, without --resume")
            if len(self.history) > options.epochs:
                many = f"{self.checkpoint} has {len(self.history)} epochs already"
                raise UserError(f"{many}: give more in --epochs", 2)
            write_csv(self.checkpoint.with_suffix(".csv"), self.history)  # which is behind if a kill came between
        elif options.resume:
            print(f"{self.checkpoint} is not there to go on from: starting with epoch 1")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        done = len(self.history)
        if self.drawn < done and not isinstance(error, OSError):  # on a full disk drawing would fail as well
            self.draw_curves()
        if kind is KeyboardInterrupt:
            if not done:
                raise UserError("stopped before the first epoch was done: nothing to continue", 130) from None
            raise UserError(f"stopped after epoch {done}; continue with: {continue_command()}", 130) from None

    def epochs_to_train(self) -> range:
        """The numbers of the epochs that are missing, after --resume or without it; none with --look."""
        return range(len(self.history) + 1, self.options.epochs + 1)

    def add(self, epoch: Epoch) -> None:
        """Saves an epoch, prints its line and, now and then, draws the curves.

        Raises:
            UserError: a loss is not finite; what the epochs before gave is kept.
        """
        if not math.isfinite(epoch.train_loss + epoch.test_loss):
            kept = f"; what {len(self.history)} epochs gave is kept in {self.options.out}" if self.history else ""
            raise UserError(
                f"the loss of epoch {epoch.epoch} is not finite: try --lr {self.options.lr / 10:g}, "
                f"or look for nan in what the model's blocks return{kept}"
            )
        self.save([*self.history, epoch])
        self.history.append(epoch)  # an epoch counts once it is saved
        print(
            f"Epoch [{epoch.epoch}/{self.options.epochs}] "
            f"Train Loss: {epoch.train_loss:.4f}, Train Acc: {epoch.train_acc:.2f}% "
            f"Test Loss: {epoch.test_loss:.4f}, Test Acc: {epoch.test_acc:.2f}%",
            flush=True,
        )
        if time.monotonic() > self.next_drawing or epoch.epoch == self.options.epochs:
            self.draw_curves()

    def save(self, history: list[Epoch]) -> None:
        """Brings the checkpoint and the CSV up to date, the checkpoint first: the rest follows from it."""
        contents = {
            "settings": self.settings,
            "history": [tuple(epoch) for epoch in history],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()  # since torch.save does not survive a full disk
        torch.save(contents, buffer)
        with replacing(self.checkpoint) as temporary:
            temporary.write_bytes(buffer.getvalue())
            if len(history) == 1 and self.checkpoint.exists():  # only now is there something to put in its place
                self.set_earlier_run_aside()
        write_csv(self.checkpoint.with_suffix(".csv"), history)

    def set_earlier_run_aside(self) -> None:
        name, out = self.options.name, self.options.out
        # the checkpoint last: while it is there, the next start sets aside what is left
        place = set_aside(out, name, [".csv", ".png", "-attention.png", ".pt"])
        way_back = quote(["--out", str(place), "--resume"])
        print(f"The earlier run of that name is kept in {place}; to go on with it, start it as before, with {way_back}")

    def draw_curves(self) -> None:
        """Draws the run's plot and the comparison of the folder's runs."""
        self.drawn, self.next_drawing = len(self.history), time.monotonic() + SECONDS_BETWEEN_DRAWINGS
        path = self.checkpoint.with_suffix(".png")
        curves.plot_run(path, self.history, self.options.epochs, self.fingerprint, self.parameters, self.control)
        comparison.plot_comparison(path.with_name(f"comparison{suffix(self.options.data)}.png"), self.fingerprint)
