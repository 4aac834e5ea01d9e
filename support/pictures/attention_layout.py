"""How an attention picture is laid out: rows of photographs and maps, outlines, colour bars."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from support.pictures.attention_words import Words
from support.pictures.style import DPI, WIDTH

Panel = Callable[[Axes], None]
QUERIES = {"A": (18, 18), "B": (10, 26)}  # (row, column) of the pixels whose attention is drawn
INK = "Blues"  # of maps: the more attention, the darker
NAMES_WIDTH, BAR_WIDTH, GAP = 0.115, 0.115, 0.15  # of the picture's width; of a panel's


class Section(NamedTuple):
    """A part of the picture."""

    words: Words
    height: float  # inches
    draw: Callable[[SubFigure], None]


class Scale(NamedTuple):
    """The colours of a section's maps."""

    norm: Normalize
    colours: str
    label: str
    ticks: dict[float, str]


ATTENTION = Scale(
    LogNorm(1 / 16, 16),
    INK,
    "attention relative to uniform (log)",
    {1 / 16: "≤1/16", 1 / 4: "1/4", 1: "1", 4: "4", 16: "≥16"},
)


def plain_ticks(*values: float) -> dict[float, str]:
    return {value: f"{value:.2g}" for value in values}


def photograph(image: Tensor, decorate: Panel = lambda axes: None) -> Panel:
    def panel(axes: Axes) -> None:
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, 32, 32, 0))
        decorate(axes)

    return panel


def heat(values: Tensor, scale: Scale, decorate: Panel = lambda axes: None) -> Panel:
    """A map (h, w) over its image's 32x32 pixels."""

    def panel(axes: Axes) -> None:
        axes.imshow(values.numpy(), extent=(0, 32, 32, 0), norm=scale.norm, cmap=scale.colours)
        decorate(axes)

    return panel


def outline(patch: Patch) -> Panel:
    """Draws a patch's border in white between black, to be seen on any image."""
    patch.set(
        fill=False, edgecolor="white", linewidth=1.6, path_effects=[withStroke(linewidth=3.6, foreground="black")]
    )
    return lambda axes: axes.add_patch(patch)


def cell_of(query: str, h: int, w: int) -> tuple[int, int]:
    """The row and column of the map's cell that a query pixel lies in."""
    row, column = QUERIES[query]
    return row * h // 32, column * w // 32


def mark_cell(query: str, h: int, w: int) -> Panel:
    """Outlines the cell of a map (h, w) that a query pixel lies in."""
    row, column = cell_of(query, h, w)
    height, width = 32 / h, 32 / w
    return outline(Rectangle((column * width, row * height), width, height))


def attention(maps: Tensor, head: int, query: str) -> list[Panel]:
    """What a query attends to in each image; maps (n, heads, h, w, h, w) in multiples of equal attention."""
    h, w = maps.shape[2:4]
    row, column = cell_of(query, h, w)
    ends = ATTENTION.norm.vmin, ATTENTION.norm.vmax
    return [heat(values.clamp(*ends), ATTENTION, mark_cell(query, h, w)) for values in maps[:, head, row, column]]


def name_queries(names: set[str]) -> Panel:
    """Writes queries' letters at their pixels."""

    def decorate(axes: Axes) -> None:
        for name in names:
            row, column = QUERIES[name]
            box = {"color": "black", "pad": 1.5}
            axes.text(column, row, name, color="white", weight="bold", fontsize=7, ha="center", va="center", bbox=box)

    return decorate


def panel_rows(
    words: Words, rows: list[tuple[str, Sequence[Panel | None]]], titles: list[str], scale: Scale | None = None
) -> Section:
    """A section of panels in rows that have names, all over the 32x32 pixels of an image; None leaves a gap.

    `titles` stand above the first row's panels.
    """
    widths = [1 if panel else GAP for panel in rows[0][1]]
    room = 1 - NAMES_WIDTH - (BAR_WIDTH if scale else 0.015)
    side = min(WIDTH * room / sum(widths) * 0.96, 1.25)  # inches
    above = 0.2 + 0.16 * max(title.count("\n") for title in titles)
    height = above + 1.04 * side * len(rows)

    def draw(area: SubFigure) -> None:
        right = NAMES_WIDTH + 1.04 * side * sum(widths) / WIDTH
        places = area.add_gridspec(
            *(len(rows), len(widths)), width_ratios=widths, left=NAMES_WIDTH, right=right, bottom=0,
            top=1 - above / height, wspace=0.04, hspace=0.04
        )  # fmt: skip
        shown = iter(titles)
        for row, (name, panels) in enumerate(rows):
            for column, panel in enumerate(panels):
                if not panel:
                    continue
                axes = area.add_subplot(places[row, column])
                panel(axes)
                axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], aspect="equal")
                if row == 0:
                    axes.set_title(next(shown), fontsize=9, pad=3)
                if column == 0:
                    axes.set_ylabel(name, rotation=0, ha="right", va="center")
        if scale:
            colour_bar(area, scale, right + 0.015)

    return Section(words, height, draw)


def colour_bar(area: SubFigure, scale: Scale, left: float) -> None:
    height = min(0.8, 2 * DPI / area.bbox.height)
    place = area.add_axes((left, (1 - height) / 2 - 0.03, 0.014, height))
    bar = area.colorbar(ScalarMappable(scale.norm, scale.colours), cax=place, label=scale.label)
    bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
    bar.minorticks_off()
