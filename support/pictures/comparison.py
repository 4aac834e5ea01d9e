"""The comparison of a folder's runs with their controls."""

import math
import time
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from support.files import modified
from support.pictures.curves import CONTROL_LINE, draw, plot_run, read_control, set_epochs, shown_name
from support.pictures.style import COLOURS, DPI, OTHER_COLOUR, TEXT_GREY, WIDTH, default_style, save, shorten
from support.run.facts import DATA, differences, read_facts
from support.run.record import Epoch, Record, read_csv

COLUMNS = 4
MOST = 24  # runs in a picture, since time to draw it grows with them


def draw_curves(record: Record) -> float:
    """Draws a run's curves and the comparison of its folder; returns when they may be drawn again.

    That is in half a minute, or later where drawing takes so long that it would slow training down.
    """
    start = time.monotonic()
    if record.history:
        picture = record.csv.with_suffix(".png")
        record.update(picture, plot_run, record.csv, record.history, record.epochs, record.facts)
        if runs := read_folder(record.csv.parent, record.facts):  # none where not even a CSV could be written
            record.update(record.options.comparison, plot_comparison, runs, record.data.name)
    return time.monotonic() + max(30, 10 * (time.monotonic() - start))


def read_folder(folder: Path, facts: dict) -> dict[str, tuple[list[Epoch], list[Epoch]]]:
    """Each run of the folder on the data of these facts with its control, {name: (history, history or empty)}.

    A run that only serves as a control is left out; of more than `MOST`, the newest are taken. The scripts of this
    project come first, as `COLOURS` lists them.
    """
    runs, serving = {}, set()
    for csv in sorted(folder.glob("*.csv"), key=modified, reverse=True):
        facts_of_run, history = read_facts(csv.with_suffix(".json")), read_csv(csv)
        if history and not differences(facts_of_run, facts, DATA):
            control = read_control(csv, facts_of_run)
            runs[csv.stem] = history, control
            serving |= {facts_of_run["control"]} if control else set()
    newest = [name for name in runs if name not in serving][:MOST]
    known = {name: place for place, name in enumerate(COLOURS)}
    names = sorted(newest, key=lambda name: (known.get(shown_name(name), len(known)), name))
    return {name: runs[name] for name in names}


def range_with_margin(values: list[float]) -> tuple[float, float]:
    """From the lowest value to the highest, and a twentieth of that more at both ends; never empty."""
    span = max(max(values) - min(values), 0.02 * abs(max(values)), 1e-6)
    return min(values) - 0.05 * span, max(values) + 0.05 * span


@default_style
def plot_comparison(path: Path, runs: dict[str, tuple[list[Epoch], list[Epoch]]], data: str) -> None:
    """What each run, as `read_folder` gives them, changes against its control: one column per run, accuracy above loss.

    All panels of a kind have the same axes. In long runs they begin after the first twentieth of the epochs, in which
    accuracy rises so far that later differences could not be seen.
    """
    columns = min(len(runs), COLUMNS)
    bands = math.ceil(len(runs) / columns)
    histories = [history for pair in runs.values() for history in pair if history]
    epochs = max(len(history) for history in histories)
    first = 1 + min(epochs // 20, *(len(history) - 1 for history in histories))
    shown = [epoch for history in histories for epoch in history[first - 1 :]]
    accuracy_range = range_with_margin([epoch.test_acc for epoch in shown])
    # a logarithmic axis, since one run may overfit ten times as far as another
    log_range = range_with_margin([math.log(max(epoch.test_loss, 1e-6)) for epoch in shown])
    height = 1.25 + 4.1 * bands
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    # positions by hand: matplotlib's constrained layout takes twice as long, and this is drawn again and again
    top, bottom = 1 - 1.45 / height, 0.5 / height
    grid = figure.add_gridspec(bands, columns, left=0.075, right=0.98, top=top, bottom=bottom, hspace=0.3, wspace=0.14)
    for number, (name, (history, control)) in enumerate(runs.items()):
        band, column = divmod(number, columns)
        above, below = grid[band, column].subgridspec(2, 1, height_ratios=(1.2, 1), hspace=0.1).subplots()
        for axes, field in ((above, "test_acc"), (below, "test_loss")):
            draw(axes, control[first - 1 :], field, **CONTROL_LINE)
            draw(axes, history[first - 1 :], field, color=COLOURS.get(shown_name(name), OTHER_COLOUR), linewidth=1.8)
            set_epochs(axes, epochs, ticks=4, first=first)
            axes.tick_params(labelleft=column == 0, labelbottom=axes is below)
        verdict = f"{history[-1].test_acc:.2f}%\n(no matching control)"
        if control:
            last = min(len(history), len(control)) - 1  # that both have
            verdict = f"this run: {history[last].test_acc - control[last].test_acc:+.2f}"
        above.set_title(f"{shorten(shown_name(name), 22)}\n{verdict}", fontsize=9, weight="bold")
        above.set_ylim(accuracy_range)
        below.set(ylim=[math.exp(end) for end in log_range], yscale="log", xlabel="epoch")
        below.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        below.yaxis.set_minor_formatter("")
        below.yaxis.set_major_formatter("{x:g}")
        if column == 0:
            above.set_ylabel("accuracy (%)")
            below.set_ylabel("loss (logarithmic)")
    figure.suptitle(f"What each block changes on {data}", y=1 - 0.12 / height, fontsize=11.5, weight="bold")
    left_out = [f"The axes begin at epoch {first}."] if first > 1 else []
    left_out += [f"These are the folder's newest {MOST} runs."] if len(runs) == MOST else []
    text = (
        "On test images. Dashed grey: the block's control, the same network without it. Numbers: accuracy minus the\n"
        "control's, in points, at the last shared epoch. One run each: only more seeds can show how much is chance.\n"
    )
    place = {"x": 0.5, "y": 1 - 0.42 / height, "ha": "center", "va": "top"}
    figure.text(**place, s=text + " ".join(left_out), color=TEXT_GREY)
    save(figure, path)
