"""Trains networks with several seeds in parallel. Run the same command again to resume.

    python benchmarks/sweep.py                                                  all nine networks, seed 0
    python benchmarks/sweep.py --networks CNN-32-64-128 SE-Attention --seeds 0 1 2 --epochs 30

Starts each script as a user would, with `--resume`, in a folder for each seed, `<out>/seed<k>`, where its output goes
to `<run>.log`. Complete runs are skipped; those of other images or settings are refused. All GPUs are used.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from networks import NETWORKS, ROOT, arguments
from variants import VARIANTS

from common import load_data
from support.data.dataset import Data, checksum
from support.errors import UserError, finish
from support.run import command_line
from support.run.facts import differences, read_facts
from support.run.record import Epoch, read_csv

BATCH_SIZE, LR = 64, 0.001  # the scripts' own defaults


class Run(NamedTuple):
    csv: Path
    seed: int
    typed: list[str]  # after `python`, before the flags
    parameters: int | None = None  # of its network, where they are known

    def __str__(self) -> str:
        return f"{self.csv.stem}, seed {self.seed}"

    def history(self, epochs: int) -> list[Epoch]:
        return read_csv(self.csv)[:epochs]


def csv_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    return options.out / f"seed{seed}" / f"{name}{command_line.suffix(options.data)}.csv"


def parse(parser: command_line.Parser) -> argparse.Namespace:
    """Adds flags to a parser that has `--seeds` and `--batch-size`, and checks what was typed."""
    add = parser.add_argument
    add("--epochs", type=command_line.positive_int, default=100, help="epochs of each run (default: 100)")
    add("--lr", type=command_line.positive_float, help=f"learning rate (default: {LR})")
    add("--data", default=command_line.DATA_FOLDER, help="a folder or shapes, as for the scripts (default: data)")
    add("--device", type=command_line.find_device, default="auto", help="as for the scripts (default: auto)")
    add("--precision", choices=command_line.PRECISIONS, default="fp32", help="as for the scripts (default: fp32)")
    jobs = "number of parallel runs, per GPU if there are several (default: on a CPU one per core, else 1)"
    add("--jobs", type=command_line.positive_int, help=jobs)
    add("--out", type=command_line.writable_folder, default="runs", help="output folder (default: runs)")
    options = parser.parse_args()
    command_line.refuse_tf32(parser, options)
    options.same = ["batch_size", "lr", "precision"]
    options.jobs = options.jobs or (cores() if options.device.type == "cpu" else 1)
    return options


def cores() -> int:
    """Those that this process may use; a batch system may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def refuse_other_runs(runs: list[Run], data: Data, options: argparse.Namespace) -> None:
    """Compares the facts of the runs that are there with what is asked for.

    Raises:
        UserError: a run was trained on other images or in another way.
    """
    asked = {"checksum": checksum(data)} | {key: getattr(options, key) for key in options.same}
    for run in runs:
        facts, now = read_facts(run.csv.with_suffix(".json")), asked | {"seed": run.seed}
        now |= {"parameters": run.parameters} if run.parameters else {}
        for key in differences(facts, now, now) if facts or run.csv.exists() else []:
            other = f"has {key} {facts.get(key)}, not {now[key]}"
            raise UserError(f"{run.csv} {other}: use the same value or another --out", 2)


def start(run: Run, device: str, threads: int, options: argparse.Namespace) -> subprocess.Popen:
    flags = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr", "data", "precision")}
    flags |= {"device": device, "seed": run.seed, "out": run.csv.parent}
    typed = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ | {"PYTHONIOENCODING": "utf-8"}
    modules = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(modules)  # so that a script in another folder finds `common`
    with run.csv.with_suffix(".log").open("a", encoding="utf-8") as log:
        command = [sys.executable, *run.typed, *typed, "--resume"]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def why_it_failed(run: Run, status: int, jobs: int) -> str:
    """The last line that the run wrote; after it was killed, that is no error."""
    if not 0 <= status < 256:  # outside are POSIX signals and Windows exceptions
        advice = "use fewer --jobs" if jobs > 1 else "try a smaller --batch-size"
        return f"killed (exit status {status}): if memory ran out, {advice}"
    log = run.csv.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    return log.strip().rpartition("\n")[2] or f"exit status {status}"


def train(runs: list[Run], options: argparse.Namespace) -> dict[Path, str]:
    """Trains the runs that are not complete, `--jobs` at a time on each GPU or else on the CPU.

    Returns:
        The CSVs of those that failed, and why.
    """
    for run in runs:
        run.csv.parent.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if len(run.history(options.epochs)) < options.epochs]
    running, failed = {}, {}
    all_gpus = str(options.device) == "cuda"
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if all_gpus else [str(options.device)]
    free = devices * options.jobs
    threads = max(1, cores() // len(free))
    if waiting:
        print(f"{len(waiting)} of {len(runs)} runs to train, {len(free)} at a time", flush=True)
    try:
        while waiting or running:
            while waiting and free:
                run, device = waiting.pop(0), free.pop(0)
                running[start(run, device, threads, options)] = run, device
            time.sleep(0.5)
            for process in [process for process in running if process.poll() is not None]:
                run, device = running.pop(process)
                free.append(device)
                if len(run.history(options.epochs)) < options.epochs:
                    failed[run.csv] = why_it_failed(run, process.returncode, options.jobs)
                left = f"{len(waiting) + len(running)} of {len(runs)} to go"
                print(f"{run}: {'failed' if run.csv in failed else 'done'}, {left}", flush=True)
    finally:
        for process in running:
            process.terminate()  # at any moment: what a run has written can be resumed
        for process in running:
            process.wait()
    return failed


def plainly(main: Callable[[], None]) -> None:
    """Runs a program that trains. However it ends, it leaves no process behind and prints one line that says why."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's way to stop it, taken as Ctrl-C
    try:
        main()
    except UserError as error:
        finish(str(error), error.status)
    except KeyboardInterrupt:
        finish("stopped. Run the same command again to resume.", 130)
    except OSError as error:
        finish(f"cannot write ({error}); fix the problem, then run the same command again", 1)


def main() -> None:
    parser = command_line.Parser(
        description="Trains networks with several seeds in parallel. Run the same command again to resume."
    )
    names = {"choices": [*NETWORKS, *VARIANTS], "default": list(NETWORKS), "metavar": "NAME"}
    listed = "default: the scripts and their controls; an unknown name lists the others"
    parser.add_argument("--networks", nargs="+", **names, help=listed)
    seeds = {"type": command_line.non_negative_int, "default": [0], "metavar": "SEED"}
    parser.add_argument("--seeds", nargs="+", **seeds, help="every network is trained once per seed (default: 0)")
    size = {"type": command_line.positive_int, "default": BATCH_SIZE}
    parser.add_argument("--batch-size", **size, help=f"images in a training step (default: {BATCH_SIZE})")
    options = parse(parser)
    options.lr = options.lr or LR
    runs = [
        Run(csv_of(name, seed, options), seed, arguments(name))
        for seed in dict.fromkeys(options.seeds)
        for name in dict.fromkeys(options.networks)
    ]
    refuse_other_runs(runs, load_data(options.data), options)
    failed = train(runs, options)
    for csv, why in failed.items():
        print(f"{csv.with_suffix('.log')}: {why}", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(f"Done: see {options.out / 'seed*'}")


if __name__ == "__main__":
    plainly(main)
