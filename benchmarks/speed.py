"""How fast the scripts train, against the loop that a tutorial would write.

    python benchmarks/speed.py                                  all seven scripts, on drawn images
    python benchmarks/speed.py SE-Attention CNN --precision bf16
    python benchmarks/speed.py --grow                           how cost grows with batch and data set size

Both loops train the same architecture on the same images, epoch by epoch in turn, so that what else the machine
does meets both; each in a process of its own, since the project's loop changes how its process keeps memory. The
tutorial loop is a `DataLoader` over per-image transforms, contiguous tensors, ReLU before pool, plain Adam, and
`.item()` in every step. Prints a Markdown table.
"""

import argparse
import itertools
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import torch
from networks import NETWORKS, build
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from common import evaluate, load_data, train_epoch
from support.command_line import find_device
from support.cpu import tune_cpu
from support.dataset import Data
from support.errors import UserError

CONTEXT = multiprocessing.get_context("spawn")
SCRIPTS = [name for name, network in NETWORKS.items() if not network.own]


# ---- the tutorial loop ---------------------------------------------------------------------------------


class Pictures(Dataset):
    """Images as torchvision's CIFAR10 gives them: one by one, through Pillow and a transform."""

    def __init__(self, images: Tensor, labels: Tensor):
        self.images, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def relu_before_pool(network: nn.Module) -> nn.Module:
    layers = list(network.features)
    for i, layer in enumerate(layers[:-1]):
        if isinstance(layer, nn.MaxPool2d) and isinstance(layers[i + 1], nn.ReLU):
            layers[i : i + 2] = nn.ReLU(), layer
    network.features = nn.Sequential(*layers)
    return network


def tutorial_epoch(model, loader, optimizer, criterion, device) -> tuple[float, float]:
    model.train()
    running_loss, correct, total = 0.0, 0, 0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * inputs.size(0)
        _, predicted = torch.max(outputs, 1)
        total += labels.size(0)
        correct += (predicted == labels).sum().item()
    return running_loss / total, 100 * correct / total


