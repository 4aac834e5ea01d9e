"""Does a block help? Compares it with no block, with a linear layer and, where it has gates, with a constant.

    python benchmarks/compare.py My-Attention.py --data shapes --epochs 20 --seeds 5
    python benchmarks/compare.py My-Attention.py --network ResNet-18 --epochs 16 --precision bf16

A script is one of the six with a block, or a copy whose `build` has another class as the default of `block`. Its
network is trained with the block, without it (the control), and with `x + gamma * Linear(x)` in its place. A block that
has a method `gate` is also compared with a constant in its place: the one that is closest to the block before training.
With `--network`, the block is put into a ResNet, which is trained as in `ResNet-18.py`. Prints a table, and writes it
and a picture to the folder `--out`. Run the same command again to resume; complete runs are not trained again.
"""

import argparse
import inspect
import json
import math
import statistics
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from gains import Line, Panel, draw_gain_over_steps, excludes_zero, interval, last, markdown, measure
from in_place import has_gates, put_in_place, read_build, resnet
from networks import one_line
from sweep import BATCH_SIZE, LR, Run, csv_of, parse, plainly, refuse_other_runs, train
from torch import Tensor, nn

from common import load_data, set_seed, train_step
from support.data.dataset import Data, normalize
from support.errors import UserError
from support.files import holding, replacing, set_aside
from support.run import command_line
from support.run.device import memory_order
from support.run.facts import count_parameters, read_facts
from support.run.record import Epoch

IN_PLACE = str(Path(__file__).with_name("in_place.py"))
COLOURS = {"block": "#0072B2", "linear layer": "#E69F00", "constant": "#009E73"}


class Comparison(NamedTuple):
    script: Path
    runs: dict[str, list[Run]]  # "block", "control", "linear layer", "constant" if the block has gates: a run per seed
    gates: str  # the constants, without repetitions; or why there are none although the block has gates

    def complete(self, epochs: int) -> dict[str, dict[int, list[Epoch]]]:
        """The histories of complete runs, by what they have in the block's place, and seed."""
        return {
            kind: {run.seed: history for run in runs if len(history := run.history(epochs)) == epochs}
            for kind, runs in self.runs.items()
        }


def closest_constants(build: Callable[..., nn.Module], data: Data, seed: int) -> list[float]:
    """For each block, the c for which c * x is closest to its output, at a seed's start; none if one has no gates.

    By least squares over at most 1,000 images; for a block that multiplies by its gates, this is about their mean.
    """
    block = inspect.signature(build).parameters["block"].default
    blocks, constants = [], {}

    def kept(*args, **kwargs) -> nn.Module:
        blocks.append(block(*args, **kwargs))
        return blocks[-1]

    def note(block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0]
        constants[block] = ((x * output).sum() / x.square().sum()).item()

    set_seed(seed, epoch=0)
    network = build(num_classes=len(data.classes), block=kept)
    if not all(map(has_gates, blocks)):
        return []
    for block in blocks:
        block.register_forward_hook(note)
    count = len(data.train_images)
    evenly = torch.linspace(0, count - 1, min(count, 1000)).long()  # of all classes, whatever their order
    with torch.no_grad():
        network(normalize(data.train_images[evenly]))
    return [constants[block] for block in blocks]


def examine(script: Path, data: Data, options: argparse.Namespace) -> Comparison:
    """Finds out what is to be trained for a script.

    Raises:
        UserError: the script, or its network with the block or without it, cannot be used.
    """
    network, classes, typed = options.network, len(data.classes), str(script)
    build, control = read_build(script, network)
    name = script.stem if network == "own" else f"{script.stem}-{network}"
    own = {"block": [typed], "control": [typed, "--control"]} if network == "own" else {}

    def runs(kind: str, name: str, parameters: int | None = None) -> list[Run]:
        words = own.get(kind, [IN_PLACE, network, kind, typed, name])
        return [Run(csv_of(name, seed, options), seed, words, parameters) for seed in options.seeds]

    layout = memory_order(options.device, options.precision) if network == "own" else torch.channels_last
    images = data.train_images[-2:].to(options.device).contiguous(memory_format=layout)
    labels = data.train_labels[-2:].to(options.device)
    parameters = {}
    for kind, what in (("control", " without the block"), ("linear", " with a linear layer instead"), ("block", "")):
        try:
            model = put_in_place(build, kind)(num_classes=classes).to(options.device)
            nn.utils.convert_conv2d_weight_memory_format(model, layout)
            train_step(model, torch.optim.SGD(model.parameters()), images, labels, options.precision)
        except Exception as error:  # someone's own code can raise anything
            raise UserError(f"{script}: its network{what} fails: {one_line(error, script)}", 2) from error
        parameters[kind] = count_parameters(model)
    found = {
        "block": runs("block", name),
        "control": runs("control", control, parameters["control"]),
        # in a ResNet, where it is depends on the block
        "linear layer": runs("linear", f"{control if network == 'own' else name}-linear", parameters["linear"]),
    }
    try:
        constants = [closest_constants(build, data, seed) for seed in options.seeds]
    except Exception as error:
        return Comparison(script, found, one_line(error, script))
    if not any(constants):
        return Comparison(script, found, "")
    if all(math.isclose(constant, 1, rel_tol=1e-4) for of_seed in constants for constant in of_seed):
        return Comparison(script, found, "the closest one is 1, which is the control")
    found["constant"] = [
        run._replace(typed=[*run.typed, json.dumps(of_seed)])
        for run, of_seed in zip(runs("constant", f"{name}-constant"), constants, strict=True)
    ]
    by_place = dict.fromkeys(f"{statistics.mean(place):.2f}" for place in zip(*constants, strict=True))
    return Comparison(script, found, ", ".join(by_place))


