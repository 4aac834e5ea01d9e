"""The parts that attention pictures are made of: photographs, maps, rows of them, scales."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure
from torch import Tensor

from support.dataset import Data
from support.figures import DPI, shorten

Panel = Callable[[Axes], None]


class Section(NamedTuple):
    """A part of the picture."""

    finding: str  # in a sentence or two, with its numbers
    height: float  # inches
    draw: Callable[[SubFigure], None]


def first_of_each_class(data: Data, count: int) -> Tensor:
    """The numbers of the first test image of each of the first classes."""
    labels = data.test_labels.unique()[:count]
    return torch.stack([(data.test_labels == label).nonzero()[0, 0] for label in labels])


def fill(area: SubFigure, panels: list[list[Panel]], titles: list[str]) -> None:
    """Lays panels out in rows, all over the 32x32 pixels of an image, with titles above the first row."""
    area.subplots_adjust(left=0.02, right=0.87, top=1 - 0.22 / area.bbox.height * DPI, bottom=0.02,
                         wspace=0.06, hspace=0.06)  # fmt: skip
    for row, places in zip(panels, area.subplots(len(panels), len(panels[0]), squeeze=False), strict=True):
        for panel, axes in zip(row, places, strict=True):
            panel(axes)
            axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], aspect="equal")
    for axes, title in zip(area.axes, titles, strict=False):
        axes.set_title(title, fontsize=9, pad=3)


def photograph(image: Tensor, decorate: Panel = lambda axes: None) -> Panel:
    def panel(axes: Axes) -> None:
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, 32, 32, 0))
        decorate(axes)

    return panel


def heat(values: Tensor, norm: Normalize, colours: str, decorate: Panel = lambda axes: None) -> Panel:
    """A map (h, w) over its image's 32x32 pixels."""

    def panel(axes: Axes) -> None:
        axes.imshow(values.numpy(), extent=(0, 32, 32, 0), norm=norm, cmap=colours)
        decorate(axes)

    return panel


def colour_bar(area: SubFigure, norm: Normalize, colours: str, label: str, ticks: dict[float, str]) -> None:
    place = area.add_axes((0.885, 0.08, 0.014, 0.78))
    bar = area.colorbar(ScalarMappable(norm, colours), cax=place, label=label)
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.minorticks_off()


def plain_ticks(*values: float) -> dict[float, str]:
    return {value: f"{value:.2g}" for value in values}


def class_name(data: Data, label: int) -> str:
    return shorten(data.classes[label], 14)


def class_names(data: Data, chosen: Tensor) -> list[str]:
    return [class_name(data, label) for label in data.test_labels[chosen]]


def strip(
    view_height: float, finding: str, rows: list[list[Panel]], titles: list[str], bar: tuple | None = None
) -> Section:
    """A section with images side by side and what belongs to each below it."""

    def draw_section(area: SubFigure) -> None:
        fill(area, rows, titles)
        if bar:
            colour_bar(area, *bar)

    return Section(finding, 0.25 + view_height * len(rows), draw_section)