def tutorial_test(model, loader, criterion, device) -> tuple[float, float]:
    model.eval()
    running_loss, correct, total = 0.0, 0, 0
    with torch.no_grad():
        for inputs, labels in loader:
            inputs, labels = inputs.to(device), labels.to(device)
            outputs = model(inputs)
            running_loss += criterion(outputs, labels).item() * inputs.size(0)
            _, predicted = torch.max(outputs, 1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    return running_loss / total, 100 * correct / total


def tutorial(script: str, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Warms up, then trains and tests for an epoch whenever it is asked to."""
    device, workers = options.device, options.workers
    model = relu_before_pool(build(script, len(data.classes))).to(device)
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.001)
    kinds = {"batch_size": options.batch_size, "num_workers": workers}
    train = DataLoader(Pictures(data.train_images, data.train_labels), shuffle=True, **kinds)
    test = DataLoader(Pictures(data.test_images, data.test_labels), shuffle=False, **kinds)
    tutorial_epoch(model, itertools.islice(train, 4), optimizer, criterion, device)
    while True:
        yield
        tutorial_epoch(model, train, optimizer, criterion, device)
        tutorial_test(model, test, criterion, device)


# ---- the project's loop --------------------------------------------------------------------------------


def project(script: str, data: Data, options: argparse.Namespace) -> Iterator[None]:
    """Warms up, then trains and tests for an epoch whenever it is asked to."""
    device, precision = options.device, options.precision
    if device.type == "cpu":
        tune_cpu(precision)
    model = build(script, len(data.classes)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    train_images, train_labels, test_images, test_labels = (tensor.to(device) for tensor in data[2:])
    few = 4 * options.batch_size
    train_epoch(model, optimizer, train_images[:few], train_labels[:few], options.batch_size, precision)
    while True:
        yield
        train_epoch(model, optimizer, train_images, train_labels, options.batch_size, precision)
        evaluate(model, test_images, test_labels, precision)


# ---- measuring -----------------------------------------------------------------------------------------


class Loop:
    """A loop in a process of its own, which trains and tests for an epoch when it is asked to."""

    def __init__(self, loop: Callable, script: str, options: argparse.Namespace):
        self.pipe, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=(other, loop, script, options), daemon=False)
        self.process.start()
        other.close()  # so that a process that ends early ends the wait for it
        self.pipe.recv()  # that it is ready
        self.seconds = []

    def epoch(self) -> None:
        self.pipe.send(True)
        self.seconds.append(self.pipe.recv())

    def end(self) -> float:
        """Median seconds of an epoch."""
        self.pipe.send(False)
        self.process.join()
        return statistics.median(self.seconds)


def serve(pipe: Connection, loop: Callable, script: str, options: argparse.Namespace) -> None:
    # DataLoader's workers start as they would in a script of one's own
    multiprocessing.set_start_method(options.start_method, force=True)
    data = cut(load_data(options.data), options.images, options.images // 5)
    epochs = loop(script, data, options)
    next(epochs)
    pipe.send("ready")
    while pipe.recv():
        start = time.perf_counter()
        next(epochs)
        pipe.send(time.perf_counter() - start)


def by_turns(loops: list[Loop], rounds: int) -> list[float]:
    for _ in range(rounds):
        for loop in loops:
            loop.epoch()
    return [loop.end() for loop in loops]


def cut(data: Data, train: int, test: int) -> Data:
    """The first images of a data set, repeated where it has fewer."""

    def take(tensor: Tensor, count: int) -> Tensor:
        return tensor[torch.arange(count) % len(tensor)].contiguous()

    return data._replace(
        train_images=take(data.train_images, train).contiguous(memory_format=torch.channels_last),
        train_labels=take(data.train_labels, train),
        test_images=take(data.test_images, test).contiguous(memory_format=torch.channels_last),
        test_labels=take(data.test_labels, test),
    )


def compare(options: argparse.Namespace) -> list[dict]:
    table = []
    for script in options.scripts:
        loops = [Loop(tutorial, script, options), Loop(project, script, options)]
        if control := NETWORKS[script].control:
            loops.append(Loop(project, control, options))
        slow, fast, *without_block = by_turns(loops, options.rounds)
        table.append(
            {
                "script": script,
                "tutorial, images/s": round(options.images / slow),
                "project, images/s": round(options.images / fast),
                "times faster": round(slow / fast, 2),
                "times its control's epoch": round(fast / without_block[0], 2) if control else None,
            }
        )
        print(table[-1], file=sys.stderr, flush=True)
    mean = statistics.geometric_mean(row["times faster"] for row in table)
    return [*table, {**dict.fromkeys(table[0]), "script": "geometric mean", "times faster": round(mean, 2)}]


def grow(options: argparse.Namespace) -> list[dict]:
    table = []
    for script in options.scripts:
        for images in (5_000, 20_000, 50_000):
            row = {"script": script, "images": images}
            for batch_size in (16, 64, 256, 1024):
                own = argparse.Namespace(**{**vars(options), "batch_size": batch_size, "images": images})
                rounds = min(options.rounds, max(1, 10_000 // images))  # one long epoch is enough
                [seconds] = by_turns([Loop(project, script, own)], rounds)
                row[f"batch {batch_size}"] = round(images / seconds)
            print(row, file=sys.stderr, flush=True)
            table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", help="scripts to measure, without .py (default: all seven)")
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--device", type=find_device, default="auto")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the project's loop")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="of the tutorial's DataLoader")
    parser.add_argument("--images", type=int, default=5000, help="training images an epoch; a fifth to test")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each loop")
    parser.add_argument("--grow", action="store_true", help="images a second by batch size and data set size")
    options = parser.parse_args()
    options.scripts = options.scripts or (["CNN", "Self-Attention"] if options.grow else SCRIPTS)
    if unknown := set(options.scripts) - set(SCRIPTS):
        parser.error(f"unknown scripts: {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")

    options.start_method = multiprocessing.get_start_method()
    try:
        table = grow(options) if options.grow else compare(options)
    except (UserError, EOFError) as error:  # the latter: a loop's process has ended, and said why
        sys.exit(f"{parser.prog}: {error or 'a measured process ended early'}")
    print("| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
    for row in table:
        print("| " + " | ".join("" if value is None else str(value) for value in row.values()) + " |")
    device = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else platform.processor()
    print(
        f"\n{options.data}, {device or 'CPU'}, {torch.get_num_threads()} threads, {options.precision}, batches of "
        f"{options.batch_size}, PyTorch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
