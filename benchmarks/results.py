"""Prints the tables of results and draws the gallery's gains, curves and comparison, all from the committed runs.

    python benchmarks/results.py
    python benchmarks/results.py --add runs/shapes

For each task, `benchmarks/runs` has one CSV with every epoch of every run, and one with the facts of the runs. `--add`
takes in the finished runs of a sweep's folder.
"""

import argparse
import csv
import io
import statistics
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from gains import Line, Panel, draw_gain_over_steps, excludes_zero, interval, last, markdown, measure
from networks import ROOT, build, load
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from variants import LinearShortcut

from support.errors import UserError, finish, plain_errors
from support.files import replacing
from support.pictures.comparison import plot_comparison, read_folder
from support.pictures.curves import plot_run
from support.run.command_line import Parser
from support.run.facts import count_parameters, differences, read_facts, write_facts
from support.run.record import Epoch, read_csv, write_csv

RUNS = ROOT / "benchmarks" / "runs"
GALLERY = ROOT / "plots" / "gallery"


class Task(NamedTuple):
    """What networks were trained on, and how."""

    name: str  # of its files
    title: str
    epochs: int  # that are compared; a finished run has them
    steps: int  # in an epoch
    facts: dict  # of every run


SETTINGS = {"batch_size": 64, "lr": 0.001, "precision": "fp32"}
COPY = Task("jpeg-copy", "JPEG copy of CIFAR-10", 30, 782, {"checksum": "d89de81d", **SETTINGS})
SHAPES = Task("shapes", "drawn shapes", 20, 79, {"checksum": "53e617b9", **SETTINGS})
RESNET_SETTINGS = {"checksum": COPY.facts["checksum"], "batch_size": 128, "precision": "fp32"}  # by ResNet-18.py
BRIEF = Task("ResNet-8-6-epochs", "ResNet-8, 6 epochs", 6, 391, {"epochs": 6, **RESNET_SETTINGS})
RESNET = Task("ResNet-8-20-epochs", "ResNet-8", 20, 391, {"epochs": 20, **RESNET_SETTINGS})


def at(epoch: int) -> Callable[[list[Epoch]], float]:
    """Test accuracy at an epoch."""
    return lambda history: history[epoch - 1].test_acc


# the columns of the tables: when networks are compared
EARLY = {"JPEG copy, step 1,564": (COPY, at(2)), "drawn shapes, step 1,580": (SHAPES, at(20))}
EARLY |= {BRIEF.title: (BRIEF, last)}
END = {"JPEG copy, epochs 21 to 30": (COPY, measure), "drawn shapes, epochs 11 to 20": (SHAPES, measure)}
END |= {"ResNet-8, 20 epochs": (RESNET, last)}
TIME = "epoch time / control's"
# the rows: a network, and the one it is compared with
TRUNK, STN_TRUNK = "CNN-32-64-128", "CNN-64-128"
ATTENTION = {name: (name, TRUNK) for name in ("Self-Attention", "Multi-Head Attention")}
LINEAR = {"a linear layer with a shortcut": ("Self-Local", TRUNK)}
GATES = {gate: (f"{gate}-Attention", TRUNK) for gate in ("SE", "ECA", "CBAM")}
SCALED = {f"{gate} at scale 2": (f"{gate}-scale2", TRUNK) for gate in GATES}
BY_SCALE = {f"{gate}, scale 2 over 1": (f"{gate}-scale2", f"{gate}-Attention") for gate in GATES}
OVER_SE = {"CBAM over SE, both at scale 2": ("CBAM-scale2", "SE-scale2")}
TIMES_4 = {"CBAM times 4": ("CBAM-times4", TRUNK), "CBAM, times 4 over 1": ("CBAM-times4", "CBAM-Attention")}
STN = {"STN": ("STN-Attention", STN_TRUNK)}
FURTHER = {"STN with slope 0": ("STN-slope0", STN_TRUNK), "a third stage, without a block": (TRUNK, "CNN")}
APART = {
    "the block": ("Self-Attention", TRUNK),
    "uniform weights": ("Self-Uniform", TRUNK),
    "a linear layer with a shortcut": ("Self-Local", TRUNK),
    "the block, over uniform weights": ("Self-Attention", "Self-Uniform"),
    "the block, over the linear layer": ("Self-Attention", "Self-Local"),
    "Multi-Head Attention, over the linear layer": ("Multi-Head Attention", "Self-Local"),
}
INSERTED = {"no block": "none", "SE": "SE", "SE at scale 2": "SE-scale2", "SE, gradually": "SE-Gradually"}
INSERTED |= {"CBAM": "CBAM", "CBAM at scale 2": "CBAM-scale2", "CBAM, gradually": "CBAM-Gradually"}
INSERTED |= {"Self-Attention": "Self", "Multi-Head Attention": "Multi-Head"}
# what networks of the scripts' trunk are called in the ResNet
IN_RESNET = {"Self-Attention": "Self", "Multi-Head Attention": "Multi-Head", "Self-Local": "Linear", TRUNK: "none"}
IN_RESNET |= {network: gate for gate, (network, _) in GATES.items()}


