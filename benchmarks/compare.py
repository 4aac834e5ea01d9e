"""Does a block help? Compares it with no block, with a linear layer, and, where it has gates, with a constant.

    python benchmarks/compare.py My-Attention.py --data shapes --epochs 20 --seeds 5

A script is one of the six with a block, or a copy whose `build` has another class as the default of `block`. Its
network is trained with the block, without it (the control), with `x + gamma * Linear(x)` in its place, and, where the
block has a method `gate`, with the mean of its gates at the seed's start in its place. Prints a table, and writes it
and a picture to the folder `--out`. Run the same command again to resume; complete runs are not trained again.
"""

import argparse
import inspect
import json
import math
import statistics
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from gains import Line, Panel, draw_gain_over_steps, excludes_zero, interval, measure
from networks import read_script
from sweep import BATCH_SIZE, Run, csv_of, parse, plainly, refuse_other_runs, train
from torch import nn
from variants import LinearShortcut

from common import load_data, set_seed
from support.data.dataset import Data, normalize
from support.errors import UserError
from support.files import holding, replacing, set_aside
from support.run import command_line
from support.run.facts import count_parameters, read_facts
from support.run.history import Epoch

VARIANTS = str(Path(__file__).with_name("variants.py"))
COLOURS = {"block": "#0072B2", "linear layer": "#E69F00", "constant": "#009E73"}


class Comparison(NamedTuple):
    """A script, and the runs that its block needs: a list with a run per seed, by what is in the block's place."""

    script: Path
    runs: dict[str, list[Run]]  # "block", "control", "linear layer"; and "constant" where the block has gates
    gates: str  # the constants, one for each place; or why there are none


def gate_means(build: Callable[..., nn.Module], data: Data, seed: int) -> list[float]:
    """The mean of each block's gates over 1,000 images at a seed's start; nothing of blocks without gates.

    A block whose parts have the gates, such as CBAM, is replaced by the product of their means.
    """
    blocks, means = [], defaultdict(list)
    make_block = inspect.signature(build).parameters["block"].default

    def make_and_keep(*arguments, **named) -> nn.Module:
        blocks.append(make_block(*arguments, **named))
        return blocks[-1]

    set_seed(seed, epoch=0)
    network = build(num_classes=len(data.classes), block=make_and_keep)
    with_gate = [[part for part in block.modules() if callable(getattr(type(part), "gate", None))] for block in blocks]
    gated = [parts[:1] if parts[:1] == [block] else parts for block, parts in zip(blocks, with_gate, strict=True)]
    if not any(gated):
        return []
    for part in {part for parts in gated for part in parts}:
        part.register_forward_pre_hook(lambda part, inputs: means[part].append(part.gate(*inputs).mean().item()))
    evenly = torch.linspace(0, len(data.train_images) - 1, 1000).long()  # images of all classes, whatever their order
    with torch.no_grad():
        network(normalize(data.train_images[evenly]))
    return [math.prod(statistics.mean(means[part]) for part in parts) for parts in gated]


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def examine(script: Path, data: Data, options: argparse.Namespace) -> Comparison:
    """Finds out what is to be trained for a script.

    Raises:
        UserError: the script, or its network without the block, cannot be used.
    """
    build, control = read_script(script)

    def runs(name: str, *typed: str, parameters: int | None = None) -> list[Run]:
        return [Run(csv_of(name, seed, options), seed, list(typed), parameters) for seed in options.seeds]

    def parameters(block: Callable[[int], nn.Module] | None) -> int:
        return count_parameters(build(num_classes=len(data.classes), block=block))

    path = str(script)
    try:
        counts = parameters(None), parameters(lambda channels, *_, **__: LinearShortcut(channels))
    except Exception as error:  # someone's own code can raise anything
        raise UserError(f"{script}: no network without its block: {one_line(error)}", 2) from error
    found = {
        "block": runs(script.stem, path),
        "control": runs(control, path, "--control", parameters=counts[0]),
        "linear layer": runs(f"{control}-linear", VARIANTS, "linear", path, parameters=counts[1]),
    }
    try:
        means = [gate_means(build, data, seed) for seed in options.seeds]
    except Exception as error:
        return Comparison(script, found | {"constant": []}, one_line(error))
    if any(means):
        found["constant"] = [
            Run(csv_of(f"{script.stem}-constant", seed, options), seed, [VARIANTS, "constant", path, json.dumps(of_seed)])
            for seed, of_seed in zip(options.seeds, means, strict=True)
        ]
    return Comparison(script, found, ", ".join(f"{statistics.mean(place):.2f}" for place in zip(*means, strict=True)))


