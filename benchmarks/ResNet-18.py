"""Do the blocks help in a network that people train? ResNet-18 on CIFAR-10, with each block and without.

    python benchmarks/ResNet-18.py --seeds 0 1 2 3 4            each network, trained from scratch
    python benchmarks/ResNet-18.py --insert --seeds 0 1 2       each block, put into a trained network
    python benchmarks/ResNet-18.py --network ResNet-8 --epochs 6 --precision fp32       on a CPU

The networks are trained as is usual: random crops and flips, SGD, and a learning rate that ends at 0. With `--insert`
the plain network is trained once for each seed. Each block is put into a copy of it, which is tested immediately
(epoch 0), and again after one further epoch (epoch 1), at a constant learning rate of 0.01.

Runs go seed by seed. A complete run is added to two files in the folder `--out`: to `ResNet-18.csv`, a line for each
epoch, and to `ResNet-18-facts.csv` (with `--insert`, to `ResNet-18-inserted.csv` and `ResNet-18-inserted-facts.csv`).
A ResNet-8 has files of its own. Runs that are already in the files are skipped: run the same command again to resume.
With `--minutes 9`, a run starts only if one as long as the longest so far would end within that time.

A ResNet-18 needs a GPU, and has no numbers yet. An estimate, not a measurement: on an NVIDIA H100 or H200 an epoch
takes 1 to 2 seconds, so the first command takes about half an hour and the second about 3 minutes. If there is less
time, reduce `--epochs` first, then `--blocks`, which are listed in order of importance. An epoch of a ResNet-8 takes
half a minute to two minutes on one CPU core.
"""

import argparse
import copy
import csv
import itertools
import math
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock
from variants import (
    CBAM,
    Constant,
    ECAAttention,
    Gradually,
    LinearShortcut,
    MultiHeadAttention,
    SEAttention,
    SelfAttention,
)

from common import evaluate, load_data, set_seed, train_epoch, train_step
from support.data.dataset import Data, checksum
from support.errors import UserError, plain_errors
from support.files import holding, replacing
from support.run import command_line
from support.run.facts import count_parameters, differences, processor
from support.run.record import Epoch

PADDING = 4  # black pixels on every side


def augment(padded: Tensor) -> Tensor:
    """A random crop of each image, flipped with probability 1/2: (N, 3, 40, 40) to (N, 3, 32, 32), channels last.

    Takes all images of an epoch at once, on their device. Random numbers are drawn on the CPU, so that a seed gives
    the same crops on every device.
    """
    top, left, flip = (torch.randint(n, (len(padded), 1)).to(padded.device) for n in (9, 9, 2))  # (N, 1) each
    image, pixel = (torch.arange(n, device=padded.device) for n in (len(padded), 32))
    rows = top + pixel  # (N, 32)
    columns = left + torch.where(flip == 1, pixel.flip(0), pixel)  # (N, 32)
    crops = padded[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, 32, 32, 3)
    return crops.permute(0, 3, 1, 2)


def small_resnet18(num_classes: int) -> nn.Module:
    """torchvision's ResNet-18 with a stem for small images: stride 1 and no pooling, so its first stage sees 32x32."""
    network = resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def resnet8(num_classes: int) -> nn.Module:
    """The same with three stages of one residual block each, and 16, 32 and 64 channels: a network for a CPU.

    Its convolutions start with PyTorch's default weights, which are smaller than torchvision's.
    """
    network = small_resnet18(num_classes)
    network.conv1, network.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
    network.layer1 = nn.Sequential(BasicBlock(16, 16))
    for layer, channels in (("layer2", 16), ("layer3", 32)):
        width = 2 * channels
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
        setattr(network, layer, nn.Sequential(BasicBlock(channels, width, stride=2, downsample=shortcut)))
    network.layer4 = nn.Sequential()
    network.fc = nn.Linear(64, num_classes)
    return network


NETWORKS = {"ResNet-18": small_resnet18, "ResNet-8": resnet8}
BATCH_SIZES = {"ResNet-18": 512, "ResNet-8": 128}


def insert_gates(network: nn.Module, gate: Callable[[int], nn.Module]) -> None:
    """The README's recipe for gates: at the end of each residual branch."""
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            block.bn2 = nn.Sequential(block.bn2, gate(block.bn2.num_features))


def insert_attention(network: nn.Module, attention: Callable[[int], nn.Module]) -> None:
    """The README's recipe for attention: after the third stage, here on maps of 8x8 positions."""
    channels = network.layer3[-1].bn2.num_features
    network.layer3 = nn.Sequential(network.layer3, attention(channels))