def set_edited_aside(comparison: Comparison) -> None:
    """Moves aside runs that may be of an earlier version of the script, which the facts of the block's runs tell."""
    now = f"{zlib.crc32(comparison.script.read_bytes()):08x}"
    moved = []
    for kind in ("constant", "block"):  # the block's last, since its facts decide
        for run, block in zip(comparison.runs.get(kind, []), comparison.runs["block"], strict=False):
            known = {read_facts(each.csv.with_suffix(".json")).get("script_checksum") for each in (run, block)}
            if known - {None, now} and any(run.csv.with_suffix(ending).exists() for ending in (".csv", ".json", ".pt")):
                with holding(run.csv.parent, run.csv.stem):
                    moved.append(str(set_aside(run.csv.parent, run.csv.stem)))
    if moved:
        control = comparison.runs["control"][0].csv.stem
        print(
            f"{comparison.script} was edited. Its earlier runs are now in {', '.join(moved)}. The runs of {control} "
            "are kept: if you edited more than the block, use another --out",
            flush=True,
        )


def gains(ours: dict[int, list[Epoch]], theirs: dict[int, list[Epoch]], value: Callable) -> list[float]:
    """The gains of the first runs over the second, for the seeds that both have."""
    return [value(ours[seed]) - value(theirs[seed]) for seed in ours if seed in theirs]


def table(comparison: Comparison, epochs: int, value: Callable, failed: dict[Path, str]) -> str:
    """In Markdown. An error stands in the rows that it concerns, beside what the other seeds gave."""
    name, runs, complete = comparison.script.stem, comparison.runs, comparison.complete(epochs)

    def change(kind: str, other: str) -> str:
        differences = gains(complete[kind], complete[other], value)
        errors = [failed[run.csv] for run in runs[kind] + runs[other] if run.csv in failed]
        if not errors:
            return interval(differences)
        found = f"{interval(differences)} ({len(differences)} of {len(runs[kind])} seeds); " if differences else ""
        return f"{found}failed: {errors[0]}".replace("|", "\\|")

    def costs(kind: str) -> list[str]:
        if not (complete[kind] and complete["control"]):
            return ["", ""]
        both = kind, "control"
        trained = [next(run for run in runs[each] if run.seed in complete[each]) for each in both]
        parameters = [read_facts(run.csv.with_suffix(".json"))["parameters"] for run in trained]
        seconds = [statistics.median(e.seconds for run in complete[each].values() for e in run) for each in both]
        return [f"{parameters[0] - parameters[1]:+,}", f"{seconds[0] / seconds[1]:.1f}"]

    replacements = [kind for kind in runs if kind not in ("block", "control")]
    labels = {kind: f"a {kind} in its place" for kind in replacements}
    if "constant" in labels:
        labels["constant"] += f" ({comparison.gates})"
    header = ["", "change in test accuracy over the control", "added parameters", "epoch time / control's"]
    rows = [
        *([label, change(kind, "control"), *costs(kind)] for kind, label in ({"block": name} | labels).items()),
        *([f"{name} over the {kind}", change("block", kind), "", ""] for kind in replacements),
    ]
    return markdown(header, rows)


def sentence(comparison: Comparison, epochs: int, value: Callable) -> str:
    """The table in a sentence."""
    name, complete = comparison.script.stem, comparison.complete(epochs)
    block = complete.pop("block")
    over = {kind: differences for kind, theirs in complete.items() if (differences := gains(block, theirs, value))}
    if len(over.get("control", [])) < 2:
        return f"{name} cannot be judged: that takes at least two complete seeds."
    findings = []
    for kind, differences in over.items():
        finding = "better than" if statistics.mean(differences) > 0 else "worse than"
        if not excludes_zero(differences):
            finding = "not distinguishable from" if any(differences) else "exactly as good as"
        findings.append(f"{finding} {'its control' if kind == 'control' else f'a {kind}'}")
    seeds = {len(differences) for differences in over.values()}
    with_seeds = f"these {seeds.pop()} seeds" if len(seeds) == 1 else "the seeds that are complete"
    why = f" No constant was trained: {comparison.gates}." if comparison.gates and "constant" not in complete else ""
    *others, final = findings
    listed = f"{', '.join(others)} and {final}" if others else final
    return f"With {with_seeds}, {name} is {listed}.{why}"


