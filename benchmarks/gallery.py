"""Draws the gallery's pictures that need no trained network, all from the committed runs."""

import statistics
import textwrap
from pathlib import Path

from gains import (
    BLOCKS,
    CONTROL,
    JPEG_COPY,
    SHAPES,
    STARTS,
    excludes_zero,
    gains,
    half_width,
    interval,
    read_seed_0,
    tasks,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import NETWORKS, ROOT

from support.pictures.comparison import plot_comparison, read_folder
from support.pictures.curves import plot_run
from support.pictures.style import COLOURS, DPI, GREY, GRID_GREY, TEXT_GREY, WIDTH, default_style, save
from support.run.facts import read_facts

GALLERY = ROOT / "plots" / "gallery"


def draw_row(axes: Axes, row: int, differences: list[float], colour: str) -> None:
    """A dot per seed, the mean, and its 95% interval as a bar."""
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


def draw_gains(axes: Axes, rows: dict[str, tuple[list[float], str]]) -> None:
    """Rows of gains in a colour each, grey where the interval includes zero; the figures at the right."""
    dots = [0, *(dot for differences, _ in rows.values() for dot in differences)]
    margin = 0.25 * (max(dots) - min(dots))  # a wider interval runs off the panel, rather than squeeze the others
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(min(dots) - margin, max(dots) + margin))
    for row, (differences, colour) in enumerate(rows.values()):
        shown = excludes_zero(differences)
        if differences:
            draw_row(axes, row, differences, colour if shown else GREY)
        text = f"{interval(differences)}\n{len(differences)} seeds" if differences else "not among\nthese runs"
        axes.annotate(text, (1, row), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", color="black" if shown else TEXT_GREY)  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlabel("gain in test accuracy (points)")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID_GREY, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)


KEY = "Each dot is one seed. Bars are 95% confidence intervals of the mean, grey where they include zero. Axes differ."


def titled_figure(title: str, height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.suptitle(title, fontsize=12, weight="bold", y=0.985)
    figure.text(0.5, 0.91, KEY, ha="center", color=TEXT_GREY)
    return figure


@default_style
def draw_gain(path: Path) -> None:
    """A panel for each task with more than one seed, a row per block."""
    figure = titled_figure("How much each block changes test accuracy", 4.2)
    figure.subplots_adjust(left=0.18, right=0.88, top=0.79, bottom=0.12, wspace=0.72)
    there = [task for task in tasks() if any(len(gains(task, *task.rows[block])) > 1 for block in BLOCKS)]
    panels = figure.subplots(1, len(there), squeeze=False)[0]
    for task, axes in zip(there, panels, strict=True):
        draw_gains(axes, {block: (gains(task, *task.rows[block]), COLOURS[block]) for block in BLOCKS})
        axes.set_title(textwrap.fill(f"{task.title}, epoch {task.epoch}", 24), fontsize=10)
        if axes is not panels[0]:
            axes.set_yticks([])
    save(figure, path)


@default_style
def draw_variants(path: Path) -> None:
    """What remains of self-attention's gain without looking, and of the gates' cost when they start at 1."""
    looking = {
        "self-attention": "Self-Attention",
        "uniform weights": "Trunk-Self-Uniform",
        "each position\nonly to itself": "Trunk-Self-Local",
    }
    starts = {
        f"{label}\nstarts near {start}": STARTS[label]
        for label, start in (
            ("SE", "1/2"),
            ("2 x SE", 1),
            ("ECA", "1/2"),
            ("2 x ECA", 1),
            ("CBAM", "1/4"),
            ("4 x CBAM", 1),
        )
    }
    figure = titled_figure("What a block's gain or cost comes from", 4.4)
    figure.subplots_adjust(left=0.13, right=0.87, top=0.78, bottom=0.12, wspace=1.0)
    left, right = figure.subplots(1, 2)
    colour = COLOURS["Self-Attention"]
    draw_gains(left, {label: (gains(JPEG_COPY, name, CONTROL), colour) for label, name in looking.items()})
    left.set_title(
        f"Self-attention: most of its gain needs no looking\n({JPEG_COPY.title}, epoch {JPEG_COPY.epoch})", fontsize=10
    )
    draw_gains(
        right,
        {
            label: (gains(SHAPES, name, CONTROL, epochs=10), COLOURS[published or name])
            for label, (name, published) in starts.items()
        },
    )
    right.set_title(
        f"Gates that start near 1 cost far less\n({SHAPES.title}, mean of the last ten epochs)", fontsize=10
    )
    save(figure, path)


def draw_gallery() -> None:
    draw_gain(GALLERY / "gain.png")
    draw_variants(GALLERY / "variants.png")
    for name, history in read_seed_0(JPEG_COPY).items():
        csv = JPEG_COPY.csv(0, name)
        plot_run(GALLERY / f"{name}.png", csv, history, len(history), read_facts(csv.with_suffix(".json")))
    runs = read_folder(JPEG_COPY.csv(0, "CNN").parent, JPEG_COPY.facts)
    runs = {name: run for name, run in runs.items() if name in NETWORKS}
    plot_comparison(GALLERY / "comparison.png", runs, JPEG_COPY.facts["data"])
