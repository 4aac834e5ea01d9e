"""What a network gains over another: the measure, its 95% interval over seeds, and the picture of it over steps."""

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import networks  # noqa: F401, with which Python finds the project's own modules
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from support.pictures.style import DPI, GRID_GREY, TEXT_GREY, WIDTH, default_style, save

# 97.5% points of Student's t for 2 to 30 seeds
T_QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
               2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
               2.045]  # fmt: skip


def measure(history: Sequence) -> float:
    """Test accuracy of a run at a constant learning rate: the mean of its last ten epochs, but at most its last half.

    A single epoch's accuracy goes up and down by a point. A run whose learning rate ends at 0 does not need this.
    """
    count = min(10, (len(history) + 1) // 2)
    return statistics.mean(epoch.test_acc for epoch in history[-count:])


def last(history: Sequence) -> float:
    """Test accuracy of a run whose learning rate ends at 0: that of its last epoch."""
    return history[-1].test_acc


def half_width(differences: list[float]) -> float:
    """Half of the 95% interval of the mean, by Student's t; needs two seeds."""
    seeds = len(differences)
    quantile = T_QUANTILES[seeds - 2] if seeds <= 30 else 1.960  # the normal distribution's
    return quantile * statistics.stdev(differences) / seeds**0.5


def interval(differences: list[float]) -> str:
    """The mean gain ± half of its interval: `+1.57 ± 0.36`; one seed has no interval, and none is `-`."""
    if not differences:
        return "-"
    mean = f"{round(statistics.mean(differences), 2) + 0.0:+.2f}"  # + 0.0: there is no -0.00
    return mean if len(differences) == 1 else f"{mean} ± {half_width(differences):.2f}"


def excludes_zero(differences: list[float]) -> bool:
    """Whether the 95% interval excludes zero; that of one seed does not."""
    return len(differences) > 1 and abs(statistics.mean(differences)) > half_width(differences)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Line(NamedTuple):
    label: str
    colour: str
    gains: dict[int, list[float]]  # training steps: the gain of each seed


class Panel(NamedTuple):
    title: str
    lines: list[Line]


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Each line's mean over seeds, in its 95% band."""
    for line in panel.lines:
        steps = sorted(line.gains)
        means = [statistics.mean(line.gains[step]) for step in steps]
        axes.plot(steps, means, color=line.colour, linewidth=1.6, marker=None if len(steps) > 1 else "o")
        steps = [step for step in steps if len(line.gains[step]) > 1]
        ends = [
            [statistics.mean(line.gains[step]) + side * half_width(line.gains[step]) for step in steps]
            for side in (-1, 1)
        ]
        axes.fill_between(steps, *ends, color=line.colour, alpha=0.22, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(LogFormatter())  # which labels only short runs' ticks, and those without mathtext
    axes.grid(color=GRID_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@default_style
def draw_gain_over_steps(
    path: Path, grid: list[list[Panel | None]], title: str, rows: Sequence[str] = (), note: str = ""
) -> None:
    """Change in test accuracy over the control, against training steps: rows of panels, each row with its own axes.

    Args:
        path: of the PNG.
        grid: all rows as long as the first; None leaves a gap. A title is not repeated below itself.
        title: of the picture.
        rows: what the rows are called, such as the images that the networks were trained on.
        note: what the labels mean, a line.
    """
    columns, top = len(grid[0]), 1.05 if note else 0.85  # inches
    legend = 0.3 + 0.16 * max(len(panel.lines) for row in grid for panel in row if panel)
    height = top + 1.95 * len(grid) + legend
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.suptitle(title, y=1 - 0.12 / height, fontsize=11.5, weight="bold")
    caption = "Mean over seeds with its 95% band. Each point is a single epoch, and those go up and down by chance."
    figure.text(0.5, 1 - 0.37 / height, f"{caption}\n{note}".strip(), ha="center", va="top", color=TEXT_GREY)
    panels = figure.subplots(len(grid), columns, squeeze=False, sharex="row", sharey="row")
    figure.subplots_adjust(
        left=0.085, right=0.985, top=1 - top / height, bottom=(0.35 + legend) / height, hspace=0.25, wspace=0.12
    )
    titles = [None] * columns
    for row, axes_of_row in enumerate(panels):
        for column, axes in enumerate(axes_of_row):
            panel = grid[row][column]
            if not panel:
                axes.set_axis_off()
                continue
            draw_panel(axes, panel)
            if panel.title != titles[column]:
                axes.set_title(panel.title, fontsize=9, weight="bold")
            titles[column] = panel.title
        axes_of_row[0].set_ylabel(f"{rows[row]}\n(points)" if rows else "points over the control")
    for column, of_column in enumerate(zip(*grid, strict=True)):
        below = panels[max(row for row, panel in enumerate(of_column) if panel)][column]
        below.set_xlabel("training steps")
        fullest = max(filter(None, of_column), key=lambda panel: len(panel.lines))
        lines = {line.label: line.colour for line in fullest.lines}
        handles = [below.plot([], [], color=colour, linewidth=3)[0] for colour in lines.values()]
        labels = [textwrap.fill(label, max(16, 96 // columns)) for label in lines]
        below.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.3), frameon=False, handlelength=1)
    save(figure, path)