def set_edited_aside(comparison: Comparison) -> None:
    """Moves runs that may be of an earlier text of the script away: the facts of the block's say which text it was."""
    now = f"{zlib.crc32(comparison.script.read_bytes()):08x}"
    moved = []
    for kind in ("constant", "block"):  # the block's last, since they say what is to be moved
        for run, block in zip(comparison.runs.get(kind, []), comparison.runs["block"], strict=False):
            edited = read_facts(block.csv.with_suffix(".json")).get("script_checksum") != now
            if edited and any(run.csv.with_suffix(ending).exists() for ending in (".csv", ".json", ".pt")):
                with holding(run.csv.parent, run.csv.stem):
                    moved.append(str(set_aside(run.csv.parent, run.csv.stem)))
    if moved:
        print(f"{comparison.script.name} was edited: its earlier runs are now in {', '.join(moved)}")


def report(comparison: Comparison, failed: dict[Path, str], epochs: int, steps: int) -> tuple[str, Panel]:
    """A script's table and a sentence on what it means; and its gains over steps, of which an epoch has `steps`."""
    script = comparison.script.stem
    histories, errors = {}, {}
    for kind, runs in comparison.runs.items():
        histories[kind] = {run.seed: history for run in runs if len(history := run.history(epochs)) == epochs}
        errors[kind] = [failed[run.csv] for run in runs if run.csv in failed] if runs else [comparison.gates]

    def gains(kind: str, other: str, of: Callable[[list[Epoch]], float] = measure) -> list[float]:
        ours, theirs = histories[kind], histories[other]
        return [of(ours[seed]) - of(theirs[seed]) for seed in ours if seed in theirs]

    def change(kind: str, other: str) -> str:
        differences, (error, *_) = gains(kind, other), [*errors[kind], *errors[other], None]
        if error is None:
            return interval(differences)
        kept = f"{interval(differences)} ({len(differences)} seeds); " if differences else ""
        return f"{kept}failed: {error}".replace("|", "\\|")

    def costs(kind: str) -> list[str]:
        if not (histories[kind] and histories["control"]):
            return ["", ""]
        facts = [read_facts(comparison.runs[of][0].csv.with_suffix(".json")) for of in (kind, "control")]
        seconds = [
            statistics.median(e.seconds for run in histories[of].values() for e in run) for of in (kind, "control")
        ]
        return [f"{facts[0]['parameters'] - facts[1]['parameters']:+,}", f"{seconds[0] / seconds[1]:.1f}"]

    replacements = [kind for kind in histories if kind not in ("block", "control")]
    labels = {"block": script} | {kind: f"a {kind} in its place" for kind in replacements}
    if comparison.runs.get("constant"):
        labels["constant"] += f" ({comparison.gates})"
    rows = [["", "change in test accuracy over the control", "parameters", "time of an epoch, over the control's"]]
    rows += [["---"] * 4, *([label, change(kind, "control"), *costs(kind)] for kind, label in labels.items())]
    rows += [[f"{script} over the {kind}", change("block", kind), "", ""] for kind in replacements]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)

    findings = []
    for other in ("control", *replacements):
        if differences := gains("block", other):
            better = "better than" if statistics.mean(differences) > 0 else "worse than"
            unclear = "not told apart from" if any(differences) else "exactly as good as"
            against = "its control" if other == "control" else f"a {other}"
            findings.append(f"{better if excludes_zero(differences) else unclear} {against}")
    seeds = len(gains("block", "control"))
    sentence = f"By these {seeds} seeds, {script} is {', '.join(findings)}."
    if seeds < 2:
        sentence = f"{seeds or 'no'} seed of {script} is complete, which tells nothing apart.".capitalize()

    def after(epoch: int, kind: str) -> list[float]:
        return gains(kind, "control", lambda history: history[epoch - 1].test_acc)

    lines = [
        Line(label, COLOURS[kind], {epoch * steps: after(epoch, kind) for epoch in range(1, epochs + 1)})
        for kind, label in labels.items()
        if gains(kind, "control")
    ]
    return f"{table}\n\n{sentence}", Panel(script, lines)