def panel(comparison: Comparison, epochs: int, steps: int) -> Panel:
    """Gains over steps, of which an epoch has this many."""
    complete = comparison.complete(epochs)
    lines = []
    for kind in [kind for kind in COLOURS if kind in complete]:
        after = [
            gains(complete[kind], complete["control"], lambda history, i=i: history[i].test_acc) for i in range(epochs)
        ]
        if any(after):
            lines.append(Line(kind, COLOURS[kind], {(i + 1) * steps: gain for i, gain in enumerate(after)}))
    return Panel(comparison.script.stem, lines)


def conditions(data: Data, steps: int, options: argparse.Namespace, facts: dict) -> str:
    count = min(10, (options.epochs + 1) // 2)
    measured = "last epoch" if options.network != "own" or count == 1 else f"mean of the last {count} epochs"
    highest, network = ("", "") if options.network == "own" else ("highest ", f" Network: {options.network}.")
    epochs = f"{options.epochs} epoch{'s' * (options.epochs > 1)} of {steps} step{'s' * (steps > 1)}"
    seeds = f"seeds 0 to {len(options.seeds) - 1}" if len(options.seeds) > 1 else "seed 0"
    where = facts.get("processor") if facts.get("device") == "cpu" else facts.get("device")
    return (
        f"Data: {data.name}.{network} {epochs}, {seeds}, batch size {options.batch_size}, "
        f"{highest}learning rate {options.lr:g}, {options.precision}, {where}. "
        f"Changes are in points of test accuracy, {measured}, each run minus the one with the same seed; ± is the 95% "
        "interval over seeds, which excludes zero by chance one time in twenty. Times are medians of the epochs' "
        "seconds, and mean little if the machine had other work."
    )


def parse_all() -> argparse.Namespace:
    parser = command_line.Parser(description="Does a block help? Compares it with no block and with simpler ones.")
    parser.add_argument("scripts", nargs="+", type=Path, metavar="SCRIPT", help="scripts with a block")
    seeds = "number of seeds: every network is trained once per seed, from 0 (default: 5)"
    parser.add_argument("--seeds", type=lambda text: range(command_line.positive_int(text)), default="5", help=seeds)
    network = "put the blocks into this network (default: each script's own)"
    parser.add_argument("--network", choices=["own", *resnet.NETWORKS], default="own", help=network)
    sizes = ", ".join(f"{size} in a {name}" for name, size in resnet.BATCH_SIZES.items())
    size = f"images in a training step (default: {BATCH_SIZE}; {sizes})"
    parser.add_argument("--batch-size", type=command_line.positive_int, help=size)
    options = parse(parser)
    options.batch_size = options.batch_size or resnet.BATCH_SIZES.get(options.network, BATCH_SIZE)
    if len({script.stem.casefold() for script in options.scripts}) < len(options.scripts):
        parser.error("two scripts have the same name, and so would their runs: rename one")
    if options.network != "own":
        if options.lr:
            parser.error("--lr is for the scripts' own networks")
        options.lr = resnet.highest_lr(options.batch_size)
        options.same.append("epochs")  # since the learning rate ends at 0, a longer run does not contain a shorter one
    options.lr = options.lr or LR
    return options


def main() -> None:
    options = parse_all()
    value = measure if options.network == "own" else last
    data = load_data(options.data)
    steps = math.ceil(len(data.train_labels) / options.batch_size)
    comparisons = [examine(script, data, options) for script in options.scripts]
    runs = {}
    for of_a_seed in zip(*(kind for comparison in comparisons for kind in comparison.runs.values()), strict=True):
        for run in of_a_seed:  # scripts with the same network share a control
            if runs.setdefault(run.csv, run).parameters != run.parameters:
                raise UserError(f"two scripts have a {run.csv.stem}, but other networks: give the control two names", 2)
    refuse_other_runs(list(runs.values()), data, options)
    for comparison in comparisons:
        set_edited_aside(comparison)
    failed = train(list(runs.values()), options)

    texts = []
    for comparison in comparisons:
        texts += [table(comparison, options.epochs, value, failed), sentence(comparison, options.epochs, value)]
    facts = next((facts for csv in runs if (facts := read_facts(csv.with_suffix(".json")))), {})
    text = "\n\n".join([*texts, conditions(data, steps, options, facts)])
    network = "" if options.network == "own" else f"-{options.network}"
    path = options.out / f"compare{network}{command_line.suffix(options.data)}.md"
    panels = [panel(comparison, options.epochs, steps) for comparison in comparisons]
    if panels := [panel for panel in panels if panel.lines]:
        columns = min(3, len(panels))
        panels += [None] * (-len(panels) % columns)
        grid = [panels[i : i + columns] for i in range(0, len(panels), columns)]
        draw_gain_over_steps(path.with_suffix(".png"), grid, f"Change in test accuracy over the control, {data.name}")
        text += f"\n\n![Change in test accuracy over steps]({path.stem}.png)"
    with replacing(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")
    print(f"\n{text}\n\nDone: {path}" + f" and {path.with_suffix('.png')}" * bool(panels))
    sys.exit(bool(failed))


if __name__ == "__main__":
    plainly(main)