@cache
def read(name: str) -> dict[str, dict[int, list[Epoch]]]:
    """Every run of a task, by network and seed."""
    runs = {}
    for line in (RUNS / f"{name}.csv").read_text(encoding="utf-8").splitlines()[1:]:
        network, seed, epoch, *values = line.split(",")
        run = runs.setdefault(network, {}).setdefault(int(seed), [])
        run.append(Epoch(int(epoch), *map(float, values)))
    return runs


def read_all_facts(name: str) -> dict[tuple[str, int], dict]:
    """The facts of every run of a task, by network and seed; None where one is not known."""
    with (RUNS / f"{name}-facts.csv").open(encoding="utf-8", newline="") as file:
        lines = [
            {key: int(value) if value.isdigit() else value or None for key, value in line.items()}
            for line in csv.DictReader(file)
        ]
    return {(line["network"], line["seed"]): line for line in lines}


def insert(path: Path, network: str, seed: int, lines: list[str]) -> None:
    """Puts a run's lines into a CSV, in place of those it had."""
    header, *others = path.read_text(encoding="utf-8").splitlines()
    lines = lines + [line for line in others if not line.startswith(f"{network},{seed},")]
    lines.sort(key=lambda line: (line.split(",")[0], int(line.split(",")[1])))
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join([header, *lines, ""]).encode())


def add(path: Path) -> str:
    """Takes in a run, by the JSON of its facts, and says so.

    Raises:
        UserError: it does not fit.
    """
    facts, history = read_facts(path), read_csv(path.with_suffix(".csv"))
    if not facts:
        raise UserError(f"{path}: does not hold a run's facts")
    network, seed = path.stem.removesuffix("-shapes"), facts.get("seed")
    task = next((task for task in (COPY, SHAPES) if not differences(facts, task.facts, task.facts)), None)
    if not task:
        found = ", ".join(f"{key} {facts.get(key)}" for key in COPY.facts)
        raise UserError(f"{path}: neither the JPEG copy's runs nor the drawn shapes' have {found}")
    if (facts.get("script"), f"seed{seed}") != (network, path.parent.name):
        raise UserError(f"{path}: by its facts it is {facts.get('script')} with seed {seed}")
    if [epoch.epoch for epoch in history] != [*range(1, len(history) + 1)] or len(history) < task.epochs:
        raise UserError(
            f"{path}: has {len(history)} of {task.epochs} epochs: continue the sweep with --epochs {task.epochs}"
        )
    there = read(task.name).get(network, {}).get(seed, [])
    if any(ours[:-1] != theirs[:-1] for ours, theirs in zip(history, there, strict=False)):  # all but the seconds
        raise UserError(f"{path}: {network} with seed {seed} is there already, with other numbers")
    if len(history) <= len(there):
        return f"{path}: was there already"
    lines = path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()[1:]
    insert(RUNS / f"{task.name}.csv", network, seed, [f"{network},{seed},{line}" for line in lines])
    table = RUNS / f"{task.name}-facts.csv"
    columns = table.read_text(encoding="utf-8").partition("\n")[0].split(",")
    facts |= {"network": network, "control": (facts.get("control") or "").removesuffix("-shapes")}
    csv.DictWriter(line := io.StringIO(), columns, extrasaction="ignore", lineterminator="").writerow(facts)
    insert(table, network, seed, [line.getvalue()])
    read.cache_clear()
    return f"{path}: added to {task.name}"


def add_all(folder: Path) -> None:
    """Takes in the runs of a sweep's folder that fit, and ends the program if some do not."""
    refused = []
    if not folder.is_dir():
        finish(f"{folder}: folder not found", 2)
    for path in sorted(folder.glob("seed*/*.json")) or finish(f"{folder}: has no runs seed0/<run>.json", 2):
        try:
            print(add(path))
        except UserError as error:
            refused.append(str(error))
    if refused:
        finish("\n".join(refused), 1)


def finished(task: Task, network: str) -> dict[int, list[Epoch]]:
    """A network's finished runs by seed, up to the epoch at which they are compared."""
    runs = read(task.name).get(IN_RESNET.get(network, network) if task in (BRIEF, RESNET) else network, {})
    return {seed: run[: task.epochs] for seed, run in runs.items() if len(run) >= task.epochs}


