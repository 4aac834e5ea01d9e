"""Prints the tables of results and draws the gallery's gains, curves and comparison, all from the committed runs.

    python benchmarks/results.py

Reads what the scripts write, `benchmarks/runs/<images>/seed<k>/<run>.csv` with its facts in `<run>.json`, and the
published figures in `published.csv` beside this file. `TASKS` lists the folders, and what is true of all their runs.
What a block adds is its run minus its control's of the same seed, at a fixed epoch, never the best.
"""

import argparse
import csv
import itertools
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import ALL, NETWORKS, ROOT, build
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from support.errors import UserError, finish
from support.pictures.comparison import plot_comparison, read_folder
from support.pictures.curves import plot_run
from support.pictures.style import COLOURS, DPI, GREY, GRID_GREY, OTHER_COLOUR, TEXT_GREY, WIDTH, default_style, save
from support.run.command_line import Parser
from support.run.facts import differences, read_facts
from support.run.history import Epoch, read_csv

RUNS, GALLERY = ROOT / "benchmarks" / "runs", ROOT / "plots" / "gallery"
EPOCHS = (1, 10, 30, 50, 100)  # in the tables beside the published figures
# 97.5% point of Student's t, by number of seeds
T_QUANTILE = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Task(NamedTuple):
    """Images that networks were trained on: where the runs are, and the epoch at which they are compared."""

    title: str
    folder: Path  # of the seeds' folders
    epoch: int
    facts: dict  # of every run, beside its seed
    ending: str = ""  # of the runs' names

    def csv(self, seed: int, name: str) -> Path:
        return self.folder / f"seed{seed}" / f"{name}{self.ending}.csv"


DEFAULTS = {"batch_size": 64, "lr": 0.001, "precision": "fp32"}
JPEG_COPY = Task(
    "JPEG copy of CIFAR-10",
    RUNS / "jpeg-copy",
    epoch=30,
    facts={"data": "CIFAR-10 JPEG copy", "checksum": "d89de81d", **DEFAULTS},
)
SHAPES = Task(
    "drawn shapes",
    RUNS / "shapes",
    epoch=20,
    facts={"data": "drawn shapes", "checksum": "53e617b9", **DEFAULTS},
    ending="-shapes",
)
# for whoever has the original files
CIFAR10 = Task("CIFAR-10", RUNS / "cifar-10", epoch=30, facts={"data": "CIFAR-10", **DEFAULTS})
TASKS = [task for task in (JPEG_COPY, SHAPES, CIFAR10) if task.folder.exists()]
SEEDS = range(10)
BLOCKS = {name: (name, network.control) for name, network in NETWORKS.items() if network.control}
FURTHER = {  # what of self-attention's gain is due to looking, and what a third stage adds
    "Self-Attention, each position to itself": ("Trunk-Self-Local", "CNN-32-64-128"),
    "Self-Attention, all positions alike": ("Trunk-Self-Uniform", "CNN-32-64-128"),
    "Self-Attention, by looking elsewhere": ("Self-Attention", "Trunk-Self-Local"),
    "Self-Attention, by choosing where": ("Self-Attention", "Trunk-Self-Uniform"),
    "a third stage, without a block": ("CNN-32-64-128", "CNN"),
}


def read(task: Task, seed: int, name: str) -> list[Epoch]:
    """A network's history; an empty list where it is not there, or no facts are beside it.

    Raises:
        UserError: the run is in the wrong folder.
    """
    csv = task.csv(seed, name)
    facts, here = read_facts(csv.with_suffix(".json")), task.facts | {"seed": seed}
    for key in differences(facts, here, here):
        if facts.get(key) is not None:  # what is not known may be
            raise UserError(f"{csv} has {key} {facts[key]}, not {here[key]} as its folder: move it where it belongs")
    return read_csv(csv) if facts else []


def read_runs(task: Task, name: str) -> dict[int, list[Epoch]]:
    """A network's histories by seed, those that reach the task's epoch, up to it."""
    runs = {seed: read(task, seed, name) for seed in SEEDS}
    return {seed: history[: task.epoch] for seed, history in runs.items() if len(history) >= task.epoch}


def mean_accuracy(history: list[Epoch]) -> float:
    return statistics.mean(epoch.test_acc for epoch in history)


def read_pairs(task: Task, name: str, other: str) -> list[tuple[list[Epoch], list[Epoch]]]:
    """The histories of two networks, for each seed that both were trained with."""
    runs, others = read_runs(task, name), read_runs(task, other)
    return [(runs[seed], others[seed]) for seed in sorted(runs.keys() & others.keys())]


def gains(task: Task, name: str, other: str, epochs: int = 1) -> list[float]:
    """Test accuracy of a run minus another's with the same seed, a mean over the last epochs; one a seed."""
    pairs = read_pairs(task, name, other)
    return [mean_accuracy(run[-epochs:]) - mean_accuracy(against[-epochs:]) for run, against in pairs]


