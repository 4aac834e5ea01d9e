"""What the committed runs hold: what a network gains over another, by task and seed.

A run is what the scripts write, `benchmarks/runs/<images>/seed<k>/<run>.csv` with its facts in `<run>.json`. A gain is
a run's test accuracy minus another's of the same seed, at a fixed epoch, never the best.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from networks import NETWORKS, ROOT

from support.errors import UserError
from support.run.facts import differences, read_facts
from support.run.record import Epoch, read_csv

RUNS = ROOT / "benchmarks" / "runs"
SEEDS = range(10)
# 97.5% point of Student's t, by number of seeds
T_QUANTILE = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

CONTROL = "CNN-32-64-128"
BLOCKS = {name: (name, network.control) for name, network in NETWORKS.items() if network.control}
FURTHER = {  # what of self-attention's gain is due to looking, and what a third stage adds
    "Self-Attention, each position only to itself": ("Trunk-Self-Local", CONTROL),
    "Self-Attention, uniform weights": ("Trunk-Self-Uniform", CONTROL),
    "Self-Attention, by looking at other positions": ("Self-Attention", "Trunk-Self-Local"),
    "Self-Attention, by choosing where to look": ("Self-Attention", "Trunk-Self-Uniform"),
    "a third stage, without a block": (CONTROL, "CNN"),
}


class Task(NamedTuple):
    """Images that networks were trained on: where the runs are, and the epoch at which they are compared."""

    title: str
    folder: Path  # of the seeds' folders
    epoch: int
    facts: dict  # of every run, beside its seed
    ending: str = ""  # of the runs' names
    rows: dict[str, tuple[str, str]] = BLOCKS | FURTHER  # what is compared: a network, and another

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


def at_learning_rate(lr: float) -> Task:
    return SHAPES._replace(folder=RUNS / f"shapes-lr{lr}", facts=SHAPES.facts | {"lr": lr})


LEARNING_RATES = [at_learning_rate(0.0005), SHAPES, at_learning_rate(0.002)]
RESNET = JPEG_COPY._replace(
    title="ResNet-8, JPEG copy of CIFAR-10",
    epoch=15,
    rows={
        label: (f"ResNet-8-{block}", "ResNet-8")
        for label, block in {
            "Self-Attention": "Self",
            "Multi-Head Attention": "Multi-Head",
            "SE-Attention": "SE",
            "ECA-Attention": "ECA",
            "CBAM-Attention": "CBAM",
            "STN-Attention": "STN",
            "constant 1/2 in the block's place": "Half",
            "2 x SE": "SE-Twice",
            "4 x CBAM": "CBAM-Four",
            "Self-Attention, each position only to itself": "Self-Local",
            "Self-Attention, uniform weights": "Self-Uniform",
        }.items()
    }
    | {
        "2 x SE, over SE": ("ResNet-8-SE-Twice", "ResNet-8-SE"),
        "4 x CBAM, over CBAM": ("ResNet-8-CBAM-Four", "ResNet-8-CBAM"),
        "Self-Attention, by looking at other positions": ("ResNet-8-Self", "ResNet-8-Self-Local"),
        "Self-Attention, by choosing where to look": ("ResNet-8-Self", "ResNet-8-Self-Uniform"),
    },
)
# apart, with their own control: a GPU rounds differently, so equal seeds end up at other figures
RESNET_ON_GPU = RESNET._replace(title="ResNet-8 on a GPU, JPEG copy of CIFAR-10", folder=RUNS / "jpeg-copy-gpu")
# blocks put into a trained ResNet-8; epoch 0 is before any further step
INSERTED = JPEG_COPY._replace(
    title="trained ResNet-8, JPEG copy of CIFAR-10",
    folder=RUNS / "inserted",
    epoch=3,
    rows={
        label: (f"ResNet-8-{block}", "ResNet-8")
        for label, block in {
            "SE": "SE",
            "2 x SE": "SE-Twice",
            "`Gradually(SE)`": "SE-Gradually",
            "CBAM": "CBAM",
            "4 x CBAM": "CBAM-Four",
            "`Gradually(CBAM)`": "CBAM-Gradually",
            "Self-Attention": "Self",
            "Multi-Head Attention": "Multi-Head",
        }.items()
    },
)

# variants of the gates, and the published block that each varies
STARTS = {
    "constant 1/2 in the block's place": ("Trunk-Half", None),
    "constant 1/4 in the block's place": ("Trunk-Quarter", None),
    "no block, the next layer's weights halved": ("Trunk-next0.5", None),
    "constant 1/2, the next layer's weights doubled": ("Trunk-Half-next2", None),
    "SE": ("SE-Attention", None),
    "2 x SE": ("Trunk-SE-Twice", "SE-Attention"),
    "SE, the next layer's weights doubled": ("Trunk-SE-next2", "SE-Attention"),
    "`Gradually(SE)`": ("Trunk-SE-Gradually", "SE-Attention"),
    "ECA": ("ECA-Attention", None),
    "2 x ECA": ("Trunk-ECA-Twice", "ECA-Attention"),
    "`Gradually(ECA)`": ("Trunk-ECA-Gradually", "ECA-Attention"),
    "CBAM": ("CBAM-Attention", None),
    "4 x CBAM": ("Trunk-CBAM-Four", "CBAM-Attention"),
    "CBAM, the next layer's weights times 4": ("Trunk-CBAM-next4", "CBAM-Attention"),
    "`Gradually(CBAM)`": ("Trunk-CBAM-Gradually", "CBAM-Attention"),
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


def read_seed_0(task: Task) -> dict[str, list[Epoch]]:
    """The networks' whole histories with seed 0, as far as they are there."""
    return {name: history for name in NETWORKS if (history := read(task, 0, name))}


def mean_accuracy(history: list[Epoch]) -> float:
    return statistics.mean(epoch.test_acc for epoch in history)


def read_pairs(task: Task, name: str, other: str) -> dict[int, tuple[list[Epoch], list[Epoch]]]:
    """The histories of two networks, by seed, where both were trained with it."""
    runs, others = read_runs(task, name), read_runs(task, other)
    return {seed: (runs[seed], others[seed]) for seed in sorted(runs.keys() & others.keys())}


def gains(task: Task, name: str, other: str, epochs: int = 1, seeds: Iterable[int] = SEEDS) -> list[float]:
    """Test accuracy of a run minus another's with the same seed, a mean over the last epochs; one per seed."""
    return [
        mean_accuracy(run[-epochs:]) - mean_accuracy(against[-epochs:])
        for seed, (run, against) in read_pairs(task, name, other).items()
        if seed in seeds
    ]


def tasks() -> list[Task]:
    """Those of which there are runs to compare."""
    every = [JPEG_COPY, SHAPES, CIFAR10, RESNET]
    return [task for task in every if any(gains(task, *pair) for pair in task.rows.values())]


def half_width(differences: list[float]) -> float:
    """Half of the 95% interval of the mean, by Student's t over seeds."""
    return T_QUANTILE[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5


def interval(differences: list[float]) -> str:
    if not differences:
        return "-"
    text = f"{statistics.mean(differences):+.2f}"
    return text if len(differences) == 1 else f"{text} ± {half_width(differences):.2f}"


def excludes_zero(differences: list[float]) -> bool:
    """Whether the 95% interval excludes zero."""
    return len(differences) > 1 and abs(statistics.mean(differences)) > half_width(differences)
