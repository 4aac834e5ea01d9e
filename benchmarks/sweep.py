"""Trains networks by seeds, several at a time; stopped at any moment, the same command continues.

    python benchmarks/sweep.py                                                  all nine networks, seed 0
    python benchmarks/sweep.py --networks CNN-32-64-128 SE-Attention --seeds 0 1 2 --epochs 30

Starts each script as a user would, with `--resume`, in a folder for each seed, `<out>/seed<k>`, where its output
goes to `<run>.log`. Runs that have all their epochs are skipped, so give each data set and precision an `--out`; so are
those that are being trained elsewhere, say by another sweep. Where there are several GPUs, all are used, with `--jobs`
runs on each.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from networks import NETWORKS, arguments
from tqdm import tqdm
from variants import VARIANTS

from support.errors import UserError
from support.files import holding
from support.run.command_line import (
    PRECISIONS,
    Parser,
    find_device,
    non_negative_int,
    positive_float,
    positive_int,
    refuse_tf32,
    suffix,
    writable_folder,
)
from support.run.record import read_csv
from support.terminal import shows_bars


class Run(NamedTuple):
    name: str
    seed: int
    csv: Path

    def epochs_done(self, epochs: int) -> int:
        return min(len(read_csv(self.csv)), epochs)


def cores() -> int:
    """Those that this process may use; a batch system may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def visible_gpus(device: torch.device) -> list[str | None]:
    """What `CUDA_VISIBLE_DEVICES` is to be for runs, one for each GPU; [None] leaves it as it is."""
    if str(device) != "cuda":  # another kind of device, or one GPU by its number
        return [None]
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    names = [*NETWORKS, *VARIANTS]
    add("--networks", nargs="+", choices=names, default=list(NETWORKS), metavar="NAME", help=", ".join(names))
    add("--seeds", nargs="+", type=non_negative_int, default=[0], metavar="SEED", help="a run of each network for each")
    jobs = (
        "runs at a time, on each GPU if there are several; all share the cores (default: on a CPU one a core, else 1)"
    )
    add("--jobs", type=positive_int, default=argparse.SUPPRESS, help=jobs)
    add("--epochs", type=positive_int, default=100, help="of each run")
    add("--lr", type=positive_float, default=0.001, help="as the scripts take it")
    add("--data", default="data", help="as the scripts take it")
    add("--device", type=find_device, default="auto", help="as the scripts take it")
    add("--precision", choices=PRECISIONS, default="fp32", help="as the scripts take it")
    add("--out", type=writable_folder, default="runs", help="the folder for the seeds' folders")
    options = parser.parse_args()
    refuse_tf32(parser, options)
    if "jobs" not in options:
        options.jobs = cores() if options.device.type == "cpu" else 1
    try:
        for seed in options.seeds:
            writable_folder(options.out / f"seed{seed}")
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --out: {error}")
    return options


def start(run: Run, gpu: str | None, threads: int, options: argparse.Namespace) -> subprocess.Popen:
    same = {name: getattr(options, name) for name in ("epochs", "lr", "data", "device", "precision")}
    flags = {"seed": run.seed} | same
    typed = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    command = [sys.executable, *arguments(run.name), *typed, "--out", run.csv.parent, "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONIOENCODING": "utf-8"}
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    with run.csv.with_suffix(".log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def is_held(run: Run) -> bool:
    """Whether another process is training it."""
    try:
        with holding(run.csv.parent, run.csv.stem):
            return False
    except UserError:
        return True


def train(runs: list[Run], options: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """Trains the runs that are not complete, `--jobs` at a time on each GPU or else on the CPU.

    Returns:
        Those that failed, and those skipped.
    """

    def done() -> int:
        return sum(run.epochs_done(options.epochs) for run in runs)

    waiting = [run for run in runs if run.epochs_done(options.epochs) < options.epochs]
    running, failed, skipped = {}, [], []
    free = visible_gpus(options.device) * options.jobs
    threads = max(1, cores() // len(free))
    total = len(runs) * options.epochs
    # smoothing 0: the time left goes by the mean of all epochs, since networks differ in speed
    with tqdm(total=total, initial=done(), unit="epoch", smoothing=0, disable=not shows_bars()) as bar:
        try:
            while waiting or running:
                while waiting and free:
                    run, gpu = waiting.pop(0), free.pop(0)
                    running[start(run, gpu, threads, options)] = run, gpu
                time.sleep(0.5)
                for process in [process for process in running if process.poll() is not None]:
                    run, gpu = running.pop(process)
                    free.append(gpu)
                    held = process.returncode == 2 and is_held(run)
                    if process.returncode:
                        (skipped if held else failed).append(run)
                    end = "trained elsewhere, skipped" if held else "failed" if process.returncode else "done"
                    tqdm.write(f"{run.name}, seed {run.seed}: {end}")
                bar.update(done() - bar.n)
        finally:
            for process in running:
                process.terminate()  # at any moment: what a run has written can be resumed
            for process in running:
                process.wait()
    return failed, skipped


def main() -> None:
    options = parse()
    runs = [
        Run(name, seed, options.out / f"seed{seed}" / f"{name}{suffix(options.data)}.csv")
        for seed in options.seeds
        for name in options.networks
    ]
    try:
        failed, skipped = train(runs, options)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        sys.exit(130)
    for run in failed:
        log = run.csv.with_suffix(".log")
        last_line = log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        print(f"{run.name}, seed {run.seed} failed: {last_line} (all of it in {log})", file=sys.stderr)
    missing = [run for run in skipped if run.epochs_done(options.epochs) < options.epochs]
    for run in missing:
        print(f"{run.name}, seed {run.seed} is not complete: it is being trained elsewhere", file=sys.stderr)
    if failed or missing:
        sys.exit(1)
    print(f"Done: see {options.out / 'seed*'}")


if __name__ == "__main__":
    main()