def how_it_was_done(data: Data, steps: int, options: argparse.Namespace, facts: dict) -> str:
    last = min(10, (options.epochs + 1) // 2)
    where = facts.get("processor") if facts.get("device") == "cpu" else facts.get("device")
    return (
        f"{data.name.capitalize()}, {options.epochs} epochs of {steps} steps, seeds 0 to {len(options.seeds) - 1}, learning "
        f"rate {options.lr:g}, {options.precision}, {where}. Changes are in points, each run minus the one with "
        f"the same seed, mean of epochs {options.epochs - last + 1} to {options.epochs}; ± is the 95% interval over "
        "seeds, which excludes zero by chance one time in twenty. Times are medians of the epochs' seconds."
    )


def main() -> None:
    parser = command_line.Parser(description="Does a block help? Compares it with no block and with simpler ones.")
    parser.add_argument("scripts", nargs="+", type=Path, metavar="SCRIPT", help="such as My-Attention.py")
    seeds = "how often each network is trained, with seeds 0, 1, and so on (default: 5)"
    parser.add_argument("--seeds", type=lambda text: range(command_line.positive_int(text)), default="5", help=seeds)
    options = parse(parser)
    if len({script.stem.casefold() for script in options.scripts}) < len(options.scripts):
        parser.error("two scripts have one name, and so would their runs")
    data = load_data(options.data)
    comparisons = [examine(script, data, options) for script in options.scripts]
    runs = {}  # seed by seed; scripts with the same network share a control
    for of_seed in zip(*(of for comparison in comparisons for of in comparison.runs.values() if of), strict=True):
        for run in of_seed:
            if runs.setdefault(run.csv, run).parameters != run.parameters:
                raise UserError(f"two scripts have a {run.csv.stem}, but not the same network: give it two names", 2)
    refuse_other_runs(list(runs.values()), data, options)
    for comparison in comparisons:
        set_edited_aside(comparison)
    failed = train(list(runs.values()), options)

    steps = math.ceil(len(data.train_images) / BATCH_SIZE)
    texts, panels = zip(*(report(comparison, failed, options.epochs, steps) for comparison in comparisons), strict=True)
    facts = next((facts for csv in runs if (facts := read_facts(csv.with_suffix(".json")))), {})
    stem = options.out / f"compare{command_line.suffix(options.data)}"
    drawn = [panel for panel in panels if panel.lines]
    if drawn:
        columns = min(3, len(drawn))
        drawn += [None] * (-len(drawn) % columns)
        grid = [list(row) for row in zip(*[iter(drawn)] * columns, strict=True)]
        draw_gain_over_steps(stem.with_suffix(".png"), grid, f"Change in test accuracy over the control, {data.name}")
    text = "\n\n".join([*texts, how_it_was_done(data, steps, options, facts)])
    with replacing(stem.with_suffix(".md")) as temporary:
        temporary.write_text(f"{text}\n" + f"\n![Gain over steps]({stem.name}.png)\n" * bool(drawn), encoding="utf-8")
    print(f"\n{text}\n\nDone: {stem}.md and {stem}.png")
    sys.exit(bool(failed))


if __name__ == "__main__":
    plainly(main)
