"""The record of a run: its epochs, the files that hold them, and going back to these with --resume or --look."""

import argparse
import io
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from support.data.dataset import Data
from support.errors import UserError, continue_command, quote
from support.files import remove_leftovers, replacing, set_aside
from support.run.facts import (
    DATA,
    TRAINING,
    differences,
    gather,
    other_network,
    read_facts,
    why_no_control,
    write_facts,
)


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
    """The run in a CSV; an empty list if the file is missing or holds no run."""
    try:
        header, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line]
        if tuple(header) != Epoch._fields:
            return []
        return [Epoch(int(epoch), *map(float, values)) for epoch, *values in rows]
    except (OSError, ValueError, TypeError):
        return []


def load_checkpoint(
    path: Path, now: dict, same: Iterable[str], model: nn.Module, optimizer: torch.optim.Optimizer, advice: str
) -> tuple[list[Epoch], dict]:
    """Restores weights and the optimiser's state as `Record.save` left them; returns the history and the facts.

    Raises:
        UserError: the file cannot be read, or differs from `now` in one of the facts that `same` lists; `advice`
            says what to do then.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if broken := parts.testzip():  # torch.load does not look at checksums
                raise ValueError(broken)
        saved = torch.load(path, map_location="cpu", weights_only=True)  # runs no code that the file holds
        facts = saved.get("facts", {})
        if facts.keys() != now.keys():
            raise UserError(f"{path} was written by another version of this project: {advice}", 2)
        for key in differences(facts, now, same):
            if key in DATA:
                raise UserError(f"{path} was trained on other images: give --data their folder, or {advice}", 2)
            other = f"{key} {facts[key]}, not {now[key]}"
            raise UserError(f"{path} was trained with {other}: use the same value, or {advice}", 2)
        try:
            model.load_state_dict(saved["model"])
        except RuntimeError as error:
            version = "perhaps of another version of this script"
            raise UserError(f"{path} has weights of another network, {version}: {advice}", 2) from error
        optimizer.load_state_dict(saved["optimizer"])
        # fused Adam needs its moments in the weights' memory order, which may have been another on another device
        for parameter, state in optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.empty_like(parameter).copy_(state[key])
        return [Epoch(int(epoch), *map(float, values)) for epoch, *values in saved["history"]], facts
    except (UserError, torch.OutOfMemoryError):
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", 2) from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path} is damaged: {advice}", 2) from error


class Record:
    """A run's files in the folder `--out`, updated after every epoch.

    Used as a context manager: on entering, the run resumes from its checkpoint if the user wants that; on leaving by
    Ctrl-C, it prints how to continue.

    Args:
        options: as `command_line.parse` gives them.
        build: as `run` takes it.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        data: Data,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        build: Callable[..., nn.Module],
    ):
        self.options, self.data, self.model, self.optimizer = options, data, model, optimizer
        self.facts = gather(options, data, model, build)
        self.checkpoint, self.csv, self.json = (
            options.out / f"{options.name}.{kind}" for kind in ("pt", "csv", "json")
        )
        self.history: list[Epoch] = []
        self.epochs = options.epochs  # that the run has when it is complete
        self.old: set[Path] = set()  # files that could not be brought up to date

    def __enter__(self) -> "Record":
        self.refuse_another_control()
        self.go_back()
        if why := why_no_control(self.facts, self.options, self.epochs):
            print(why)
        return self

    def refuse_another_control(self) -> None:
        """Scripts with the same network share a control's files; another network must not resume or replace them.

        Raises:
            UserError: they belong to another network on the same data.
        """
        there = read_facts(self.json)
        same_data = self.options.control and not differences(there, self.facts, DATA)
        if same_data and there.get("parameters") != self.facts["parameters"]:
            raise UserError(other_network(self.json, there, self.facts["parameters"]), 2)

    def go_back(self) -> None:
        """Restores what the run's files hold, if the user wants that."""
        options = self.options
        if options.look:
            self.load(["script", *DATA], "train again, without --look")  # however the network was trained
            self.epochs = len(self.history)  # so there is nothing to train
            return
        remove_leftovers(options.out, options.name)
        if options.resume and self.checkpoint.exists():
            self.load(["script", *DATA, *TRAINING], "start afresh, without --resume or in another --out")
            if (done := len(self.history)) > self.epochs:
                raise UserError(f"{self.checkpoint} has {done} epochs already: raise --epochs", 2)
        elif options.resume:
            print(f"{self.checkpoint} not found: starting with epoch 1")

    def load(self, same: list[str], advice: str) -> None:
        """Goes back to the checkpoint. Its facts remain the run's, whatever is typed now and on whatever machine."""
        now = self.facts
        self.history, self.facts = load_checkpoint(self.checkpoint, now, same, self.model, self.optimizer, advice)
        before = self.facts["script_checksum"]  # None, as now's can be: no script, but a notebook's cell
        if before and now["script_checksum"] not in (None, before):
            print(f"{self.options.script} was edited after this run began; the run continues with the edited script")
        self.update(self.csv, write_csv, self.history)  # which is behind if a kill came between
        self.update(self.json, write_facts, self.facts)

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        self.options.saved = bool(self.history)  # so there is something to resume
        if kind is KeyboardInterrupt and not self.history:
            raise UserError("stopped before the first epoch finished; nothing was saved", 130) from None
        if kind is KeyboardInterrupt:
            done = f"stopped after epoch {len(self.history)}"
            raise UserError(f"{done}; continue with: {continue_command(self.options)}", 130) from None
        if self.old:
            print(f"Not up to date, since they could not be written: {', '.join(map(str, sorted(self.old)))}")

    def epochs_to_train(self) -> range:
        """The numbers of the epochs that are still to be trained; none with --look."""
        return range(len(self.history) + 1, self.epochs + 1)

    def add(self, epoch: Epoch) -> None:
        """Saves an epoch and prints its line.

        Raises:
            UserError: a loss is not finite; the epochs before it are kept.
        """
        if not math.isfinite(epoch.train_loss + epoch.test_loss):
            kept = f"; what was trained before it is saved in {self.options.out}" if self.history else ""
            raise UserError(
                f"the loss of epoch {epoch.epoch} is not finite: try --lr {self.options.lr / 10:g}, "
                f"or look for nan in what the model's blocks return{kept}"
            )
        self.save(epoch)
        print(
            f"Epoch [{epoch.epoch}/{self.epochs}] "
            f"Train Loss: {epoch.train_loss:.4f}, Train Acc: {epoch.train_acc:.2f}% "
            f"Test Loss: {epoch.test_loss:.4f}, Test Acc: {epoch.test_acc:.2f}%",
            flush=True,
        )

    def save(self, epoch: Epoch) -> None:
        """Writes the checkpoint, then the CSV and the JSON, which could be made from it again."""
        history = [*self.history, epoch]
        contents = {
            "facts": self.facts,
            "history": [tuple(epoch) for epoch in history],
            # contiguous, as other programs expect weights
            "model": {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()  # since torch.save does not survive a full disk
        torch.save(contents, buffer)
        with replacing(self.checkpoint) as temporary:
            temporary.write_bytes(buffer.getvalue())
            # only now is there something to put in its place
            if len(history) == 1 and (place := set_aside(self.options.out, self.options.name)):
                add = quote(["--out", str(place), "--resume"])
                print(f"Moved the previous run with this name to {place}. To resume that one, add: {add}")
        self.history.append(epoch)  # it counts from here on, since the run can be resumed from it
        self.update(self.csv, write_csv, self.history)
        self.update(self.json, write_facts, self.facts)

    def update(self, path: Path, write: Callable, *contents) -> None:
        """Writes a file again. One that another program has open, or another user owns, is tried again later."""
        try:
            write(path, *contents)
            self.old.discard(path)
        except PermissionError as error:
            if path not in self.old:
                print(f"cannot write {path} ({error.strerror}): training goes on, the next epoch tries again")
            self.old.add(path)