GATES = {
    "SE": SEAttention,
    "SE-scale2": partial(SEAttention, scale=2),
    "SE-Gradually": lambda channels: Gradually(SEAttention(channels)),
    "CBAM": CBAM,
    "CBAM-scale2": partial(CBAM, scale=2),
    "CBAM-Gradually": lambda channels: Gradually(CBAM(channels)),
    "ECA": ECAAttention,
    "ECA-scale2": partial(ECAAttention, scale=2),
    "ECA-Gradually": lambda channels: Gradually(ECAAttention(channels)),
    "Half": lambda channels: Constant(1 / 2),
}
ATTENTION = {"Self": SelfAttention, "Linear": LinearShortcut, "Multi-Head": MultiHeadAttention}
FROM_SCRATCH = ["none", "SE", "SE-scale2", "Self", "Linear", "Multi-Head", "CBAM-scale2", "CBAM"]
FROM_SCRATCH += ["ECA-scale2", "ECA", "Half"]
INSERTED = ["none", *(name for name in (*GATES, *ATTENTION) if name not in ("Half", "Linear"))]


def put_into(network: nn.Module, block: str) -> nn.Module:
    """Puts the block of that name into a network, where there is one of that name, and returns the network."""
    if block in GATES:
        insert_gates(network, GATES[block])
    elif block in ATTENTION:
        insert_attention(network, ATTENTION[block])
    return network


COLUMNS = ["network", "seed", *Epoch._fields]


def highest_lr(batch_size: int) -> float:
    return 0.4 * batch_size / 512


def train(
    network: nn.Module, data: Data, seed: int, epochs: range, options: argparse.Namespace, constant_lr: float = 0
) -> list[Epoch]:
    """Trains a network for these epochs and tests it after each.

    Args:
        network, data: on the same device, channels last.
        epochs: their numbers, which with `seed` determine the crops and their order.
        options: `batch_size` and `precision`.
        constant_lr: a learning rate in place of the cycle, which rises to `highest_lr` and ends at 0.
    """
    highest = highest_lr(options.batch_size)
    for backend in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):
        backend.fp32_precision = "tf32" if options.precision == "tf32" else "ieee"  # convolutions' default is TF32
    padded = F.pad(data.train_images, [PADDING] * 4)
    settings = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}
    optimizer = torch.optim.SGD(network.parameters(), constant_lr or highest, **settings)
    steps = len(epochs) * math.ceil(len(padded) / options.batch_size)
    cycle = None if constant_lr else OneCycleLR(optimizer, highest, steps, cycle_momentum=False)

    def step(*batch) -> tuple[Tensor, Tensor]:
        sums = train_step(*batch)
        if cycle:
            cycle.step()
        return sums

    history = []
    for epoch in epochs:
        start = time.perf_counter()
        set_seed(seed, epoch)
        how = options.batch_size, options.precision, f"Epoch [{epoch}/{epochs[-1]}]", step
        trained = train_epoch(network, optimizer, augment(padded), data.train_labels, *how)
        tested = evaluate(network, data.test_images, data.test_labels, options.precision)
        history.append(Epoch(epoch, *trained, *tested, time.perf_counter() - start))
    return history


def read(path: Path, columns: Iterable[str] = ("network", "seed")) -> list[dict[str, str]]:
    """A CSV's lines; none if it does not exist.

    Raises:
        UserError: it lacks these columns.
    """
    if not path.exists():
        return []
    lines = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    if not set(columns) <= set(lines.fieldnames or []):
        raise UserError(f"{path} is not a table of this program: use another --out", 2)
    return list(lines)


def append(path: Path, header: Iterable, lines: list[Iterable]) -> None:
    """Adds lines to a CSV, which is whole at any moment."""
    is_new = not path.exists()
    with replacing(path) as temporary:
        if not is_new:
            shutil.copyfile(path, temporary)
        with temporary.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *lines] if is_new else lines)


