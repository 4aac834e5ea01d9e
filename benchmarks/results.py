"""Prints the tables of results, and draws the gallery's gains, curves and comparison, all from the committed runs.

    python benchmarks/results.py

Reads `benchmarks/runs` (`gains.py` lists what is there), and the published figures in `published.csv` beside this file.
"""

import argparse
import csv
import itertools
import statistics

import torch
from gains import (
    BLOCKS,
    CIFAR10,
    CONTROL,
    INSERTED,
    JPEG_COPY,
    LEARNING_RATES,
    RESNET,
    RESNET_ON_GPU,
    SEEDS,
    SHAPES,
    STARTS,
    Task,
    excludes_zero,
    gains,
    interval,
    mean_accuracy,
    read,
    read_pairs,
    read_seed_0,
    tasks,
)
from gallery import draw_gallery
from networks import ALL, ROOT, build
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from support.errors import UserError, finish
from support.run.command_line import Parser
from support.run.facts import read_facts
from support.run.record import Epoch

EPOCHS = (1, 10, 30, 50, 100)  # in the tables beside the published figures


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def what_blocks_add(task: Task) -> str:
    rows = []
    for label, (name, other) in task.rows.items():
        last, steady = gains(task, name, other), gains(task, name, other, epochs=10)
        if not last:
            continue
        verdict = "yes" if excludes_zero(last) else "no" if len(last) > 1 else "-"
        both = zip(*read_pairs(task, name, other).values(), strict=True)
        accuracies = " / ".join(f"{statistics.mean(run[-1].test_acc for run in runs):.2f}" for runs in both)
        rows.append([label, other, accuracies, interval(last), verdict, interval(steady), str(len(last))])
    outcomes = [f"accuracies, epoch {task.epoch}", f"gain, epoch {task.epoch}", "shown", "gain, last ten epochs"]
    return markdown([task.title, "compared with", *outcomes, "seeds"], rows)


def gates_starts(task: Task) -> str:
    """What remains of the gates' cost when they start at 1. The mean of the last ten epochs decides."""

    def gain(name: str, other: str | None, epochs: int = 10, seeds: range = SEEDS) -> str:
        return interval(gains(task, name, other, epochs, seeds)) if other else ""

    halves = {"seeds 0 to 4": range(5), "seeds 5 to 9": range(5, 10)}
    if not any(gains(task, name, CONTROL, seeds=halves["seeds 5 to 9"]) for name, _ in STARTS.values()):
        halves = {}
    rows = []
    for label, (name, published) in STARTS.items():
        if count := len(gains(task, name, CONTROL)):
            of_halves = [gain(name, CONTROL, seeds=seeds) for seeds in halves.values()]
            over_control = [gain(name, CONTROL), *of_halves, gain(name, CONTROL, epochs=1)]
            rows.append([label, *over_control, gain(name, published), str(count)])
    over = "over the control, last ten epochs", *halves, f"epoch {task.epoch}"
    return markdown([task.title, *over, "over the published block, last ten epochs", "seeds"], rows)


def learning_rates() -> str:
    """Whether the cost of a gate's start goes with another learning rate."""
    rows = []
    for task in LEARNING_RATES:
        pairs = [("SE-Attention", CONTROL), ("Trunk-SE-Twice", CONTROL), ("Trunk-SE-Twice", "SE-Attention")]
        of_pairs = [gains(task, *pair, epochs=10) for pair in pairs]
        rows.append([str(task.facts["lr"]), *map(interval, of_pairs), str(len(of_pairs[0]))])
    header = [f"{SHAPES.title}, learning rate", "SE over the control", "2 x SE over the control", "2 x SE over SE"]
    return markdown([*header, "seeds"], rows)


def catching_up() -> str:
    """Whether the gates catch up with the control in longer training."""
    ends = (20, 40, 60)
    rows = []
    for label in ("SE", "2 x SE", "CBAM", "4 x CBAM"):
        at_ends = [gains(SHAPES._replace(epoch=end), STARTS[label][0], CONTROL, 10, range(5)) for end in ends]
        rows.append([label, *map(interval, at_ends)])
    return markdown([f"{SHAPES.title}, seeds 0 to 4", *(f"epochs {end - 9} to {end}" for end in ends)], rows)


def after_inserting(task: Task) -> str:
    """Test accuracy of a trained network with a block put into it, and what it gains over the one without."""
    times = {"at once": 0, "after one epoch": 1, "after three": 3}
    rows = []
    for label, (name, other) in ({"no block": ("ResNet-8", "ResNet-8")} | task.rows).items():
        both = [(read(task, seed, name), read(task, seed, other)) for seed in SEEDS]
        both = [pair for pair in both if min(map(len, pair)) > task.epoch]
        row = [label]
        for epoch in times.values():
            accuracies = [(run[epoch].test_acc, plain[epoch].test_acc) for run, plain in both]
            mean = f"{statistics.mean(accuracy for accuracy, _ in accuracies):.2f}"
            over = interval([accuracy - without for accuracy, without in accuracies])
            row.append(mean if name == other else f"{mean} ({over})")
        rows.append([*row, str(len(both))])
    return markdown([task.title, *times, "seeds"], rows)


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
    """Which processor or GPU and PyTorch the runs are from, as their facts say; seeds with equal rows share one."""
    rows = {}
    for task, seed in itertools.product((JPEG_COPY, RESNET, RESNET_ON_GPU, SHAPES, CIFAR10), SEEDS):
        machines = {}
        resnets = task in (RESNET, RESNET_ON_GPU)
        for name in (name for name in ALL if name.startswith("ResNet") == resnets):  # they share a folder
            if facts := read_facts(task.csv(seed, name).with_suffix(".json")):
                version = (facts.get("torch") or "not known").partition("+")[0]
                device = facts.get("device", "cpu")
                machine = facts.get("processor") if device == "cpu" else device
                machines.setdefault((machine or "not known", version), []).append(name)
        *few, last = sorted(machines, key=lambda machine: len(machines[machine])) or [None]
        for machine in few:
            rows.setdefault((task.title, ", ".join(machines[machine]), *machine), []).append(str(seed))
        if last:
            rows.setdefault((task.title, "the others" if few else "all", *last), []).append(str(seed))
    rows = [[title, ", ".join(seeds), *row] for (title, *row), seeds in rows.items()]
    return markdown(["images", "seeds", "networks", "processor or GPU", "PyTorch"], rows)


def tables() -> list[str]:
    found = [hardware(), *(what_blocks_add(task) for task in tasks())]
    found.append(what_blocks_add(RESNET_ON_GPU))
    found += [gates_starts(task) for task in (SHAPES, JPEG_COPY) if gains(task, "Trunk-Half", CONTROL)]
    found += [learning_rates(), catching_up()]
    if INSERTED.folder.exists():
        found.append(after_inserting(INSERTED))
    found.append(costs())
    for task in tasks():
        if task in (JPEG_COPY, CIFAR10):
            published = beside_the_published(task, "test_acc", 2), beside_the_published(task, "test_loss", 3)
            found += [later_epochs(task), *published, over_fitting(task)]
    return found


if __name__ == "__main__":
    Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        print(*tables(), sep="\n\n")
    except UserError as error:
        finish(str(error), error.status)
    draw_gallery()
