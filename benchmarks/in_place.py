"""Trains a script's network, or a ResNet, with the script's block or with something else in its place.

    python benchmarks/in_place.py own linear SE-Attention.py CNN-32-64-128-linear --data shapes
    python benchmarks/in_place.py ResNet-8 block SE-Attention.py SE-ResNet-8 --data shapes --batch-size 128

The words are the network, what is in the block's place, the script, the name of the run, and then a script's flags. In
the block's place is `block`, the block itself; `control`, nothing; `linear`, a linear layer with a shortcut; or
`constant` and a JSON list, constants by which the features are multiplied, one for each place. These are the runs of
`compare.py`.
"""

import importlib
import inspect
import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from networks import one_line, read_script
from torch import nn
from variants import Constant, LinearShortcut

from common import load_data, run, set_seed
from support.data.dataset import Data
from support.errors import UserError, finish, plain_errors
from support.files import holding
from support.run import command_line
from support.run.facts import gather, write_facts
from support.run.record import write_csv

resnet = importlib.import_module("ResNet-18")
KINDS = ("block", "control", "linear", "constant")  # of what is in the block's place


def has_gates(block: nn.Module) -> bool:
    """Whether the block has a method `gate`, or a part of it has, as CBAM's two."""
    return any(callable(getattr(type(part), "gate", None)) for part in block.modules())


def read_build(script: Path, network: str) -> tuple[Callable[..., nn.Module], str]:
    """`build(num_classes, block)` of a script's own network or of a ResNet, and the name of its control.

    Into a ResNet the block is put by the README's recipe: a block with gates at the end of each residual branch, one
    with `theta` before the network, another one after the third stage.
    """
    build, control = read_script(script)
    if network == "own":
        return build, control
    block_of_script = inspect.signature(build).parameters["block"].default
    try:
        example = block_of_script(64)
    except Exception as error:  # someone's own code can raise anything
        raise UserError(f"{script}: its block fails for 64 channels: {one_line(error, script)}", 2) from error
    insert = resnet.insert_gates if has_gates(example) else resnet.insert_attention

    def build_resnet(num_classes: int, block: Callable[..., nn.Module] | None = block_of_script) -> nn.Module:
        model = resnet.NETWORKS[network](num_classes)
        if block and hasattr(example, "theta"):
            return nn.Sequential(block(3), model)
        if block:
            insert(model, block)
        return model

    return build_resnet, network


def put_in_place(build: Callable[..., nn.Module], kind: str, factors: Sequence[float] = ()) -> Callable[..., nn.Module]:
    """A `build` with something in the block's place: see the top of this file."""
    if kind == "control":
        return partial(build, block=None)
    if kind == "linear":
        return partial(build, block=lambda channels, *_, **__: LinearShortcut(channels))
    if kind == "constant":
        in_turn = itertools.cycle(factors)
        return partial(build, block=lambda *_, **__: Constant(next(in_turn)))
    return build


def train_resnet(build: Callable[..., nn.Module], name: str, script: Path, argv: Sequence[str]) -> None:
    """Trains as `ResNet-18.py` does, and writes the run's CSV and facts at the end."""
    options = command_line.parse(build, None, name, argv)
    options.script, options.lr = script, resnet.highest_lr(options.batch_size)
    with plain_errors(options), holding(options.out, options.name):
        data = load_data(options.data)
        set_seed(options.seed, epoch=0)
        model = build(num_classes=len(data.classes)).to(options.device)
        nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
        facts = gather(options, data, model, build) | {"epochs": options.epochs}
        data = Data(data.name, data.classes, *data.on(options.device, torch.channels_last))
        history = resnet.train(model, data, options.seed, range(1, options.epochs + 1), options)
        if not math.isfinite(sum(epoch.train_loss + epoch.test_loss for epoch in history)):
            raise UserError("its loss is not finite")
        csv = options.out / f"{options.name}.csv"
        write_facts(csv.with_suffix(".json"), facts)
        write_csv(csv, history)


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[1] not in ("own", *resnet.NETWORKS) or sys.argv[2] not in KINDS:
        finish(f"give own or {' or '.join(resnet.NETWORKS)}; one of {', '.join(KINDS)}; a script; a run's name", 2)
    network, kind, script, name, *argv = sys.argv[1:]
    try:
        factors = [float(factor) for factor in json.loads(argv.pop(0))] if kind == "constant" else ()
        build, control = read_build(Path(script), network)
    except UserError as error:
        finish(str(error), error.status)
    except (IndexError, TypeError, ValueError):
        finish("give the constants after the run's name, as a JSON list: [0.5, 0.5]", 2)
    build = put_in_place(build, kind, factors)
    if network == "own":
        run(build, control, name, argv)
    else:
        train_resnet(build, name, Path(script), argv)
