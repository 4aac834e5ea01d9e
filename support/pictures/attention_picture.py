"""The picture of what a trained model attends to: numbers, the words for them, and their layout."""

import textwrap
from collections.abc import Iterable

import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon
from torch import Tensor, nn

from support.data.dataset import Data
from support.pictures import attention_numbers as numbers
from support.pictures import attention_words as words
from support.pictures.attention_layout import (
    ATTENTION,
    INK,
    QUERIES,
    Scale,
    Section,
    attention,
    colour_bar,
    heat,
    name_queries,
    outline,
    panel_rows,
    photograph,
    plain_ticks,
)
from support.pictures.curves import shown_name
from support.pictures.style import DPI, TEXT_GREY, WIDTH, default_style, save, shorten
from support.run.record import Record

HEADS = 4
CHANNELS = 20  # of those gated most differently between classes


def draw(record: Record) -> None:
    """Draws what a record's model attends to, into `<run>.attention.png`."""
    model, data, name = record.model, record.data, shown_name(record.options.name)
    figure = draw_figure(model, data, name, f"{data.name}, epoch {len(record.history)}")
    if figure is None:
        print("No attention picture: the model has no block with weights(), gate() or theta(), and no feature map")
        return
    save(figure, record.options.out / f"{record.options.name}.attention.png")


@default_style
def draw_figure(model: nn.Module, data: Data, name: str, trained_on: str) -> Figure | None:
    """The picture of a model, each section under its finding; None where there is nothing to draw."""
    model.eval()
    sections = find_sections(model, data)
    if not sections:
        return None
    titles = [textwrap.fill(f"{name}: {section.words[0]}", 88) for section in sections]
    texts = [textwrap.fill(section.words[1], 128) for section in sections]
    heights = []
    for title, text, section in zip(titles, texts, sections, strict=True):
        heights += [0.55 + 0.2 * title.count("\n") + 0.17 * text.count("\n"), section.height]
    figure = Figure(figsize=(WIDTH, 0.3 + sum(heights)), dpi=DPI)
    *areas, foot = figure.subfigures(len(heights) + 1, 1, height_ratios=[*heights, 0.3])
    for head, body, title, text, section in zip(areas[::2], areas[1::2], titles, texts, sections, strict=True):
        head.text(0.015, 0.93, title, va="top", fontsize=11.5, weight="bold")
        head.text(0.015, 0.06, text, va="bottom", color=TEXT_GREY, linespacing=1.3)
        section.draw(body)
    foot.text(0.015, 0.2, f"Trained on {trained_on}.", color=TEXT_GREY)
    return figure


def find_sections(model: nn.Module, data: Data) -> list[Section]:
    """A section for one or two blocks that can be queried; Grad-CAM where there is none."""
    probes = numbers.find_probes(model, data.test_images)
    sections = []
    for kind, (count, measure, lay_out, images) in KINDS.items():
        chosen = first_of_each_class(data, images)
        of_kind = [measure(model, probe, data, chosen) for probe in probes if probe.kind == kind]
        sections += [lay_out(of_kind[i : i + count], data, chosen) for i in range(0, len(of_kind), count)]
    if not sections:
        chosen = first_of_each_class(data, 8)
        if cam := numbers.grad_cam(model, data.test_images[chosen], data.test_labels[chosen]):
            sections.append(lay_out_cam(cam, data, chosen))
    return sections


def first_of_each_class(data: Data, count: int) -> Tensor:
    """The indices of the first test image of each of the first classes."""
    labels = data.test_labels.unique()[:count]
    return torch.stack([(data.test_labels == label).nonzero()[0, 0] for label in labels])


def class_names(data: Data, labels: Iterable[int]) -> list[str]:
    return [shorten(data.classes[label], 14) for label in labels]


def lay_out_weights(blocks: list[numbers.Weights], data: Data, chosen: Tensor) -> Section:
    """A row for each image, in it each block's maps of the two queries, or of A for each head."""
    titles, columns, queries = ["image"], [], set()
    for block in blocks:
        heads = block.maps.shape[1]
        shown = [(0, query) for query in QUERIES] if heads == 1 else [(head, "A") for head in range(min(heads, HEADS))]
        columns.append([None] * len(chosen))
        for head, query in shown:
            queries.add(query)
            columns.append(attention(block.maps, head, query))
            source = f"query {query}" if heads == 1 else f"head {head + 1}: {block.spread[head]:.0f}"
            titles.append(f"{block.where}\n{source}")
    columns.insert(0, [photograph(image, name_queries(queries)) for image in data.test_images[chosen]])
    rows = list(zip(class_names(data, data.test_labels[chosen]), zip(*columns, strict=True), strict=True))
    return panel_rows(words.of_weights(blocks), rows, titles, ATTENTION)