def parse() -> argparse.Namespace:
    parser = command_line.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, blocks = parser.add_argument, ["none", *GATES, *ATTENTION]
    minutes = command_line.number(float, 0, math.inf, "a number of at least 0")
    seed, count = command_line.non_negative_int, command_line.positive_int
    defaults = f"default: {' '.join(FROM_SCRATCH)}; with --insert: {' '.join(INSERTED)}"
    add("--insert", action="store_true", help="put the blocks into a trained network")
    add("--network", choices=NETWORKS, default="ResNet-18", help="default: ResNet-18")
    add("--blocks", nargs="+", choices=blocks, metavar="NAME", help=defaults)
    once = "every block is trained once per seed (default: 0)"
    add("--seeds", nargs="+", type=seed, default=[0], metavar="SEED", help=once)
    add("--minutes", type=minutes, default=math.inf, help="time limit for this command, in minutes (default: none)")
    add("--epochs", type=count, default=16, help="epochs from scratch (default: 16)")
    add("--batch-size", type=count, help="default: 512, of a ResNet-8 128")
    add("--precision", choices=["bf16", "fp32"], default="bf16", help="default: bf16, by autocast")
    add("--device", type=command_line.find_device, default="auto", help="as for the scripts (default: auto)")
    add("--data", default="data", help="as for the scripts (default: data)")
    add("--out", type=command_line.writable_folder, default="runs", help="the folder for the CSVs (default: runs)")
    options = parser.parse_args()
    options.batch_size = options.batch_size or BATCH_SIZES[options.network]
    options.blocks = options.blocks or (INSERTED if options.insert else FROM_SCRATCH)
    return options


def main() -> None:
    began, longest, trained = time.monotonic(), 0.0, {}
    options = parse()
    task = f"{options.network}-inserted" if options.insert else options.network
    table, table_of_facts = options.out / f"{task}.csv", options.out / f"{task}-facts.csv"
    with plain_errors(options), holding(options.out, task):
        data = load_data(options.data)
        same = {"checksum": checksum(data)}  # in all runs of a table
        same |= {key: str(getattr(options, key)) for key in ("epochs", "batch_size", "precision")}
        for facts in read(table_of_facts):
            for key in differences(facts, same, same):
                other = f"has {key} {facts.get(key)}, not {same[key]}"
                raise UserError(f"{table} {other}: use the same value or another --out", 2)
        last_epoch = "1" if options.insert else str(options.epochs)
        done = {(line["network"], line["seed"]) for line in read(table, COLUMNS) if line["epoch"] == last_epoch}

        torch.backends.cudnn.benchmark = not options.insert  # measures once for each shape which kernels are fastest
        torch.backends.cudnn.deterministic = options.insert  # after a resume, the trained network is the same again
        data = Data(data.name, data.classes, *data.on(options.device, torch.channels_last))
        to_device = {"device": options.device, "memory_format": torch.channels_last}
        epochs, further = range(1, options.epochs + 1), range(options.epochs + 1, options.epochs + 2)
        for seed, name in itertools.product(options.seeds, options.blocks):
            start = time.monotonic()
            if (name, str(seed)) in done:
                continue
            if start + longest - began >= 60 * options.minutes:
                print(f"Stopped before {name}, seed {seed}, for lack of time. Run the same command again to resume.")
                return
            set_seed(seed, epoch=0)
            if options.insert:
                if seed not in trained:
                    trained = {seed: NETWORKS[options.network](len(data.classes)).to(**to_device)}
                    train(trained[seed], data, seed, epochs, options)
                    set_seed(seed, epoch=0)
                network = put_into(copy.deepcopy(trained[seed]), name).to(**to_device)
                immediately = evaluate(network, data.test_images, data.test_labels, options.precision)
                [after] = train(network, data, seed, further, options, constant_lr=0.01)
                history = [Epoch(0, math.nan, math.nan, *immediately, 0.0), after._replace(epoch=1)]
            else:
                network = put_into(NETWORKS[options.network](len(data.classes)), name).to(**to_device)
                history = train(network, data, seed, epochs, options)
            on_gpu = options.device.type == "cuda"
            facts = {"network": name, "seed": seed, "parameters": count_parameters(network), "data": data.name, **same}
            facts["device"] = torch.cuda.get_device_name(options.device) if on_gpu else options.device.type
            facts |= {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
            known = {(line["network"], line["seed"]) for line in read(table_of_facts)}
            if (name, str(seed)) not in known:  # after a kill between the two files
                append(table_of_facts, facts, [facts.values()])
            append(table, COLUMNS, [(name, seed, *(round(value, 6) for value in epoch)) for epoch in history])
            done.add((name, str(seed)))
            *_, accuracy, seconds = history[-1]
            print(f"seed {seed}, {name}: {accuracy:.2f}%, the last epoch in {seconds:.2f} seconds", flush=True)
            longest = max(longest, time.monotonic() - start)
    print(f"Done: {table} and {table_of_facts}")


if __name__ == "__main__":
    main()
