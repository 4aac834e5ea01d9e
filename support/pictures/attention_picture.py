"""The picture of what a trained model attends to."""

import textwrap

from matplotlib.figure import Figure
from torch import nn

from support.data.dataset import Data
from support.pictures.attention import find_views
from support.pictures.attention_panels import Section
from support.pictures.attention_sections import SECTIONS, cam_section
from support.pictures.curves import shown_name
from support.pictures.style import DPI, TEXT_GREY, WIDTH, default_style, save
from support.run.record import Record


def draw(record: Record) -> None:
    """Draws what a record's model attends to, into `<run>.attention.png`."""
    model, data, name = record.model, record.data, shown_name(record.options.name)
    figure = draw_figure(model, data, name, f"{data.name}, epoch {len(record.history)}")
    if figure is None:
        print("No attention picture: the model has neither a block to ask nor a feature map")
        return
    save(figure, record.options.out / f"{record.options.name}.attention.png")


def find_sections(model: nn.Module, data: Data) -> list[Section]:
    """A section for one or two blocks that can be asked; Grad-CAM where there is none."""
    views = find_views(model, data.test_images)
    sections = []
    for kind, (section, at_once) in SECTIONS.items():
        alike = [view for view in views if view.kind == kind]
        sections += [section(model, alike[i : i + at_once], data) for i in range(0, len(alike), at_once)]
    if not sections and (cam := cam_section(model, data)):
        sections.append(cam)
    return sections


@default_style
def draw_figure(model: nn.Module, data: Data, name: str, what: str) -> Figure | None:
    """The picture of a model, each section under its finding; None where there is nothing to draw."""
    model.eval()
    found = find_sections(model, data)
    if not found:
        return None
    titles = [textwrap.fill(f"{name}: {section.finding}", 88) for section in found]
    figures = [textwrap.fill(section.figures, 128) for section in found]
    heights = []
    for title, text, section in zip(titles, figures, found, strict=True):
        heights += [0.55 + 0.2 * title.count("\n") + 0.17 * text.count("\n"), section.height]
    figure = Figure(figsize=(WIDTH, 0.3 + sum(heights)), dpi=DPI)
    *areas, foot = figure.subfigures(len(heights) + 1, 1, height_ratios=[*heights, 0.3])
    for words, area, title, text, section in zip(areas[::2], areas[1::2], titles, figures, found, strict=True):
        words.text(0.015, 0.93, title, va="top", fontsize=11.5, weight="bold")
        words.text(0.015, 0.06, text, va="bottom", color=TEXT_GREY, linespacing=1.3)
        section.draw(area)
    foot.text(0.015, 0.2, f"Trained on {what}.", color=TEXT_GREY)
    return figure
