"""Prints the README's tables of results, from the CSVs of the runs and the published figures.

    python benchmarks/results.py

Reads `plots/<run>.csv` (seed 0) and `plots/seeds/<run>-<seed>.csv` (further seeds), as the scripts write
them, and `published.csv` beside this file. A ± is a standard deviation over seeds, but in what a block adds
a 95% interval; with one seed there is none. What a block adds is taken at the last epoch, not at the best.
"""

import csv
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))
from speed import CONTROLS, SCRIPTS, build, flops  # noqa: E402

from common import Epoch, Stop, read_csv  # noqa: E402

RUNS = {script: script for script in SCRIPTS} | {  # the file name of each network's runs
    "CNN --widths 32 64 128": "CNN-32-64-128",
    "CNN --widths 64 128 --hidden 256 --dropout 0": "CNN-64-128",
}
EPOCHS = (1, 10, 50, 100)  # that the tables show, as far as the runs go, besides the last
# 97.5% point of Student's t, by number of seeds
T_QUANTILE = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def read_runs(plots: Path) -> dict[str, list[list[Epoch]]]:
    """Every network's histories by name, in the order of the seeds.

    Raises:
        Stop: a run is missing, or not all have the same seeds and the same number of epochs.
    """
    runs, expected = {}, None
    for name in RUNS.values():
        paths = {seed: plots / "seeds" / f"{name}-{seed}.csv" for seed in range(1, 10)}
        seeds = {0: read_csv(plots / f"{name}.csv")}
        seeds |= {seed: read_csv(path) for seed, path in paths.items() if path.exists()}
        if not seeds[0]:
            raise Stop(f"{plots / name}.csv is missing or no run's; nine runs were expected")
        found = {seed: len(history) for seed, history in seeds.items()}
        expected = expected or dict.fromkeys(found, found[0])
        if found != expected:
            raise Stop(f"epochs by seed in {plots}: {found} of {name}, where {expected} were expected")
        figures = [[epoch[:-1] for epoch in history] for history in seeds.values()]
        if any(figures.count(history) > 1 for history in figures):
            raise Stop(f"two seeds of {name} have the same figures: one is a copy of the other")
        runs[name] = list(seeds.values())
    return runs


def read_published() -> dict[tuple[str, int], dict[str, str]]:
    """{(script, epoch): a line of published.csv}."""
    with (ROOT / "benchmarks" / "published.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(line["script"], int(line["epoch"])): line for line in lines}


def spread(values: list[float], digits: int) -> str:
    """Mean, and standard deviation where there are several values."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def interval(differences: list[float]) -> str:
    """Mean of paired differences with its 95% interval, by Student's t."""
    text = f"{statistics.mean(differences):+.2f}"
    if len(differences) == 1:
        return text
    half = T_QUANTILE[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{text} ± {half:.2f}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def beside_the_published(runs: dict[str, list[list[Epoch]]], field: str, digits: int) -> str:
    """Each script's test accuracy or loss at some epochs, published / ours."""
    published = read_published()
    last = len(runs["CNN"][0])
    epochs = sorted({*(epoch for epoch in EPOCHS if epoch < last), last})
    rows = []
    for name in RUNS.values():
        cells = []
        for epoch in epochs:
            ours = spread([getattr(history[epoch - 1], field) for history in runs[name]], digits)
            theirs = published.get((name, epoch))
            cells.append(f"{float(theirs[field]):.{digits}f} / {ours}" if theirs else f"- / {ours}")
        rows.append([name, *cells])
    return markdown(["published / ours", *(f"epoch {epoch}" for epoch in epochs)], rows)


def over_fitting(runs: dict[str, list[list[Epoch]]]) -> str:
    """Where each network's test loss is lowest, and what it and the training accuracy are at the end."""
    rows = []
    for name in RUNS.values():
        lowest = [min(history, key=lambda epoch: epoch.test_loss) for history in runs[name]]
        last = [history[-1] for history in runs[name]]
        rows.append(
            [
                name,
                spread([epoch.test_loss for epoch in lowest], 2),
                spread([epoch.epoch for epoch in lowest], 0),
                spread([epoch.test_loss for epoch in last], 2),
                spread([epoch.train_acc for epoch in last], 1),
                spread([epoch.test_acc for epoch in last], 2),
            ]
        )
    header = "run|lowest test loss|at epoch|last test loss|last train accuracy|last test accuracy"
    return markdown(header.split("|"), rows)


def what_blocks_add(runs: dict[str, list[list[Epoch]]]) -> str:
    """Each attention script against its matched control: last epochs paired by seed, and median times."""

    def seconds(name: str) -> float:
        return statistics.median(epoch.seconds for history in runs[name] for epoch in history)

    def operations(network: str) -> float:
        return flops(build(network, classes=10))[1] / 1e6

    rows = []
    for script, control in CONTROLS.items():
        networks = build(script, classes=10), build(control, classes=10)
        parameters = [sum(p.numel() for p in network.parameters()) for network in networks]
        with_block, without = runs[script], runs[RUNS[control]]
        pairs = list(zip(with_block, without, strict=True))
        rows.append(
            [
                script,
                RUNS[control],
                interval([a[-1].test_acc - b[-1].test_acc for a, b in pairs]),
                interval([a[-1].test_loss - b[-1].test_loss for a, b in pairs]),
                f"{parameters[0] - parameters[1]:+,}",
                f"{operations(script) - operations(control):+.2f}",
                f"{seconds(script) / seconds(RUNS[control]):.2f}",
            ]
        )
    header = "block|control|accuracy|test loss|parameters|million operations|time, ratio"
    return markdown(header.split("|"), rows)


def tables() -> list[str]:
    runs = read_runs(ROOT / "plots")
    return [
        beside_the_published(runs, "test_acc", 2),
        beside_the_published(runs, "test_loss", 3),
        what_blocks_add(runs),
        over_fitting(runs),
    ]


if __name__ == "__main__":
    try:
        print(*tables(), sep="\n\n")
    except Stop as stop:
        sys.exit(f"results.py: {stop}")
