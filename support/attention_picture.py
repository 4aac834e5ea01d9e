"""The picture of what a trained model attends to."""

import textwrap

from matplotlib.figure import Figure
from torch import nn

from support.attention import find_views
from support.attention_panels import Section
from support.attention_sections import SECTIONS, cam_section
from support.dataset import Data, printable
from support.figures import DPI, WIDTH, plainly, save
from support.record import Record


def draw(record: Record) -> None:
    """Draws what a record's model attends to, into `<run>-attention.png`."""
    model, data, name = record.model, record.data, printable(record.options.name).removesuffix("-shapes")
    figure = draw_figure(model, data, f"{name} on {data.name}, epoch {len(record.history)}")
    if figure is None:
        print("No attention picture: the model has neither a block to ask nor a feature map")
        return
    path = record.options.out / f"{record.options.name}-attention.png"
    save(figure, path, Source=record.source)


@plainly
def draw_figure(model: nn.Module, data: Data, title: str) -> Figure | None:
    """The picture of a model; None where there is nothing to draw."""
    model.eval()
    found = find_sections(model, data)
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, 0.4 + sum(0.75 + part.height for part in found)), dpi=DPI)
    heights = [0.4, *(height for part in found for height in (0.75, part.height))]
    title_area, *areas = figure.subfigures(len(heights), 1, height_ratios=heights)
    title_area.text(0.5, 0.4, title, ha="center", va="center", fontsize=11.5, weight="bold")
    for words, area, part in zip(areas[::2], areas[1::2], found, strict=True):
        words.text(0.02, 0.5, textwrap.fill(part.finding, 112), va="center", fontsize=9.5, linespacing=1.4)
        part.draw(area)
    return figure


def find_sections(model: nn.Module, data: Data) -> list[Section]:
    """A section for each block that can be asked; Grad-CAM where there is none."""
    if views := find_views(model, data.test_images):
        return [SECTIONS[view.kind](model, view, data) for view in views]
    cam = cam_section(model, data)
    return [cam] if cam else []
