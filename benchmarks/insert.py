"""Puts each block into a trained ResNet-8 and trains on: test accuracy at once, and after each further epoch.

    python benchmarks/sweep.py --networks ResNet-8 --seeds 0 1 2 --epochs 15 --data "CIFAR-10 JPEG copy" --out trained
    python benchmarks/insert.py --seeds 0 1 2 --data "CIFAR-10 JPEG copy" --trained trained

The first command trains the networks, the second inserts the blocks. Writes a run's two files for each seed and block,
`<out>/seed<k>/ResNet-8-<block>.csv` and `.json`; their epoch 0 is the trained network with the block, before any
further step. Runs that are there are skipped.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from networks import ROOT, load
from torch import nn
from trained import load_trained
from variants import ATTENTION, GATES

from common import evaluate, load_data, set_seed, train_epoch, train_step
from support.data.dataset import Data
from support.errors import plain_errors
from support.run.command_line import Parser, find_device, non_negative_int, positive_int, suffix, writable_folder
from support.run.cpu import tuned_cpu
from support.run.cuda_graph import graphed
from support.run.facts import gather, write_facts
from support.run.gpu import memory_format, tuned_gpu
from support.run.record import Epoch, read_csv, write_csv

BLOCKS = ["SE", "CBAM", "SE-Twice", "CBAM-Four", "SE-Gradually", "CBAM-Gradually", "Self", "Multi-Head"]
ResNet8 = load("ResNet-8")


def insert(network: nn.Module, block: str) -> None:
    """Where `ResNet-8.py` has it: a gate at the end of each branch, attention after stages 2 and 3."""
    stages = [i for i, layer in enumerate(network.features) if isinstance(layer, ResNet8.BasicBlock)]
    for i in stages:
        branch = network.features[i].branch
        channels = branch[-2].num_features  # of the last batch norm
        if block in GATES:
            branch[-1] = GATES[block](channels, 4)
        elif i != stages[0]:
            network.features[i] = nn.Sequential(network.features[i], ATTENTION[block](channels))


def train_on(network: nn.Module, data: Data, trained_epochs: int, options: argparse.Namespace) -> list[Epoch]:
    """Accuracy before any step as epoch 0, then epochs with a fresh optimiser, each from its own seed."""
    layout = memory_format(options.device, options.precision)
    network.to(options.device, memory_format=layout)
    *train, test_images, test_labels = data.on(options.device, layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr, fused=True)
    with tuned_gpu(options.device, options.precision, network):
        history = [Epoch(0, math.nan, math.nan, *evaluate(network, test_images, test_labels), 0)]
        step = graphed(train_step, options.device)
        for epoch in range(1, options.epochs + 1):
            start = time.perf_counter()
            set_seed(options.seed, trained_epochs + epoch)  # the order of images continues from there
            trained = train_epoch(network, optimizer, *train, options.batch_size, step=step)
            tested = evaluate(network, test_images, test_labels)
            history.append(Epoch(epoch, *trained, *tested, time.perf_counter() - start))
    return history


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--trained", type=Path, required=True, help="the --out of the sweep that trained the networks")
    add("--seeds", nargs="+", type=non_negative_int, default=[0], metavar="SEED", help="of the trained networks")
    add("--epochs", type=positive_int, default=3, help="to train on (default: 3)")
    add("--data", default="data", help="as the scripts take it")
    add("--device", type=find_device, default="auto", help="as the scripts take it")
    out = ROOT / "benchmarks" / "runs" / "inserted"
    add("--out", type=writable_folder, default=out, help="the folder for the seeds' folders (default: %(default)s)")
    options = parser.parse_args()
    options.batch_size, options.lr, options.precision, options.script = 64, 0.001, "fp32", Path(__file__)
    with plain_errors(options), tuned_cpu(options.device, options.precision):
        data = load_data(options.data)
        control = f"ResNet-8{suffix(options.data)}"
        for seed in options.seeds:
            options.seed = seed
            trained = ResNet8.build(len(data.classes))
            epochs = load_trained(options.trained / f"seed{seed}" / f"{control}.pt", trained, data)
            for block in [None, *BLOCKS]:
                options.model_flags = {"attention": block} if block else {}
                name = f"ResNet-8{f'-{block}' if block else ''}{suffix(options.data)}"
                csv = options.out / f"seed{seed}" / f"{name}.csv"
                if len(read_csv(csv)) > options.epochs:
                    continue
                set_seed(seed, 0)
                network = copy.deepcopy(trained)
                if block:
                    insert(network, block)
                facts = gather(options, data, network, control if block else None)
                history = train_on(network, data, epochs, options)
                csv.parent.mkdir(exist_ok=True)
                write_csv(csv, history)
                write_facts(csv.with_suffix(".json"), facts)
                accuracies = ", ".join(f"{epoch.test_acc:.2f}" for epoch in history)
                print(f"seed {seed}, {block or 'no block'}: {accuracies}", flush=True)


if __name__ == "__main__":
    main()