def pairs(task: Task, network: str, other: str) -> list[tuple[list[Epoch], list[Epoch]]]:
    """Two networks' runs, for each seed that both were trained with."""
    runs, others = finished(task, network), finished(task, other)
    return [(runs[seed], others[seed]) for seed in sorted(runs.keys() & others)]


def gains(task: Task, value: Callable[[list[Epoch]], float], network: str, other: str) -> list[float]:
    """A network's gain over another, in points, for each seed."""
    return [value(run) - value(against) for run, against in pairs(task, network, other)]


def bold(differences: list[float]) -> str:
    """The interval, in bold where it excludes zero."""
    return f"**{interval(differences)}**" if excludes_zero(differences) else interval(differences)


def table_of_gains(title: str, rows: dict[str, tuple[str, str]]) -> str:
    """Gains of networks over others, early and at the end, and the number of seeds in each task."""
    columns, lines = EARLY | END, []
    for label, pair in rows.items():
        seeds = [str(len(pairs(task, *pair))) for task in (COPY, SHAPES, BRIEF, RESNET)]
        lines.append([label, *(bold(gains(*column, *pair)) for column in columns.values()), ", ".join(seeds)])
    return markdown([title, *columns, "seeds"], lines)


def accuracies() -> str:
    """The test accuracies of the networks without a block."""

    def cell(network: str, task: Task, value: Callable[[list[Epoch]], float]) -> str:
        runs = finished(task, network).values()
        return f"{statistics.mean(map(value, runs)):.2f}" if runs else "-"

    columns = {title: column for title, column in (EARLY | END).items() if column[0] in (COPY, SHAPES)}
    rows = [[name, *(cell(name, *column) for column in columns.values())] for name in ("CNN", TRUNK, STN_TRUNK)]
    return markdown(["accuracy in percent", *columns], rows)


def inserted() -> str:
    """Test accuracy of a trained network with a block put into it, and what it has over the one without."""
    runs, rows = read("ResNet-8-inserted"), []
    for label, network in INSERTED.items():
        cells = []
        for epoch in (0, 1):
            over = [run[epoch].test_acc - runs["none"][seed][epoch].test_acc for seed, run in runs[network].items()]
            mean = statistics.mean(run[epoch].test_acc for run in runs[network].values())
            cells.append(f"{mean:.2f}" + (f" ({bold(over)})" if network != "none" else ""))
        rows.append([label, *cells, str(len(runs[network]))])
    return markdown(["trained ResNet-8, JPEG copy", "immediately", "after one more epoch", "seeds"], rows)


def operations(model: nn.Module) -> float:
    """Millions of multiplications and additions in convolutions and matrix products to classify an image."""
    # attention in its plain form, since fused kernels are counted differently from version to version
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() / 1e6


@cache
def cost(network: str, control: str) -> tuple[str, str, str]:
    """What a block adds in parameters, in millions of operations, and an epoch's time over the control's.

    The time is a median over epochs and over seeds, on the drawn shapes. Gates at scale 2 were not timed beside their
    controls. Self-Local counts without its queries and keys, which it does not use.
    """
    of_script = load("Self-Attention").build(10, LinearShortcut) if network == "Self-Local" else None
    models = of_script or build(network.replace("scale2", "Attention")), build(control)
    parameters, millions = ([count(model) for model in models] for count in (count_parameters, operations))
    timed = "STN-slope0" if network == "STN-Attention" else network
    seconds = [[statistics.median(e.seconds for e in run) for run in pair] for pair in pairs(SHAPES, timed, control)]
    time = statistics.median(of_network / of_control for of_network, of_control in seconds)
    return (
        f"{parameters[0] - parameters[1]:+,}",
        f"{millions[0] - millions[1]:+.2f}",
        "-" if "scale2" in network else f"{time:.1f}",
    )


def costs() -> str:
    rows = [[label, *cost(*pair)] for label, pair in (ATTENTION | LINEAR | GATES | STN).items()]
    return markdown(["block", "added parameters", "added million operations", TIME], rows)


