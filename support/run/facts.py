"""A run's facts: what was trained, on which images, how and on what machine; `<run>.json` keeps them."""

import argparse
import json
import platform
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from support.data.dataset import Data, checksum
from support.errors import again, command
from support.files import replacing
from support.run.command_line import takes_block

DATA = ("checksum",)  # whatever the folder is called
TRAINING = ("seed", "batch_size", "lr", "precision")
ALIKE = (*DATA, *TRAINING)  # of a run and its control, so that they differ by the block alone


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def gather(options: argparse.Namespace, data: Data, model: nn.Module, build: Callable[..., nn.Module]) -> dict:
    """The facts of a run that starts now, on this machine; `build` gives its control's number of parameters."""
    on_gpu = options.device.type == "cuda"
    has_control = options.control_name and not options.control
    reference = build(num_classes=len(data.classes), block=None) if has_control and takes_block(build) else None
    return {
        "script": options.run,
        "script_checksum": options.script and f"{zlib.crc32(options.script.read_bytes()):08x}",
        "parameters": count_parameters(model),
        "classes": data.classes,
        "data": data.name,
        "checksum": checksum(data),
        "control": options.control_name if has_control else None,
        "control_parameters": reference and count_parameters(reference),
        "seed": options.seed,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "precision": options.precision,
        "device": torch.cuda.get_device_name(options.device) if on_gpu else options.device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def processor() -> str | None:
    """The processor's name, or else its kind; None if the system gives neither."""
    with suppress(OSError, subprocess.CalledProcessError, TypeError):  # the last: no name in cpuinfo, as on many ARMs
        if sys.platform == "linux":
            return re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]
        if sys.platform == "darwin":
            sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(sysctl, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine() or None


def differences(facts: dict, others: dict, keys: Iterable[str]) -> list[str]:
    """Those of the keys in which two runs differ; a key that only one of them has counts, too."""
    return [key for key in keys if facts.get(key) != others.get(key)]


def is_control(control: dict, facts: dict) -> bool:
    """Whether a run with the first facts is the control of one with the second: the same but for the block."""
    parameters = facts.get("control_parameters") or control.get("parameters")  # None: not known
    return not differences(control, facts, ALIKE) and control.get("parameters") == parameters


def train_control(facts: dict, options: argparse.Namespace, epochs: int) -> str:
    """What to type for a control that is trained as the run was."""
    flags = {"epochs": epochs, **{key: facts[key] for key in TRAINING}, "data": options.data, "out": options.out}
    words = [word for key, value in flags.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return command(options, "--control", *words)


def why_no_control(facts: dict, options: argparse.Namespace, epochs: int) -> str | None:
    """Why the control in a run's folder is not drawn beside it, and what to do about it."""
    control, name = read_facts(options.out / f"{facts['control']}.json"), facts["control"]
    if "parameters" not in control or is_control(control, facts):
        return None
    if different := differences(control, facts, ALIKE):
        others = ", ".join(f"{key} {control.get(key)}, not {facts[key]}" for key in different)
        to_match = train_control(facts, options, epochs)
        return f"Control {name} is not shown because it was trained with {others}. To train a matching one: {to_match}"
    of_other = other_network(options.out / f"{name}.json", control, facts["control_parameters"])
    return f"Control {name} is not shown: {of_other}"


def other_network(path: Path, control: dict, parameters: int) -> str:
    count = f"{path} has {control['parameters']:,} parameters, this script's network without its block {parameters:,}"
    return f"{count}: give the control another name in the script's call of run"


def missing_control(facts: dict, options: argparse.Namespace, epochs: int) -> str | None:
    """What to type for a control where a run's folder has none."""
    if not facts["control"] or read_facts(options.out / f"{facts['control']}.json"):
        return None
    train = train_control(facts, options, epochs) if options.look else again(options, "--control")
    draw = again(options, "--look")
    return f"To train its control, the same network without the block: {train}; then, to draw both in one plot: {draw}"


def write_facts(path: Path, facts: dict) -> None:
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in facts.items()
    ]
    with replacing(path) as temporary:
        # a file's name need not be UTF-8; what is not is written as JSON writes it, too
        temporary.write_bytes("\n".join(["{", ",\n".join(lines), "}", ""]).encode("utf-8", "backslashreplace"))


def read_facts(path: Path) -> dict:
    """The facts in a JSON; none if the file is missing or of another kind."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
