"""How fast the networks train, against the loop that a tutorial would write, as a Markdown table.

    python benchmarks/speed.py [SE-Attention CNN-32-64-128 ...] [--precision bf16]

The tutorial's loop has a `DataLoader` over per-image transforms, contiguous tensors, ReLU before pool, plain Adam, and
`.item()` in every step. Both loops train on the same images, epoch by epoch in turn, so that noise meets both; each in
a process of its own, since the project's changes how its process keeps memory.
"""

import argparse
import multiprocessing
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import torch
from networks import NETWORKS, build
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from common import evaluate, load_data, train_epoch, train_step
from support.data.dataset import Data
from support.errors import plain_errors
from support.run import command_line
from support.run.cuda_graph import GraphedStep
from support.run.device import memory_order, tuned

BATCH_SIZE = 64


class Pictures(datasets.CIFAR10):
    """torchvision's CIFAR10 with other images (N, 3, 32, 32) in it: it gives them one by one, through a transform."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.data, self.targets, self.target_transform = images.permute(0, 2, 3, 1).numpy(), labels.tolist(), None
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])


def tutorial(model: nn.Module, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Trains and tests for an epoch whenever it is asked to."""
    layers = model.features
    for i, layer in enumerate(list(layers)):
        if isinstance(layer, nn.MaxPool2d):
            layers[i], layers[i + 1] = layers[i + 1], layer
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    pictures = Pictures(*data.tensors[:2]), Pictures(*data.tensors[2:])
    loaders = [DataLoader(p, BATCH_SIZE, shuffle=p is pictures[0], num_workers=options.workers) for p in pictures]
    while True:
        for loader, training in zip(loaders, (True, False), strict=True):
            model.train(training)
            for inputs, labels in loader:
                inputs, labels = inputs.to(options.device), labels.to(options.device)
                with torch.set_grad_enabled(training):
                    outputs = model(inputs)
                    loss = nn.functional.cross_entropy(outputs, labels)
                if training:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                loss.item()
                (outputs.argmax(1) == labels).sum().item()
        yield


def project(model: nn.Module, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Trains and tests for an epoch whenever it is asked to."""
    device, precision = options.device, options.precision
    model.to(memory_format=memory_order(device, precision))
    with tuned(model, device, precision):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
        tensors = data.on(device, memory_order(device, precision))
        step = GraphedStep(train_step) if device.type == "cuda" else train_step
        while True:
            train_epoch(model, optimizer, *tensors[:2], BATCH_SIZE, precision, step=step)
            evaluate(model, *tensors[2:], precision)
            yield


def start(loop: str, network: str, options: argparse.Namespace) -> None:
    """Readies a process for `epoch_seconds`. A dataset with fewer images than asked for is repeated."""
    global epochs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the program that waits for this process
    multiprocessing.set_start_method(None, force=True)  # DataLoader's workers start as in a script of one's own
    data = load_data(options.data)
    sizes = [options.images] * 2 + [max(1, options.images // 5)] * 2
    cut = [tensor[torch.arange(size) % len(tensor)] for tensor, size in zip(data.tensors, sizes, strict=True)]
    model = build(network, len(data.classes)).to(options.device)
    epochs = globals()[loop](model, Data(data.name, data.classes, *cut), options)


def epoch_seconds() -> float:
    began = time.perf_counter()
    next(epochs)
    return time.perf_counter() - began


def compare(network: str, options: argparse.Namespace) -> list[float]:
    """Seconds that an epoch takes with the tutorial's loop and with the project's: medians, after one to warm up."""
    spawn = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, spawn, start, (loop, network, options)) for loop in ("tutorial", "project")]
    rounds = [[pool.submit(epoch_seconds).result() for pool in pools] for _ in range(1 + options.rounds)]
    for pool in pools:
        pool.shutdown()
    return [statistics.median(seconds) for seconds in zip(*rounds[1:], strict=True)]


def main() -> None:
    parser = command_line.Parser(description="Compares the speed of the project's loop with a tutorial's.")
    add = parser.add_argument
    add("networks", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NETWORKS)}")
    add("--data", default="shapes")
    add("--device", type=command_line.find_device, default="auto")
    add("--precision", choices=command_line.PRECISIONS, default="fp32", help="of the project's loop (default: fp32)")
    add("--workers", type=command_line.non_negative_int, default=2, help="of the tutorial's DataLoader (default: 2)")
    images = "images per epoch (default: 5000; small numbers favour the project)"
    add("--images", type=command_line.positive_int, default=5000, help=images)
    add("--rounds", type=command_line.positive_int, default=3, help="epochs of each loop (default: 3)")
    options = parser.parse_args()
    command_line.refuse_tf32(parser, options)
    if unknown := [name for name in options.networks if name not in NETWORKS]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    with plain_errors(options):
        load_data(options.data)  # here for the sake of a plain error; each process loads its own

        print("| network | tutorial, images/s | project, images/s | speed-up | epoch over control's |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        seconds, faster = {}, []
        for name in options.networks or NETWORKS:
            slow, seconds[name] = compare(name, options)
            faster.append(slow / seconds[name])
            control = NETWORKS[name].control
            over = f"{seconds[name] / seconds[control]:.2f}" if control in seconds else ""
            speeds = f"{options.images / slow:,.0f} | {options.images / seconds[name]:,.0f}"
            print(f"| {name} | {speeds} | {faster[-1]:.2f} | {over} |", flush=True)
        print(f"| geometric mean | | | {statistics.geometric_mean(faster):.2f} | |")
        device = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else options.device
        where = f"{options.data}, {device}, {torch.get_num_threads()} threads, {options.precision}"
        print(f"\n{where}, batches of {BATCH_SIZE}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
