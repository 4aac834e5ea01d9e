"""What is kept of a run: its history, the files that hold it, and resuming from them with --resume or --look."""

import argparse
import io
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from support.data.dataset import Data
from support.errors import UserError, again, continue_command
from support.files import remove_leftovers, replacing, set_aside
from support.run.facts import (
    DATA,
    TRAINING,
    differences,
    gather,
    missing_control,
    other_network,
    read_facts,
    why_no_control,
    write_facts,
)
from support.run.history import Epoch, write_csv


def load_checkpoint(
    path: Path, now: dict, same: Iterable[str], model: nn.Module, optimizer: torch.optim.Optimizer, advice: str
) -> tuple[list[Epoch], dict]:
    """Puts weights and the optimiser's state back as `Record.save` left them; returns the history and the facts.

    Raises:
        UserError: the file cannot be read, or the facts that `same` lists are others there than `now`; `advice` says
            what to do then.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if broken := parts.testzip():  # torch.load does not look at checksums
                raise ValueError(broken)
        saved = torch.load(path, map_location="cpu", weights_only=True)  # runs no code that the file holds
        facts = saved.get("facts", {})
        if facts.keys() != now.keys():
            raise UserError(f"{path} is of another version of this project: {advice}", 2)
        for key in differences(facts, now, same):
            other = f"{key} {facts[key]}, not {now[key]}"
            raise UserError(f"{path} was trained with {other}: use the same value, or {advice}", 2)
        try:
            model.load_state_dict(saved["model"])
        except RuntimeError as error:
            version = "perhaps of another version of this script"
            raise UserError(f"{path} has weights of another network, {version}: {advice}", 2) from error
        optimizer.load_state_dict(saved["optimizer"])
        # fused Adam needs its moments in the weights' memory order, which another device may have had otherwise
        for parameter, state in optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.empty_like(parameter).copy_(state[key])
        return [Epoch(int(epoch), *map(float, values)) for epoch, *values in saved["history"]], facts
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", 2) from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path} is damaged: {advice}", 2) from error


class Record:
    """A run's files in the folder `--out`, kept up to date epoch by epoch.

    Used as a context: on entering, the run resumes from its checkpoint if the user wants that; on leaving by Ctrl-C,
    it says how to continue.

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
        self.checkpoint, self.csv = (options.out / f"{options.name}.{kind}" for kind in ("pt", "csv"))
        self.history: list[Epoch] = []
        self.epochs = options.epochs  # that the run has when it is done

    def __enter__(self) -> "Record":
        self.go_back()
        if why := why_no_control(self.facts, self.options):
            print(why)
        return self

    def refuse_another_control(self) -> None:
        """Scripts with the same network share a control's files, which another network is not to continue or replace.

        Raises:
            UserError: they are of another network on the same data.
        """
        path = self.csv.with_suffix(".json")
        there = read_facts(path)
        same_data = self.options.control and not differences(there, self.facts, DATA)
        if same_data and there.get("parameters") != self.facts["parameters"]:
            raise UserError(other_network(path, there, self.facts["parameters"]), 2)

    def go_back(self) -> None:
        """To what the run's files hold, as far as the user wants that."""
        self.refuse_another_control()
        options = self.options
        network = ["script", *DATA]
        if options.look:
            self.load(network, "train anew, without --look")  # however the network was trained
            self.epochs = len(self.history)  # so there is nothing to train
            return
        remove_leftovers(options.out, options.name)
        if options.resume and self.checkpoint.exists():
            self.load([*network, *TRAINING], "start afresh, without --resume")
            if (done := len(self.history)) > self.epochs:
                raise UserError(f"{self.checkpoint} has {done} epochs already: raise --epochs", 2)
            write_csv(self.csv, self.history)  # which is behind if a kill came between
        elif options.resume:
            print(f"{self.checkpoint} not found: starting with epoch 1")

    def load(self, same: list[str], advice: str) -> None:
        """Goes back to the checkpoint, whose facts are the run's, whatever is typed or on whatever machine now."""
        now = self.facts
        self.history, self.facts = load_checkpoint(self.checkpoint, now, same, self.model, self.optimizer, advice)
        if differences(self.facts, now, ["script_checksum"]):
            print(f"{self.options.script} was edited since this run began; the run continues with it as it is now")
        write_facts(self.csv.with_suffix(".json"), self.facts)

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        if kind is KeyboardInterrupt and not self.history:
            raise UserError("stopped before the first epoch was done: nothing to continue", 130) from None
        if kind is KeyboardInterrupt:
            done = f"stopped after epoch {len(self.history)}"
            raise UserError(f"{done}; continue with: {continue_command(self.options)}", 130) from None

    def epochs_to_train(self) -> range:
        """The numbers of the epochs that are missing, after --resume or without it; none with --look."""
        return range(len(self.history) + 1, self.epochs + 1)

    def add(self, epoch: Epoch) -> None:
        """Saves an epoch and prints its line.

        Raises:
            UserError: a loss is not finite; what the epochs before gave is kept.
        """
        if not math.isfinite(epoch.train_loss + epoch.test_loss):
            kept = f"; what {len(self.history)} epochs gave is kept in {self.options.out}" if self.history else ""
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
        """Brings the checkpoint, the CSV and the JSON up to date, the checkpoint first: the rest follows from it."""
        history = [*self.history, epoch]
        contents = {
            "facts": self.facts,
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
        self.history.append(epoch)  # which counts from here on, since it can be continued from
        write_csv(self.csv, self.history)
        write_facts(self.csv.with_suffix(".json"), self.facts)

    def set_earlier_run_aside(self) -> None:
        place = set_aside(self.options.out, self.options.name)
        way_back = again(self.options, "--out", str(place), "--resume")
        print(f"Moved the previous run with this name to {place}. To resume that one: {way_back}")

    def what_is_missing(self) -> str | None:
        """What to type for the control, where the folder has none."""
        return missing_control(self.facts, self.options)