def beside_the_published() -> str:
    """Each script's test accuracy at some epochs of a hundred, published / ours with seed 0."""
    epochs = (1, 10, 30, 100)
    with (ROOT / "benchmarks" / "published.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        published = {(line["script"], int(line["epoch"])): float(line["test_acc"]) for line in lines}
    rows = []
    for script in ("CNN", *(script for script, _ in (ATTENTION | GATES | STN).values())):
        ours = read(COPY.name)["STN-slope0" if script == "STN-Attention" else script][0]
        rows.append([script, *(f"{published[script, epoch]:.2f} / {at(epoch)(ours):.2f}" for epoch in epochs)])
    return markdown(["published / JPEG copy", *(f"epoch {epoch}" for epoch in epochs)], rows)


def summary() -> str:
    """The README's table."""
    gates = {label: row for both in zip(GATES.items(), SCALED.items(), strict=True) for label, row in both}
    rows = []
    for label, pair in (ATTENTION | LINEAR | gates | STN).items():
        parameters, _, time = cost(*pair)
        rows.append([label, *(bold(gains(*column, *pair)) for column in END.values()), parameters, time])
    return markdown(["block", *(task.title for task, _ in END.values()), "added parameters", TIME], rows)


def correlation(task: Task) -> float:
    """Of a block's accuracy and its control's over seeds, by the measure: the mean over the six blocks."""
    found = []
    for network, control in [*ATTENTION.values(), *GATES.values(), FURTHER["STN with slope 0"]]:
        both = pairs(task, network, control)
        found.append(statistics.correlation(*([measure(pair[side]) for pair in both] for side in (0, 1))))
    return statistics.mean(found)


def tables() -> list[str]:
    """What the documents quote: tables, and two lines."""
    return [
        accuracies(),
        table_of_gains("block", ATTENTION | GATES | STN | FURTHER),
        table_of_gains("self-attention", APART),
        table_of_gains("gate", {"constant 1/2": ("Half", TRUNK)} | GATES | SCALED | BY_SCALE | OVER_SE | TIMES_4),
        inserted(),
        costs(),
        beside_the_published(),
        summary(),
        f"correlation {correlation(COPY):.2f} on the JPEG copy, {correlation(SHAPES):.2f} on the drawn shapes",
        "{:.2f}% after six epochs and {:.2f}% after twenty".format(
            *(statistics.mean(map(last, finished(task, TRUNK).values())) for task in (BRIEF, RESNET))
        ),
    ]


def panel(task: Task, title: str, lines: dict[str, str], control: str) -> Panel | None:
    """The gains of two networks over training steps, by label; None if neither has runs."""
    drawn = []
    for (label, network), colour in zip(lines.items(), ("#0072B2", "#D55E00"), strict=True):
        over_steps = {e * task.steps: gains(task, at(e), network, control) for e in range(1, task.epochs + 1)}
        drawn += [Line(label, colour, over_steps)] * any(over_steps.values())
    return Panel(title, drawn) if drawn else None


def draw_gallery() -> None:
    columns = [
        ("Self-Attention", {"the block": "Self-Attention", "linear layer": "Self-Local"}, TRUNK),
        ("Multi-Head", {"the block": "Multi-Head Attention", "linear layer": "Self-Local"}, TRUNK),
        *((gate, {"scale 1": f"{gate}-Attention", "scale 2": f"{gate}-scale2"}, TRUNK) for gate in GATES),
        ("STN", {"the block": "STN-Attention", "slope 0": "STN-slope0"}, STN_TRUNK),
    ]
    tasks = [COPY, SHAPES]  # not the ResNet: before the last epoch its learning rate is so high that accuracy jumps
    grid = [[panel(task, *column) for column in columns] for task in tasks]
    title = "Change in test accuracy over the control, as training goes on"
    note = "Linear layer: x + gamma * Linear(x). Gates start near 1/2 at scale 1, near 1 at scale 2. "
    note += "Slope 0: ReLU, not leaky ReLU."
    draw_gain_over_steps(GALLERY / "gain-over-steps.png", grid, title, [task.title for task in tasks], note)
    runs = {name: seeds[0] for name, seeds in read(COPY.name).items() if len(seeds.get(0, [])) >= 100}
    with tempfile.TemporaryDirectory() as folder:  # as the files that a user's runs write
        paths = {name: Path(folder, f"{name}.csv") for name in runs}
        facts = {name: read_all_facts(COPY.name)[name, 0] for name in runs}
        for name, path in paths.items():
            write_csv(path, runs[name])
            write_facts(path.with_suffix(".json"), facts[name])
        for name, path in paths.items():
            plot_run(GALLERY / f"{name}.png", path, runs[name], len(runs[name]), facts[name])
        plot_comparison(GALLERY / "comparison.png", read_folder(Path(folder), COPY.facts), facts["CNN"]["data"])


if __name__ == "__main__":
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="take in a sweep's finished runs")
    options = parser.parse_args()
    with plain_errors(options):
        if options.add:
            add_all(options.add)
        else:
            print(*tables(), sep="\n\n")
            draw_gallery()
