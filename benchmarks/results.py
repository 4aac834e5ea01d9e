"""Prints the tables of results and draws `plots/gain.png`, from the CSVs of the runs and the published figures.

    python benchmarks/results.py

Reads the CSVs that the scripts write: of the JPEG copy of CIFAR-10 `plots/<run>.csv` (taken as seed 0) and
`benchmarks/runs/jpeg-copy/seed<k>/<run>.csv` (the other seeds, and the ablations' seed 0); of the drawn shapes
`benchmarks/runs/shapes/seed<k>/<run>.csv`, without the `-shapes` that the scripts put into the name.
The published figures are in `published.csv` beside this file.
What a block adds is its run minus its control's of the same seed, at a fixed epoch, never the best.
"""

import argparse
import csv
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import NETWORKS, ROOT, build
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from support.command_line import Parser
from support.curves import read_run
from support.figures import COLOURS, DPI, GREY, GRID_GREY, OTHER_COLOUR, TEXT_GREY, WIDTH, default_style, save
from support.history import Epoch, read_csv

RUNS, PLOTS = ROOT / "benchmarks" / "runs", ROOT / "plots"
JPEG_COPY = "CIFAR-10 JPEG copy (d89de81d)"  # the data's name and checksum in the plots of its runs
EPOCHS = (1, 10, 30, 50, 100)  # in the tables beside the published figures
# 97.5% point of Student's t, by number of seeds
T_QUANTILE = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


class Task(NamedTuple):
    """Images that networks were trained on: where the runs are, and the epoch at which they are compared."""

    title: str
    folders: list[tuple[int, Path]]  # each with its runs' seed
    epoch: int


TASKS = [
    Task(
        "JPEG copy of CIFAR-10",
        [*((seed, RUNS / "jpeg-copy" / f"seed{seed}") for seed in range(10)), (0, PLOTS)],
        epoch=30,
    ),
    Task("drawn shapes", [(seed, RUNS / "shapes" / f"seed{seed}") for seed in range(10)], epoch=20),
]
BLOCKS = {name: (name, network.control) for name, network in NETWORKS.items() if network.control}
FURTHER = {  # what of self-attention's gain is due to looking, and what a third stage adds
    "Self-Attention, each position to itself": ("Self-Local", "CNN-32-64-128"),
    "Self-Attention, all positions alike": ("Self-Uniform", "CNN-32-64-128"),
    "Self-Attention, by looking elsewhere": ("Self-Attention", "Self-Local"),
    "Self-Attention, by choosing where": ("Self-Attention", "Self-Uniform"),
    "a third stage, without a block": ("CNN-32-64-128", "CNN"),
}


def read(folder: Path, name: str) -> list[Epoch]:
    """A network's history, or an empty list; of `plots/`, where users' own runs go too, only those on the JPEG copy."""
    path = folder / f"{name}.csv"
    return read_run(path, JPEG_COPY) if folder == PLOTS else read_csv(path)


def read_runs(task: Task, name: str) -> dict[int, list[Epoch]]:
    """A network's histories by seed, those that reach the task's epoch, up to it."""
    runs = {}
    for seed, folder in task.folders:
        if len(history := read(folder, name)) >= task.epoch:
            runs[seed] = history[: task.epoch]
    return runs


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


def read_plots() -> dict[str, list[Epoch]]:
    """The histories in `plots/`, those of the networks that are there."""
    histories = {name: read(PLOTS, name) for name in NETWORKS}
    return {name: history for name, history in histories.items() if history}


def read_published() -> dict[tuple[str, int], dict[str, str]]:
    """{(script, epoch): a line of published.csv}."""
    with (ROOT / "benchmarks" / "published.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(line["script"], int(line["epoch"])): line for line in lines}


def beside_the_published(field: str, digits: int) -> str:
    """Each script's test accuracy or loss with seed 0 at some epochs, published / ours; `-` where there is none."""
    published = read_published()

    def cell(name: str, history: list[Epoch], epoch: int) -> str:
        theirs, ours = published.get((name, epoch)), history[epoch - 1 : epoch]
        figures = [float(theirs[field]) if theirs else None, getattr(ours[0], field) if ours else None]
        return " / ".join("-" if figure is None else f"{figure:.{digits}f}" for figure in figures)

    rows = [[name, *(cell(name, history, epoch) for epoch in EPOCHS)] for name, history in read_plots().items()]
    return markdown(["published / ours", *(f"epoch {epoch}" for epoch in EPOCHS)], rows)


def later_epochs() -> str:
    """What each block adds with seed 0, as means over ten epochs; `-` where it or its control has not come so far."""
    histories = read_plots()
    ends = (30, 50, 100)

    def cell(name: str, control: str, end: int) -> str:
        ours, theirs = (histories.get(run, [])[end - 10 : end] for run in (name, control))
        reached = len(ours) == len(theirs) == 10
        return f"{mean_accuracy(ours) - mean_accuracy(theirs):+.2f}" if reached else "-"

    rows = [[name, *(cell(name, control, end) for end in ends)] for name, control in BLOCKS.values()]
    return markdown(["seed 0", *(f"epochs {end - 9} to {end}" for end in ends)], rows)


def over_fitting() -> str:
    """Where each network's test loss is lowest with seed 0, and what it and the accuracies are at the end."""
    rows = []
    for name, history in read_plots().items():
        lowest, last = min(history, key=lambda epoch: epoch.test_loss), history[-1]
        row = [name, f"{lowest.test_loss:.2f}", str(lowest.epoch), str(last.epoch), f"{last.test_loss:.2f}"]
        rows.append([*row, f"{last.train_acc:.1f}", f"{last.test_acc:.2f}"])
    header = ["run", "lowest test loss", "at epoch", "last epoch", "test loss", "train accuracy", "test accuracy"]
    return markdown(header, rows)


def tables() -> list[str]:
    published = [beside_the_published("test_acc", 2), beside_the_published("test_loss", 3)]
    return [*(what_blocks_add(task) for task in TASKS), later_epochs(), costs(), *published, over_fitting()]


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
    figure = Figure(figsize=(WIDTH, 4.6), dpi=DPI)
    figure.subplots_adjust(left=0.18, right=0.87, top=0.82, bottom=0.11, wspace=0.45)
    figure.suptitle("What each block adds to the same network without it", fontsize=12, weight="bold", y=0.985)
    figure.text(0.5, 0.91, "Dots: seeds. Bars: 95% intervals of their mean, in colour where they leave out zero.",
                ha="center", color=TEXT_GREY)  # fmt: skip
    for task, axes in zip(TASKS, figure.subplots(1, 2), strict=True):
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


if __name__ == "__main__":
    Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(*tables(), sep="\n\n")
    draw_gain(PLOTS / "gain.png")
