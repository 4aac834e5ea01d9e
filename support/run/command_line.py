"""The flags, and their checks before any work starts."""

import argparse
import inspect
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from support import terminal
from support.errors import finish, in_cell

PRECISIONS = ["fp32", "bf16", "tf32"]
DATA_FOLDER = "data"  # where CIFAR-10 is downloaded to by default


def number(kind: type, low: float, high: float, meaning: str) -> Callable[[str], float]:
    """An argparse type: a number of a kind from low to high; others are refused as not being `meaning`."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
        return value

    return convert


positive_int = number(int, 1, 10**9, "an integer of at least 1")
non_negative_int = number(int, 0, 2**63, "an integer of at least 0")
positive_float = number(float, sys.float_info.min, sys.float_info.max, "a number above 0")


def find_device(name: str) -> torch.device:
    """An argparse type: the device of that name, if it is usable."""
    typed = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except Exception as error:  # each backend has its own way to say no
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        which = f"--device auto chose {name!r}, which" if typed == "auto" else repr(name)
        raise argparse.ArgumentTypeError(f"{which} is not usable ({reason}); use --device cpu") from error
    return device


def writable_folder(name: str | Path) -> Path:
    """An argparse type: the folder of that name, created if it is missing, after checking that it is writable."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write in the folder {str(name)!r} ({error.strerror})") from error
    return folder


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (--help shows every flag)\n")


def refuse_tf32(parser: Parser, options: argparse.Namespace) -> None:
    """Ends the program if TF32 was typed and the device does not support it."""
    if options.precision != "tf32":
        return
    on_gpu = options.device.type == "cuda" and not torch.version.hip
    if not on_gpu or torch.cuda.get_device_capability(options.device) < (8, 0):
        needs = "needs an NVIDIA GPU of the Ampere generation or newer"
        parser.error(f"--precision tf32 {needs}, but the device is {options.device}; use fp32 or bf16")


def make_parser(name: str) -> Parser:
    description = (sys.modules["__main__"].__doc__ or f"Trains {name}.").partition("\n")[0]
    parser = Parser(
        prog=name if in_cell() else Path(sys.argv[0]).name,
        description=f"{description} Writes plots, a CSV file, the run's facts and a checkpoint to the --out folder.",
        allow_abbrev=False,
    )

    def value(flag: str, meaning: str, **kind) -> None:
        parser.add_argument(flag, help=f"{meaning} (default: %(default)s)", **kind)

    def switch(flag: str, meaning: str, **kind) -> None:
        parser.add_argument(flag, help=meaning, action="store_true", **kind)

    value("--epochs", "passes over the training images", type=positive_int, default=100)
    value("--batch-size", "images in a training step", type=positive_int, default=64)
    value("--lr", "Adam's learning rate", type=positive_float, default=0.001)
    seed = "random seed; with the same seed, machine and number of threads, results repeat"
    value("--seed", seed, type=non_negative_int, default=0)
    value("--device", "auto: CUDA, else MPS, else CPU; or a torch device", type=find_device, default="auto")
    precision = "bf16: autocast; tf32: fp32 with TF32 products (NVIDIA Ampere or newer)"
    value("--precision", precision, choices=PRECISIONS, default="fp32")
    folders = "a folder with CIFAR-10 or to download it into, a folder with train/<class>/* and test/<class>/*"
    value("--data", f"{folders}, or the word shapes for images that the program draws", default=DATA_FOLDER)
    value("--out", "output folder", type=writable_folder, default="plots")
    switch("--control", "train the same network without the block; scripts with this network share its name")
    switch("--resume", "continue an interrupted run")
    switch("--look", "redraw a trained run's pictures without training")
    photo = "ask a trained run what up to eight photos show"
    parser.add_argument("--photo", help=photo, type=Path, nargs="+", metavar="FILE", default=[])
    switch("--no-graph", "on an NVIDIA GPU, train without a CUDA graph")
    return parser


def suffix(data: str) -> str:
    """What the names of runs on the drawn shapes end in, so that trying a script never replaces a result."""
    return "-shapes" if data == "shapes" else ""


def takes_block(build: Callable[..., torch.nn.Module]) -> bool:
    return "block" in inspect.signature(build).parameters


def parse(
    build: Callable[..., torch.nn.Module], control: str | None, name: str | None, argv: Sequence[str] | None
) -> argparse.Namespace:
    """What the user typed, with further fields. Ends the program with status 2 if something typed is not valid.

    These are `typed`, the words; `program`, what came before them, or `call` in a notebook's cell; `run`, what is
    trained; `name` and `control_name`, the names of its files and of the control's, if any; `comparison`, the
    picture of all runs in its folder; `script`, a file, if any.
    """
    terminal.prepare_streams()
    if in_cell() and (name is None or argv is None):
        finish('in a notebook, give a name and the flags: run(build, name="Mine", argv=["--data", "shapes"])', 2)
    script = None if name else Path(sys.argv[0])
    name = name or script.stem
    parser = make_parser(name)
    options = parser.parse_args(argv if argv is None else [str(word) for word in argv])
    refuse_tf32(parser, options)
    if options.control and not control:
        parser.error("--control: this script names no control")
    if options.control and not takes_block(build):
        parser.error("--control needs build(num_classes, block=...), whose block=None gives the control")
    options.typed = sys.argv[1:] if argv is None else [str(word) for word in argv]
    options.program = sys.argv[: max(1, len(sys.argv) - len(options.typed))]
    options.call = f"run({getattr(build, '__name__', 'build')}, control={control!r}, name={name!r}, argv={{}})"
    options.script = None if options.control else script
    options.run = control if options.control else name
    options.name = options.run + suffix(options.data)
    options.control_name = control + suffix(options.data) if control else None
    options.comparison = options.out / f"comparison{suffix(options.data)}.png"
    lower = options.name.casefold()  # on macOS and Windows `a.png` is `A.png`
    if lower in ("comparison", "comparison-shapes") or lower.endswith((".attention", ".photo")):
        parser.error(f"{options.name} would overwrite another run's pictures: give the script another name")
    for flag, given in (("--look", options.look), ("--photo", options.photo)):
        if given and not (checkpoint := options.out / f"{options.name}.pt").exists():
            parser.error(f"no checkpoint {checkpoint}: train first, without {flag}")
    if len(options.photo) > 8:
        parser.error(f"--photo takes up to eight files, not {len(options.photo)}")
    for file in options.photo:
        if not os.path.isfile(file):  # which raises nothing, whatever is typed
            reason = "is a folder: give files" if os.path.isdir(file) else "file not found"
            parser.error(f"--photo {file}: {reason}")
    return options
