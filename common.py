"""Code shared by the seven scripts: the data, the backbone (trunk), training and testing, and a complete run.

A script defines its attention block and a function `build(num_classes, block)` that puts the block on the trunk, and
calls `run(build)`. Supporting code (files, flags, pictures) is in `support/`.
"""

import os
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.data.dataset import Data, normalize
from support.data.image_tree import read_tree, refuse_foreign_folder
from support.data.shapes import draw_shapes
from support.errors import UserError, plain_errors, quiet_exit
from support.files import holding
from support.run import command_line
from support.run.cuda_graph import GraphedStep
from support.run.device import memory_order, tuned
from support.run.facts import missing_control
from support.run.record import Epoch, Record
from support.terminal import bar

# ---- data ----------------------------------------------------------------------------------------------


def load_data(source: str) -> Data:
    """The dataset that `--data` names, images (N, 3, 32, 32) uint8 and labels (N,), to train and to test.

    Args:
        source: `shapes`; or a folder with an image tree in it, `train/<class>/*` and `test/<class>/*`; or a
            folder that holds CIFAR-10, or will receive the download.

    Raises:
        UserError: the folder is not usable, a picture cannot be read, or CIFAR-10 cannot be obtained.
    """
    if source == "shapes":
        return draw_shapes()
    folder = Path(source)
    # os.path.isdir raises nothing, whatever is typed; the default folder alone is created if it is missing
    if not os.path.isdir(source) and source != command_line.DATA_FOLDER:
        raise UserError(f"--data {source}: folder not found; give one with images or CIFAR-10, or --data shapes", 2)
    try:
        if (folder / "train").is_dir() or (folder / "test").is_dir():
            return read_tree(folder)
        refuse_foreign_folder(folder)
        return read_cifar10(folder)
    except (PermissionError, NotADirectoryError) as error:
        raise UserError(f"--data {source}: cannot use {error.filename} ({error.strerror})", 2) from error
    except OSError as error:  # a full disk, say
        raise UserError(f"--data {source}: {error}; fix the problem, then start again") from error


def read_cifar10(folder: Path) -> Data:
    """CIFAR-10 from a folder that has it, extracted or as an archive; otherwise it is downloaded into the folder.

    The files are pickles, which can run code when opened: torchvision opens none whose checksum is wrong.
    """
    # here, not above, since torchvision takes two seconds to import, which other data need not wait for
    from torchvision.datasets import CIFAR10

    from support.data.download import download

    try:
        train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)
    except RuntimeError:  # torchvision's answer to files that are missing or have a wrong checksum
        download(folder)
        train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)
    # (N, 32, 32, 3) in memory, seen as (N, 3, 32, 32): channels last
    images = [torch.from_numpy(split.data.copy("C")).permute(0, 3, 1, 2) for split in (train, test)]
    labels = [torch.tensor(split.targets) for split in (train, test)]
    return Data("CIFAR-10", train.classes, images[0], labels[0], images[1], labels[1])


# ---- the trunk -----------------------------------------------------------------------------------------


