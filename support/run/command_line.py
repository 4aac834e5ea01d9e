"""The flags, and their checks before any work starts."""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from support import terminal
from support.run.facts import read_facts

PRECISIONS = ["fp32", "bf16", "tf32"]
DATA_FOLDER = "data"  # where CIFAR-10 is downloaded to, unless another is given


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


positive_int = number(int, 1, 10**9, "an integer of at least 1")
non_negative_int = number(int, 0, 2**63, "an integer of at least 0")
positive_float = number(float, sys.float_info.min, sys.float_info.max, "a number above 0")


def find_device(name: str) -> torch.device:
    """An argparse type: the device of that name, if it is there and can compute."""
    typed = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except Exception as error:  # each backend has its own way to say no
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        which = f"{name!r}, which auto has found," if typed == "auto" else repr(name)
        raise argparse.ArgumentTypeError(f"{which} cannot compute here ({reason}): give --device cpu") from error
    return device


def writable_folder(name: str | Path) -> Path:
    """An argparse type: the folder of that name, made if need be, after checking that it is writable."""
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
    """Ends the program where the device does not compute in TF32, and that was typed."""
    if options.precision != "tf32":
        return
    on_gpu = options.device.type == "cuda" and not torch.version.hip
    if not on_gpu or torch.cuda.get_device_capability(options.device) < (8, 0):
        needs = "needs an NVIDIA GPU of the Ampere generation or newer"
        parser.error(f"--precision tf32 {needs}, and the device is {options.device}: give fp32 or bf16")


def make_parser(script: Path, add_flags: Callable[[argparse.ArgumentParser], None]) -> Parser:
    of_model = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add_flags(of_model)
    parser = Parser(
        prog=script.name,
        description=f"Trains {script.stem}. Leaves plots, a CSV, a JSON and a checkpoint in the folder --out.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        parents=[of_model],
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--epochs", type=positive_int, default=100, help="passes over the training images")
    add("--batch-size", type=positive_int, default=64, help="images in a training step")
    add("--lr", type=positive_float, default=0.001, help="Adam's learning rate")
    add("--seed", type=non_negative_int, default=0, help="same seed, machine and number of threads, same result")
    add("--device", type=find_device, default="auto", help="auto: CUDA, else MPS, else CPU; or a torch device")
    add(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="bf16: autocast; tf32: fp32 in TF32, on NVIDIA GPUs since Ampere",
    )
    add(
        "--data",
        default=DATA_FOLDER,
        help="a folder with CIFAR-10, or to download it into; or an image tree, train/<class>/* and "
        "test/<class>/*; or the word shapes, for images that the program draws",
    )
    add("--out", type=writable_folder, default="plots", help="output folder")
    add("--look", action="store_true", help="redraw a trained run's pictures without training")
    add("--resume", action="store_true", help="continue an interrupted run")
    return parser


def typed_model_flags(add_flags: Callable[[argparse.ArgumentParser], None]) -> dict:
    """Those of the flags that were typed, in the order in which they are added, so that a run has one name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    values = vars(parser.parse_known_args()[0])
    return {flag: value for flag, value in values.items() if value is not None}


def run_name(script: Path, model_flags: dict, data: str) -> str:
    """The name of a run's files: the script's, each flag that changes the network, and the drawn shapes."""
    name = script.stem
    for flag, value in model_flags.items():
        if isinstance(value, list):
            name += "".join(f"-{number}" for number in value)
        elif isinstance(value, str):
            name += f"-{value}"
        else:
            name += f"-{flag}{value:g}" if isinstance(value, float) else f"-{flag}{value}"
    return name + suffix(data)


def suffix(data: str) -> str:
    """What the names of runs on the drawn shapes end in, so that trying a script never replaces a result."""
    return "-shapes" if data == "shapes" else ""


def refuse_others_files(parser: Parser, options: argparse.Namespace) -> None:
    """Ends the program where a file of the run would be one of another script's run, or all runs' comparison.

    In any letter case, since on macOS and Windows `a.png` is `A.png`.
    """
    for name in (options.script.stem.casefold(), options.name.casefold()):
        if name in ("comparison", "comparison-shapes") or name.endswith(".attention"):
            parser.error(f"{options.name} would overwrite another run's pictures: give the script another name")
    facts = options.out / f"{options.name}.json"
    if (owner := read_facts(facts).get("script", options.script.stem)) != options.script.stem:
        parser.error(f"{facts} is of a run of {owner}: give this script another name, or another --out")


def parse(
    build: Callable[..., torch.nn.Module], add_flags: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace:
    """What the user typed, with three fields more: `script`, its file; `name`, the run's; and `model_flags`, those of
    `add_flags` that were typed. Ends the program with status 2 where something typed cannot be."""
    terminal.prepare_streams()
    script = Path(sys.argv[0])
    parser = make_parser(script, add_flags)
    options = parser.parse_args()
    refuse_tf32(parser, options)
    options.model_flags = typed_model_flags(add_flags)
    options.script = script
    options.name = run_name(script, options.model_flags, options.data)
    if options.model_flags:
        try:
            with torch.device("meta"):  # whose tensors take no memory
                build(num_classes=2, **options.model_flags)
        except ValueError as error:
            parser.error(str(error))
    refuse_others_files(parser, options)
    if options.look and not (checkpoint := options.out / f"{options.name}.pt").exists():
        parser.error(f"{checkpoint}, written after each epoch, is not there to look at: train first, without --look")
    return options