def half_width(differences: list[float]) -> float:
    """Half of the 95% interval of the mean, by Student's t over seeds."""
    return T_QUANTILE[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5


def interval(differences: list[float]) -> str:
    if not differences:
        return "-"
    text = f"{statistics.mean(differences):+.2f}"
    return text if len(differences) == 1 else f"{text} ± {half_width(differences):.2f}"


def leaves_out_zero(differences: list[float]) -> bool:
    """Whether the 95% interval leaves zero out."""
    return len(differences) > 1 and abs(statistics.mean(differences)) > half_width(differences)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def what_blocks_add(task: Task) -> str:
    rows = []
    for label, (name, other) in (BLOCKS | FURTHER).items():
        last, steady = gains(task, name, other), gains(task, name, other, epochs=10)
        verdict = "yes" if leaves_out_zero(last) else "no" if len(last) > 1 else "-"
        both = zip(*read_pairs(task, name, other), strict=True)
        accuracies = " / ".join(f"{statistics.mean(run[-1].test_acc for run in runs):.2f}" for runs in both) or "-"
        rows.append([label, other, accuracies, interval(last), verdict, interval(steady), str(len(last))])
    outcomes = [f"accuracies, epoch {task.epoch}", f"gain, epoch {task.epoch}", "shown", "gain, last ten epochs"]
    return markdown([task.title, "compared with", *outcomes, "seeds"], rows)


def operations(name: str) -> float:
    """Millions of multiplications and additions in convolutions and matrix products to classify an image."""
    model = build(name).eval()
    # attention in its plain form, since fused kernels are counted differently from version to version
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops() / 1e6


def costs() -> str:
    """What each block costs."""

    def parameters(name: str) -> int:
        return sum(parameter.numel() for parameter in build(name).parameters())

    rows = [
        [name, f"{parameters(name) - parameters(control):+,}", f"{operations(name) - operations(control):+.2f}"]
        for name, (_, control) in BLOCKS.items()
    ]
    return markdown(["block", "parameters", "million operations"], rows)


def read_seed_0(task: Task) -> dict[str, list[Epoch]]:
    """The networks' whole histories with seed 0, as far as they are there."""
    return {name: history for name in NETWORKS if (history := read(task, 0, name))}


def read_published() -> dict[tuple[str, int], dict[str, str]]:
    """{(script, epoch): a line of published.csv}."""
    with (ROOT / "benchmarks" / "published.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(line["script"], int(line["epoch"])): line for line in lines}


def beside_the_published(task: Task, field: str, digits: int) -> str:
    """Each script's test accuracy or loss with seed 0 at some epochs, published / ours; `-` where there is none."""
    published = read_published()

    def cell(name: str, history: list[Epoch], epoch: int) -> str:
        theirs, ours = published.get((name, epoch)), history[epoch - 1 : epoch]
        figures = [float(theirs[field]) if theirs else None, getattr(ours[0], field) if ours else None]
        return " / ".join("-" if figure is None else f"{figure:.{digits}f}" for figure in figures)

    rows = [[name, *(cell(name, history, epoch) for epoch in EPOCHS)] for name, history in read_seed_0(task).items()]
    return markdown([f"published / {task.title}", *(f"epoch {epoch}" for epoch in EPOCHS)], rows)


def later_epochs(task: Task) -> str:
    """What each block adds with seed 0, as means over ten epochs; `-` where it or its control has not come so far."""
    histories = read_seed_0(task)
    ends = (30, 50, 100)

    def cell(name: str, control: str, end: int) -> str:
        ours, theirs = (histories.get(run, [])[end - 10 : end] for run in (name, control))
        reached = len(ours) == len(theirs) == 10
        return f"{mean_accuracy(ours) - mean_accuracy(theirs):+.2f}" if reached else "-"

    rows = [[name, *(cell(name, control, end) for end in ends)] for name, control in BLOCKS.values()]
    return markdown([f"{task.title}, seed 0", *(f"epochs {end - 9} to {end}" for end in ends)], rows)


def over_fitting(task: Task) -> str:
    """Where each network's test loss is lowest with seed 0, and what it and the accuracies are at the end."""
    rows = []
    for name, history in read_seed_0(task).items():
        lowest, last = min(history, key=lambda epoch: epoch.test_loss), history[-1]
        row = [name, f"{lowest.test_loss:.2f}", str(lowest.epoch), str(last.epoch), f"{last.test_loss:.2f}"]
        rows.append([*row, f"{last.train_acc:.1f}", f"{last.test_acc:.2f}"])
    header = [
        f"{task.title}, seed 0",
        "lowest test loss",
        "at epoch",
        "last epoch",
        "test loss",
        "train accuracy",
        "test accuracy",
    ]
    return markdown(header, rows)


def hardware() -> str:
    """Which processor and PyTorch the runs are from, as their facts say; seeds with equal rows share one."""
    rows = {}
    for task, seed in itertools.product(TASKS, SEEDS):
        machines = {}
        for name in ALL:
            if facts := read_facts(task.csv(seed, name).with_suffix(".json")):
                version = (facts.get("torch") or "not known").partition("+")[0]
                machines.setdefault((facts.get("processor") or "not known", version), []).append(name)
        *few, last = sorted(machines, key=lambda machine: len(machines[machine])) or [None]
        for machine in few:
            rows.setdefault((task.title, ", ".join(machines[machine]), *machine), []).append(str(seed))
        if last:
            rows.setdefault((task.title, "the others" if few else "all", *last), []).append(str(seed))
    rows = [[title, ", ".join(seeds), *row] for (title, *row), seeds in rows.items()]
    return markdown(["images", "seeds", "networks", "processor", "PyTorch"], rows)


def tables() -> list[str]:
    found = [hardware(), *(what_blocks_add(task) for task in TASKS), costs()]
    for task in TASKS:
        if task is not SHAPES:
            published = beside_the_published(task, "test_acc", 2), beside_the_published(task, "test_loss", 3)
            found += [later_epochs(task), *published, over_fitting(task)]
    return found


def draw_row(axes: Axes, row: int, differences: list[float], colour: str) -> None:
    """A dot a seed, the mean, its 95% interval as a bar, and both in figures at the right."""
    mean = statistics.mean(differences)
    if len(differences) > 1:
        half = half_width(differences)
        axes.plot([mean - half, mean + half], [row, row], color=colour, linewidth=7, alpha=0.5, solid_capstyle="butt")
        axes.plot(mean, row, "|", color=colour, markersize=16, markeredgewidth=2.5)
        low, high = axes.get_xlim()
        for end, outside, arrow in ((low, mean - half < low, "<"), (high, mean + half > high, ">")):
            if outside:
                axes.plot(end, row, arrow, color=colour, markersize=8, clip_on=False)
    axes.plot(differences, [row] * len(differences), "o", color=colour, markersize=4)
    text = f"{interval(differences)}\nn={len(differences)}"
    axes.annotate(text, (1, row), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                  color="black" if colour != GREY else TEXT_GREY)  # fmt: skip


@default_style
def draw_gain(path: Path) -> None:
    """A row a block, in colour where its interval leaves out zero; below, what is due to self-attention's looking."""
    rows = BLOCKS | {label.replace(", ", ",\n"): pair for label, pair in FURTHER.items() if pair[0] in BLOCKS}
    figure = Figure(figsize=(WIDTH * len(TASKS) / 2, 4.6), dpi=DPI)
    figure.subplots_adjust(left=0.18, right=0.87, top=0.82, bottom=0.11, wspace=0.45)
    figure.suptitle("What each block adds to the same network without it", fontsize=12, weight="bold", y=0.985)
    figure.text(0.5, 0.91, "Dots: seeds. Bars: 95% intervals of their mean, in colour where they leave out zero.",
                ha="center", color=TEXT_GREY)  # fmt: skip
    for task, axes in zip(TASKS, figure.subplots(1, len(TASKS)), strict=True):
        differences = [gains(task, *pair) for pair in rows.values()]
        dots = [0, *(dot for of_row in differences for dot in of_row)]
        margin = 0.25 * (max(dots) - min(dots))  # a wider interval runs off the panel, rather than squeeze the others
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(min(dots) - margin, max(dots) + margin))
        for row, ((name, _), of_row) in enumerate(zip(rows.values(), differences, strict=True)):
            if of_row:
                draw_row(axes, row, of_row, COLOURS.get(name, OTHER_COLOUR) if leaves_out_zero(of_row) else GREY)
        axes.axvline(0, color="black", linewidth=1)
        axes.axhline(len(BLOCKS) - 0.5, color=GREY, linewidth=0.8)
        axes.set(xlabel="points of test accuracy", yticks=[])
        axes.set_title(f"{task.title}, epoch {task.epoch}", fontsize=10)
        axes.grid(axis="x", color=GRID_GREY, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.axes[0].set_yticks(range(len(rows)), rows)
    save(figure, path)


def draw_gallery() -> None:
    """The pictures of the gallery that need no trained network: of seed 0 on the JPEG copy, and the gains."""
    draw_gain(GALLERY / "gain.png")
    for name, history in read_seed_0(JPEG_COPY).items():
        csv = JPEG_COPY.csv(0, name)
        plot_run(GALLERY / f"{name}.png", csv, history, len(history), read_facts(csv.with_suffix(".json")))
    runs = read_folder(JPEG_COPY.csv(0, "CNN").parent, JPEG_COPY.facts)
    runs = {name: run for name, run in runs.items() if name in NETWORKS}
    plot_comparison(GALLERY / "comparison.png", runs, JPEG_COPY.facts["data"])


if __name__ == "__main__":
    Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        print(*tables(), sep="\n\n")
    except UserError as error:
        finish(str(error), error.status)
    draw_gallery()