class CNN(nn.Module):
    """Stages of 3x3 convolution, 2x2 max-pool and ReLU, then two fully connected layers.

    Args:
        widths: channels of each stage. There are one to five stages, since each halves the 32x32 map.
        hidden: units of the first fully connected layer.
        dropout: probability with which each of these units is set to 0 in training, in [0, 1).
        attention: called with a channel count for a block that maps (N, C, H, W) to the same; one such block
            comes after every stage but the first.
        stem: likewise, for one block before the first stage; called with 3.
        num_classes: K.

    Shape: images (N, 3, 32, 32), scaled to [-1, 1], to logits (N, K).

    Raises:
        ValueError: an argument is outside these bounds.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64),
        hidden: int = 128,
        dropout: float = 0.5,
        attention: Callable[[int], nn.Module] | None = None,
        stem: Callable[[int], nn.Module] | None = None,
        num_classes: int = 10,
    ):
        super().__init__()
        if not 1 <= len(widths) <= 5 or min(widths) < 1:
            raise ValueError(f"widths ({' '.join(map(str, widths))}) must be one to five positive numbers")
        if hidden < 1 or not 0 <= dropout < 1:
            raise ValueError(f"hidden ({hidden}) must be positive and dropout ({dropout}) in [0, 1)")
        layers = [stem(3)] if stem else []
        channels = 3
        for stage, width in enumerate(widths):
            # ReLU after the pool gives the same values as before it, on a quarter of the elements
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            if attention and stage > 0:
                layers.append(attention(width))
            channels = width
        self.features = nn.Sequential(*layers)
        side = 32 // 2 ** len(widths)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


# ---- train and test ------------------------------------------------------------------------------------


def set_seed(seed: int, epoch: int) -> None:
    """Seeds the weights (epoch 0), or an epoch's order of images and dropout.

    Every epoch starts from its own seed, so a resumed run needs no stored random state, and all scripts see
    the images of a seed in the same order.
    """
    torch.manual_seed(zlib.crc32(f"{seed} {epoch}".encode()))


def means(sums: Sequence[tuple[Tensor, Tensor]], count: int) -> tuple[float, float]:
    """Mean loss, and accuracy in percent, of `count` images from each batch's sum of losses and number right.

    This is the only point in a pass that waits for the device.
    """
    losses, right = (torch.stack(batches).cpu() for batches in zip(*sums, strict=True))
    return losses.double().sum().item() / count, 100 * right.sum().item() / count


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, precision: str = "fp32"
) -> tuple[Tensor, Tensor]:
    """One step on a batch of images (B, 3, 32, 32) uint8. Returns the sum of their losses and how many were right."""
    optimizer.zero_grad()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = model(normalize(images))
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    return loss.detach() * len(images), (logits.argmax(dim=1) == labels).sum()


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    precision: str = "fp32",
    progress: str | None = None,
    step: Callable[..., tuple[Tensor, Tensor]] = train_step,
) -> tuple[float, float]:
    """One pass over images (N, 3, 32, 32) uint8 in random order.

    Returns the mean loss and the accuracy in percent, both measured while the weights change. `progress` is the label
    of the progress bar; None for no bar. `step` trains on a batch, as `train_step` does.
    """
    model.train()
    order = torch.randperm(len(images)).to(images.device)
    with bar(order.split(batch_size), progress) as batches:
        sums = [step(model, optimizer, images[batch], labels[batch], precision) for batch in batches]
    return means(sums, len(images))


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, precision: str = "fp32") -> tuple[float, float]:
    """Mean loss, and accuracy in percent, over images (N, 3, 32, 32) uint8."""
    model.eval()
    sums = []
    # on a CPU larger batches are hardly faster, and would make the heap that `fast_cpu` keeps grow
    batch_size = 64 if images.device.type == "cpu" else 1000
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(normalize(x))
        sums.append((F.cross_entropy(logits.float(), y, reduction="sum"), (logits.argmax(dim=1) == y).sum()))
    return means(sums, len(images))


# ---- a run ---------------------------------------------------------------------------------------------


@quiet_exit()
def run(
    build: Callable[..., nn.Module],
    control: str | None = None,
    name: str | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Runs a script: reads its command line, trains its model, records every epoch, draws what it attends to.

    Args:
        build: called with `num_classes`; for the control also with `block=None`, for the network without its block.
        control: the name of the control's run, which is drawn beside this one; scripts with the same network share it.
        name: of the run and its files; by default the script's.
        argv: the command line's words; by default what was typed. In a notebook's cell give `name` and `argv`.
    """
    options = command_line.parse(build, control, name, argv)
    with plain_errors(options), holding(options.out, options.name):
        # here, since --help need not wait for matplotlib; before training, so that a missing package shows now
        from support.pictures import attention_picture
        from support.pictures.attention import find_blocks
        from support.pictures.comparison import draw_curves
        from support.pictures.photo import ask_photos

        network = partial(build, block=None) if options.control else build
        if options.photo:
            return ask_photos(options, network)
        data = load_data(options.data)
        set_seed(options.seed, epoch=0)
        model = network(num_classes=len(data.classes)).to(options.device)
        layout = memory_order(options.device, options.precision)
        nn.utils.convert_conv2d_weight_memory_format(model, layout)  # model.to(memory_format=) refuses 5-d parameters
        optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
        graph = options.device.type == "cuda" and not options.no_graph
        step = GraphedStep(train_step) if graph else train_step

        tuning = tuned(model, options.device, options.precision)
        with tuning, Record(options, data, model, optimizer, build) as record:
            print(
                f"{options.name}: {record.facts['parameters']:,} parameters on {options.device} in {options.precision}"
                f"; {data.name}: {len(data.train_labels):,} images to train, {len(data.test_labels):,} to test",
                flush=True,
            )
            for what_does_not_fit in find_blocks(model, data.test_images)[1]:
                print(what_does_not_fit, flush=True)
            tensors = data.on(options.device, layout)
            train, test = tensors[:2], tensors[2:]
            next_drawing = 0.0
            try:
                for epoch in record.epochs_to_train():
                    start = time.perf_counter()
                    set_seed(options.seed, epoch)
                    bar_name = f"Epoch [{epoch}/{record.epochs}]"
                    trained = train_epoch(
                        model, optimizer, *train, options.batch_size, options.precision, bar_name, step
                    )
                    tested = evaluate(model, *test, options.precision)
                    record.add(Epoch(epoch, *trained, *tested, time.perf_counter() - start))
                    if time.monotonic() > next_drawing and epoch < record.epochs:
                        next_drawing = draw_curves(record)
            finally:  # also after Ctrl-C
                draw_curves(record)
            attention = attention_picture.draw(record)
        pictures = record.csv.with_suffix(".png"), options.comparison, attention
        print("Done:", ", ".join(map(str, filter(None, pictures))))
        if missing := missing_control(record.facts, options, record.epochs):
            print(missing)
