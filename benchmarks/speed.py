"""How fast the scripts train, against the loop that a tutorial would write.

    python benchmarks/speed.py                                  all seven scripts, on drawn images
    python benchmarks/speed.py SE-Attention CNN --precision bf16
    python benchmarks/speed.py --grow                           how cost grows with batch and data set size

Both loops train the same architecture on the same images, epoch by epoch in turn, so that a machine's moods
meet both; each in a process of its own, since the project's loop changes how its process keeps memory. The
tutorial loop is a `DataLoader` over per-image transforms, contiguous tensors, ReLU before pool, plain Adam,
and `.item()` in every step. Prints a Markdown table and writes it to speed.json (`--json`).
"""

import argparse
import importlib.util
import itertools
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from common import Data, Stop, evaluate, find_device, load_data, train_epoch, tune_cpu  # noqa: E402

CONTEXT = multiprocessing.get_context("spawn")
SCRIPTS = [
    "CNN",
    "Self-Attention",
    "Multi-Head Attention",
    "SE-Attention",
    "ECA-Attention",
    "CBAM-Attention",
    "STN-Attention",
]
FEATURE_CONTROL = "CNN --widths 32 64 128"
STN_CONTROL = "CNN --widths 64 128 --hidden 256 --dropout 0"
CONTROLS = {script: STN_CONTROL if script.startswith("STN") else FEATURE_CONTROL for script in SCRIPTS[1:]}


def build(script: str, classes: int) -> nn.Module:
    """A script's network, or a control's: `CNN --widths 32 64 128`."""
    name = script.partition(" --")[0]
    spec = importlib.util.spec_from_file_location("script", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = {}
    if script == FEATURE_CONTROL:
        own = {"widths": (32, 64, 128)}
    elif script == STN_CONTROL:
        own = {"widths": (64, 128), "hidden": 256, "dropout": 0.0}
    return module.build(classes, **own)


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

    def end(self) -> tuple[float, float]:
        """Median seconds of an epoch, and peak memory in gigabytes."""
        self.pipe.send(False)
        memory = self.pipe.recv()
        self.process.join()
        return statistics.median(self.seconds), memory


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
    pipe.send(peak_memory(options.device))


def by_turns(loops: list[Loop], rounds: int) -> list[tuple[float, float]]:
    for _ in range(rounds):
        for loop in loops:
            loop.epoch()
    return [loop.end() for loop in loops]


def peak_flops(device: torch.device, precision: str) -> float:
    """Operations a second of a large matrix product on this machine: the best of a hundred."""
    side = 4096 if device.type == "cuda" else 1536
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = 0.0
    for _ in range(100):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def flops(model: nn.Module) -> tuple[float, float]:
    """Multiplications and additions in matrix products and convolutions to train on an image, to test one."""
    x = torch.zeros(8, 3, 32, 32)
    with FlopCounterMode(display=False) as testing, torch.no_grad():
        model(x)
    with FlopCounterMode(display=False) as training:
        model(x).sum().backward()
    return training.get_total_flops() / len(x), testing.get_total_flops() / len(x)


def peak_memory(device: torch.device) -> float:
    """Gigabytes: of this process (Linux only, else nan) without its workers, or of tensors on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform != "linux":
        return math.nan
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


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


def compare(options: argparse.Namespace, peak: float) -> list[dict]:
    data = cut(load_data(options.data), options.images, options.images // 5)
    table = []
    for script in options.scripts:
        loops = [Loop(tutorial, script, options), Loop(project, script, options)]
        if script in CONTROLS:
            loops.append(Loop(project, CONTROLS[script], options))
        (slow, slow_memory), (fast, fast_memory), *control = by_turns(loops, options.rounds)
        training, testing = flops(build(script, len(data.classes)))
        operations = training * len(data.train_labels) + testing * len(data.test_labels)
        table.append(
            {
                "script": script,
                "tutorial, images/s": round(options.images / slow),
                "project, images/s": round(options.images / fast),
                "times faster": round(slow / fast, 2),
                "times its control's epoch": round(fast / control[0][0], 2) if control else None,
                "share of matrix-product peak": f"{operations / fast / peak:.0%}",
                "memory, GB": f"{slow_memory:.2f}, {fast_memory:.2f}",
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
                [(seconds, _)] = by_turns([Loop(project, script, own)], rounds)
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
    parser.add_argument("--json", type=Path, default=Path("speed.json"), help="where the figures go")
    options = parser.parse_args()
    options.scripts = options.scripts or (["CNN", "Self-Attention"] if options.grow else SCRIPTS)
    if unknown := set(options.scripts) - set(SCRIPTS):
        parser.error(f"unknown scripts: {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")

    options.start_method = multiprocessing.get_start_method()
    peak = peak_flops(options.device, options.precision)
    try:
        table = grow(options) if options.grow else compare(options, peak)
    except (Stop, EOFError) as error:  # the latter: a loop's process has ended, and said why
        sys.exit(f"{parser.prog}: {error or 'a measured process ended early'}")
    print("| " + " | ".join(table[0]) + " |\n|" + "---|" * len(table[0]))
    for row in table:
        print("| " + " | ".join("" if value is None else str(value) for value in row.values()) + " |")
    machine = {
        "data": options.data,
        "device": torch.cuda.get_device_name(options.device)
        if options.device.type == "cuda"
        else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "batch size": options.batch_size,
        "torch": torch.__version__,
        "peak GFLOP/s": round(peak / 1e9),
    }
    print("\n" + ", ".join(f"{key}: {value}" for key, value in machine.items()))
    options.json.write_text(json.dumps({"machine": machine, "table": table}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
