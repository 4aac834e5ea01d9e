"""How fast the scripts train, against the loop that a tutorial would write, as a Markdown table.

    python benchmarks/speed.py [SE-Attention CNN ...] [--precision bf16]

Both loops train the same networks on the same images, epoch by epoch in turn, so that noise meets both; each in a
process of its own, since the project's loop changes how its process keeps memory. The tutorial's has a `DataLoader`
over per-image transforms, contiguous tensors, ReLU before pool, plain Adam, and `.item()` in every step.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

import torch
from networks import NETWORKS, build
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from common import evaluate, load_data, train_epoch, train_step
from support.data.dataset import Data
from support.errors import finish, plain_errors
from support.run.command_line import PRECISIONS, Parser, find_device, non_negative_int, positive_int, refuse_tf32
from support.run.cpu import tuned_cpu
from support.run.cuda_graph import graphed
from support.run.gpu import memory_format, tuned_gpu

SCRIPTS = [name for name, network in NETWORKS.items() if not network.flags]


class Pictures(datasets.CIFAR10):
    """torchvision's CIFAR10 with other images in it: it gives them one by one, through Pillow and a transform."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.data, self.targets, self.target_transform = images.permute(0, 2, 3, 1).numpy(), labels.tolist(), None
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])


def relu_before_pool(network: nn.Module) -> None:
    for i, layer in enumerate(list(network.features)):
        if isinstance(layer, nn.MaxPool2d):
            network.features[i], network.features[i + 1] = nn.ReLU(), layer


def tutorial_pass(model, loader, device, optimizer=None) -> None:
    """Trains with an optimizer, tests without one; fetches every batch's loss and count of right answers."""
    model.train(optimizer is not None)
    with torch.set_grad_enabled(optimizer is not None):
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            loss = nn.functional.cross_entropy(outputs, labels)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss.item()
            (outputs.argmax(1) == labels).sum().item()


def tutorial(model: nn.Module, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Trains on the test images to warm up, then trains and tests for an epoch whenever it is asked to."""
    relu_before_pool(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    train = DataLoader(
        Pictures(data.train_images, data.train_labels), options.batch_size, shuffle=True, num_workers=options.workers
    )
    test = DataLoader(Pictures(data.test_images, data.test_labels), options.batch_size, num_workers=options.workers)
    tutorial_pass(model, test, options.device, optimizer)
    while True:
        yield
        tutorial_pass(model, train, options.device, optimizer)
        tutorial_pass(model, test, options.device)


def project(model: nn.Module, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Trains on the test images to warm up, then trains and tests for an epoch whenever it is asked to."""
    device, precision = options.device, options.precision
    with tuned_cpu(device, precision), tuned_gpu(device, precision, model):
        layout = memory_format(device, precision)
        model.to(memory_format=layout)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
        images, labels, *test = data.on(device, layout)
        step = graphed(train_step, device)
        train_epoch(model, optimizer, *test, options.batch_size, precision, step=step)
        while True:
            yield
            train_epoch(model, optimizer, images, labels, options.batch_size, precision, step=step)
            evaluate(model, *test, precision)


def start(loop: Callable, network: str, options: argparse.Namespace) -> None:
    """Readies the process for `epoch_seconds`. Where the data set has fewer images than asked for, they repeat."""
    global loop_epochs
    multiprocessing.set_start_method(None, force=True)  # DataLoader's workers start as in a script of one's own
    data = load_data(options.data)
    sizes = [options.images] * 2 + [max(1, options.images // 5)] * 2
    cut = (tensor[torch.arange(size) % len(tensor)] for tensor, size in zip(data.tensors, sizes, strict=True))
    cut = Data(data.name, data.classes, *cut)
    loop_epochs = loop(build(network, len(data.classes)).to(options.device), cut, options)
    next(loop_epochs)


def epoch_seconds() -> float:
    began = time.perf_counter()
    next(loop_epochs)
    return time.perf_counter() - began


def compare(script: str, options: argparse.Namespace) -> list[str]:
    """The script's row of the table, from medians over rounds."""
    control = NETWORKS[script].control
    loops = [(tutorial, script), (project, script), *([(project, control)] if control else [])]
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        processes = [stack.enter_context(ProcessPoolExecutor(1, spawn, start, (*loop, options))) for loop in loops]
        rounds = [[process.submit(epoch_seconds).result() for process in processes] for _ in range(options.rounds)]
    slow, fast, *without_block = map(statistics.median, zip(*rounds, strict=True))
    speeds = [f"{options.images / seconds:.0f}" for seconds in (slow, fast)]
    return [script, *speeds, f"{slow / fast:.2f}", f"{fast / without_block[0]:.2f}" if control else ""]


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", default=SCRIPTS, help="scripts without .py (default: all seven)")
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--device", type=find_device, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the project's loop")
    parser.add_argument("--batch-size", type=positive_int, default=64)
    parser.add_argument("--workers", type=non_negative_int, default=2, help="of the tutorial's DataLoader")
    parser.add_argument("--images", type=positive_int, default=5000, help="an epoch; few favour the project")
    parser.add_argument("--rounds", type=positive_int, default=3, help="epochs of each loop")
    options = parser.parse_args()
    refuse_tf32(parser, options)
    if unknown := sorted(set(options.scripts) - set(SCRIPTS)):
        finish(f"unknown scripts: {', '.join(unknown)}; there are {', '.join(SCRIPTS)}", 2)
    with plain_errors(options):
        load_data(options.data)  # here for the sake of a plain error; each process loads its own

    print("| script | tutorial, images/s | project, images/s | times faster | epoch over control's |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    ratios = []
    for script in options.scripts:
        row = compare(script, options)
        ratios.append(float(row[3]))
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"| geometric mean | | | {statistics.geometric_mean(ratios):.2f} | |")
    device = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else options.device
    where = f"{options.data}, {device}, {torch.get_num_threads()} threads"
    print(f"\n{where}, {options.precision}, batches of {options.batch_size}, PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