def lay_out_positions(blocks: list[numbers.Positions], data: Data, chosen: Tensor) -> Section:
    """Gates of positions, drawn over the range that they take on the whole test set."""
    low, high = min(block.low for block in blocks), max(block.high for block in blocks)
    scale = Scale(Normalize(low, max(high, low + 1e-6)), INK, "gate", plain_ticks(low, (low + high) / 2, high))
    rows = [("", [photograph(image) for image in data.test_images[chosen]])]
    rows += [(block.where, [heat(gate, scale) for gate in block.maps]) for block in blocks]
    return panel_rows(words.of_positions(blocks), rows, class_names(data, data.test_labels[chosen]), scale)


def lay_out_channels(blocks: list[numbers.Channels], data: Data, chosen: Tensor) -> Section:
    """Which channels are gated differently for different classes: of each block the twenty that differ most."""
    leading = max(blocks, key=lambda block: block.spread.mean())
    # along its first principal component those treated the same way stand together
    component = torch.linalg.svd(leading.difference, full_matrices=False)[0][:, 0]
    order = component.argsort()
    labels = numbers.first_classes(data)
    names = class_names(data, [labels[k] for k in order])
    limit = max(1e-6, *(block.difference.abs().max().item() for block in blocks))
    scale = Scale(Normalize(-limit, limit), "PuOr_r", "class mean minus overall mean", plain_ticks(-limit, 0, limit))

    def draw(area: SubFigure) -> None:
        area.subplots_adjust(left=0.115, right=0.885, top=0.9, bottom=0.12, wspace=0.04)
        places = area.subplots(1, len(blocks), squeeze=False)[0]
        for axes, block in zip(places, blocks, strict=True):
            shown = block.difference[:, block.spread.argsort(descending=True)[:CHANNELS]]
            shown = shown[order][:, (component @ shown).argsort()]
            axes.imshow(shown.numpy(), aspect="auto", cmap=scale.colours, norm=scale.norm, interpolation="none")
            axes.set(
                xticks=[],
                yticks=[],
                xlabel=f"the {shown.shape[1]} of {len(block.spread)} channels that vary most",
            )
            axes.set_title(block.where, fontsize=9, pad=3)
        places[0].set_yticks(range(len(names)), names)
        colour_bar(area, scale, 0.9)

    return Section(words.of_channels(blocks, names), 0.55 + 0.2 * len(names), draw)


def lay_out_frame(blocks: list[numbers.Frame], data: Data, chosen: Tensor) -> Section:
    """The frame that is sampled from each image, and what is sampled."""
    [frame] = blocks
    borders = [outline(Polygon(border)) for border in frame.corners.numpy()]
    images = list(map(photograph, data.test_images[chosen], borders))
    rows = [("frame", images), ("sampled", list(map(photograph, frame.sampled)))]
    return panel_rows(words.of_frame(frame), rows, class_names(data, data.test_labels[chosen]))


def lay_out_cam(cam: numbers.Cam, data: Data, chosen: Tensor) -> Section:
    scale = Scale(Normalize(0, 1), INK, "Grad-CAM", plain_ticks(0, 0.5, 1))
    rows = [("", list(map(photograph, data.test_images[chosen])))]
    rows.append(("Grad-CAM", [heat(values, scale) for values in cam.maps]))
    return panel_rows(words.of_cam(cam), rows, class_names(data, data.test_labels[chosen]), scale)


# of each kind: how many blocks a section takes, what measures and lays out, and how many images it shows
KINDS = {
    "weights": (2, numbers.weights, lay_out_weights, 4),
    "channels": (2, numbers.channels, lay_out_channels, 1),
    "positions": (2, numbers.positions, lay_out_positions, 8),
    "theta": (1, numbers.frame, lay_out_frame, 8),
}
