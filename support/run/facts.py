"""A run's facts: what was trained, on which images, how and on what machine; `<run>.json` keeps them."""

import argparse
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from support.data.dataset import Data, checksum
from support.errors import quote
from support.files import replacing

DATA = ("data", "checksum")
TRAINING = ("seed", "batch_size", "lr", "precision")
ALIKE = (*DATA, *TRAINING)  # of a run and its control, so that they differ by the block alone


def gather(options: argparse.Namespace, data: Data, model: nn.Module, control: str | None) -> dict:
    """The facts of a run that starts now, on this machine; `control` is the name of another run."""
    on_gpu = options.device.type == "cuda"
    return {
        "script": options.script.stem,
        **options.model_flags,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": data.name,
        "checksum": checksum(data),
        "control": control,
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
    """The processor's name, or else its kind, as far as the system tells."""
    name = None
    try:
        if sys.platform == "linux":
            name = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
            name = name and name[1]
        elif sys.platform == "darwin":
            sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(sysctl, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return name or platform.processor() or platform.machine() or None


def differences(facts: dict, others: dict, keys: Iterable[str]) -> list[str]:
    """Those of the keys in which two runs differ; what only one of them knows differs, too."""
    return [key for key in keys if facts.get(key) != others.get(key)]


def why_no_control(folder: Path, facts: dict, options: argparse.Namespace) -> str | None:
    """Why the control in a run's folder is not drawn beside it, and what to type for one that is."""
    control = read_facts(folder / f"{facts['control']}.json")
    if "parameters" not in control or not (different := differences(control, facts, ALIKE)):
        return None
    model_flags = {name: control[name] for name in list(control)[1 : list(control).index("parameters")]}
    same = {name.replace("_", "-"): facts[name] for name in TRAINING}
    typed = model_flags | {"epochs": options.epochs} | same | {"data": options.data, "out": options.out}
    command = ["python", f"{control.get('script')}.py"]
    for name, value in typed.items():
        command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    others = ", ".join(f"{key} {control.get(key)}, not {facts[key]}" for key in different)
    return f"Drawn without its control {facts['control']}, which has {others}. To match: {quote(command)}"


def from_checkpoint(saved: dict, now: dict) -> dict:
    """The facts in a checkpoint, in the order of those of now; null is what it does not know.

    One from before there were facts has settings, which lack the machine; its parameters and control are those of
    now, which follow from its network.
    """
    known = saved.get("facts")
    if known is None:
        data, _, sum_ = saved["settings"]["data"].removesuffix(")").rpartition(" (")
        network = {key: now[key] for key in ("parameters", "control")}
        known = {**network, **saved["settings"], "data": data, "checksum": sum_}
    return {key: known.get(key) for key in now}


def write_facts(path: Path, facts: dict) -> None:
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, default=str)}" for key, value in facts.items()
    ]
    with replacing(path) as temporary:
        # a file's name need not be UTF-8; what is not is written as JSON writes it, too
        temporary.write_bytes("\n".join(["{", ",\n".join(lines), "}", ""]).encode("utf-8", "backslashreplace"))


def read_facts(path: Path) -> dict:
    """The facts in a JSON; none where the file is missing or of another kind."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
