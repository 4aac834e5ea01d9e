"""The picture of what a trained network attends to."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor, nn
from torch.nn import functional as F

from support.data.dataset import Data
from support.pictures.attention import Block, ask, attention, corners, find_blocks, grad_cam, statistics
from support.pictures.curves import shown_name
from support.pictures.style import DPI, TEXT_GREY, WIDTH, default_style, save, shorten
from support.run.record import Record

Panel = Callable[[Axes], None]  # draws something over an image's 32x32 pixels
Column = tuple[str, Sequence[Panel]]  # a title, and a panel for each row
QUERIES = {"A": (18, 18), "B": (10, 26)}  # (row, column) of the pixels whose attention is drawn
CLASSES, IMAGES, ROWS, HEADS, CHANNELS = 10, 8, 4, 4, 20  # at most; channels: those that differ most by class
GAP = 0.15  # between blocks, of a panel's width


class Scale(NamedTuple):
    """The colours of maps: the more attention, the darker."""

    norm: Normalize
    label: str
    ticks: dict[float, str] | None = None
    colours: str = "Blues"


RELATIVE = Scale(
    LogNorm(1 / 16, 16),
    "attention (1: uniform)",
    {1 / 16: "≤1/16", 1 / 4: "1/4", 1: "1", 4: "4", 16: "≥16"},
)


class Section(NamedTuple):
    """A part of the picture, its title above and its text below."""

    title: str
    text: str
    height: float  # of what is between, in inches
    draw: Callable[[SubFigure], None]


def draw(record: Record) -> Path | None:
    """Draws what a record's model attends to; returns the picture's path, or None after saying why there is none."""
    name, data = record.options.name, record.data
    figure = draw_figure(record.model, data, shown_name(name), f"{data.name}, epoch {len(record.history)}")
    if figure is None:
        print("No attention picture: the model has no block with weights(), gate() or theta(), and no feature map")
        return None
    path = record.options.out / f"{name}.attention.png"
    record.update(path, lambda path: save(figure, path))
    return path


def draw_figure(model: nn.Module, data: Data, name: str, trained_on: str) -> Figure | None:
    """A section for one or two blocks of a kind, or Grad-CAM if there are no blocks; None if that is impossible."""
    labels = data.test_labels.unique()[:IMAGES]
    chosen = torch.stack([(data.test_labels == label).nonzero()[0, 0] for label in labels])
    blocks, _ = find_blocks(model, data.test_images)
    sections = []
    if blocks:
        measured = ask(model, blocks, data.test_images, statistics)
        shown = ask(model, blocks, data.test_images[chosen], attention)
        for kind, (count, section) in SECTIONS.items():
            of_kind = [(block, measured[block], shown[block]) for block in blocks if block.kind == kind]
            for i in range(0, len(of_kind), count):
                sections.append(section(*zip(*of_kind[i : i + count], strict=True), data, chosen))
    elif (maps := grad_cam(model, data.test_images[chosen], labels)) is not None:
        sections.append(of_grad_cam(maps, data, chosen))
    return lay_out(sections, name, f"Trained on {trained_on}.") if sections else None


@default_style
def lay_out(sections: list[Section], name: str, foot: str) -> Figure:
    titles = [textwrap.fill(f"{name}: {section.title}", 92) for section in sections]
    texts = [textwrap.fill(section.text, 130) for section in sections]
    texts[-1] += f"\n{foot}"
    heights = [
        0.75 + section.height + 0.19 * title.count("\n") + 0.165 * text.count("\n")
        for title, text, section in zip(titles, texts, sections, strict=True)
    ]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    areas = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for area, title, text, section in zip(areas, titles, texts, sections, strict=True):
        area.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        area.supxlabel(text, x=0.01, ha="left", fontsize=9, color=TEXT_GREY, linespacing=1.3)
        section.draw(area)
    return figure


# ---- sections: for blocks of a kind, with what was measured and what they answer for the chosen images ----


def of_weights(blocks: list[Block], measured: list[Tensor], shown: list[Tensor], data: Data, chosen: Tensor) -> Section:
    """A row for each image, with the blocks' maps for the two queries, or for A in each head."""
    looks, queries = ("head", "A") if any(block.shape[0] > 1 for block in blocks) else ("position", "AB")
    reach = [f"{of.mean():.0f} of {block.shape[-1]} positions" for of, block in zip(measured, blocks, strict=True)]
    text = (
        f"Each map shows what the position in the square ({' or '.join(queries)} in the image) attends to; 1 on the "
        "scale is what every position would get if attention were uniform. The number of positions is exp(entropy), "
        "averaged over the test images."
    )
    images = data.test_images[chosen[:ROWS]]
    columns = [("image", [photograph(image, name_queries(queries)) for image in images])]
    for block, answer in zip(blocks, shown, strict=True):
        columns += [None, *weights_columns(block, answer[:ROWS], queries)]
    title = f"on average, a {looks} attends to {for_each(blocks, '{}', reach)}"
    return grid(title, text, columns, class_names(data, data.test_labels[chosen[:ROWS]]), RELATIVE)


def of_channels(blocks: list[Block], measured: list[Tensor], _: list[Tensor], data: Data, chosen: Tensor) -> Section:
    """The channels that are gated most differently for different classes: twenty for each block."""
    labels = data.test_labels.unique()[:CLASSES]
    means = [torch.stack([gates[data.test_labels == label].mean(0) for label in labels]) for gates in measured]
    differences = [mean - mean.mean(0) for mean in means]  # (K, C)
    spreads = [difference.square().mean(0).sqrt() for difference in differences]  # (C,)
    # along the first principal component, classes and channels that are treated the same way stand together
    component = torch.linalg.svd(max(differences, key=torch.linalg.norm), full_matrices=False)[0][:, 0]
    order = component.argsort()
    limit = max(1e-6, *(difference.abs().max().item() for difference in differences))
    scale = Scale(Normalize(-limit, limit), "class minus average", colours="PuOr_r")

    def draw(area: SubFigure) -> None:
        places = area.subplots(1, len(blocks), squeeze=False)[0]
        for axes, block, difference, spread in zip(places, blocks, differences, spreads, strict=True):
            values = difference[:, spread.argsort(descending=True)[:CHANNELS]]
            values = values[order][:, (component @ values).argsort()]
            axes.imshow(values.numpy(), aspect="auto", cmap=scale.colours, norm=scale.norm, interpolation="none")
            axes.set(xticks=[], yticks=[], xlabel=f"the {values.shape[1]} of {len(spread)} channels that vary most")
            axes.set_title(block.where, fontsize=9, pad=3)
        places[0].set_yticks(range(len(labels)), class_names(data, labels[order]))
        colour_bar(area, list(places), scale)

    text = (
        "A channel is multiplied by its gate: 0 switches it off, 1 leaves it as it is. Orange: for images of this "
        "class, the gate is larger than for the average class; violet: smaller. From class to class, a channel's mean "
        f"gate has a standard deviation of {for_each(blocks, '{:.3f}', [spread.mean() for spread in spreads])}, "
        "averaged over the channels."
    )
    return Section(f"channel gates {ranges(blocks, measured)}", text, 0.4 + 0.2 * max(len(labels), 6), draw)


def of_positions(
    blocks: list[Block], measured: list[Tensor], shown: list[Tensor], data: Data, chosen: Tensor
) -> Section:
    """Gates of positions; the scale leaves out the extremes, since a few can lie far from the others."""
    low, high = np.quantile(torch.cat([gates.flatten() for gates in measured]).numpy(), [0.02, 0.98])
    scale = Scale(Normalize(low, max(high, low + 1e-6)), "gate")
    varies = for_each(blocks, "{:.2g}", [gates.flatten(1).std(1).mean() for gates in measured])
    text = (
        "A position is multiplied by its gate: 0 switches it off, 1 leaves it as it is. The darker, the larger the "
        "gate; the scale leaves out the largest and smallest 2% of all test images' gates. Within an image, gates have "
        f"a standard deviation of {varies}, averaged over the test images."
    )
    rows = [(block.where, [heat(gates, scale) for gates in maps]) for block, maps in zip(blocks, shown, strict=True)]
    return image_columns(f"position gates {ranges(blocks, measured)}", text, rows, data, chosen, scale)


def of_theta(blocks: list[Block], measured: list[Tensor], shown: list[Tensor], data: Data, chosen: Tensor) -> Section:
    """The frame that is sampled from each image, and what is sampled."""
    [theta], centres = measured, corners(measured[0]).mean(1)  # (N, 2, 3), (N, 2)
    area, moves = theta[:, :, :2].det().abs().mean(), (centres - centres.mean(0)).norm(dim=1).mean()
    text = (
        "For each image the block chooses a frame (white), and the network sees only what is in it, stretched to the "
        "size of the image (lower row); what lies outside the image is grey. The centre's movement is its mean "
        f"distance from its average position over the {len(theta):,} test images."
    )
    panels = [frame_panels(image, one) for image, one in zip(data.test_images[chosen], shown[0], strict=True)]
    columns = list(zip(class_names(data, data.test_labels[chosen]), panels, strict=True))
    title = f"the frame covers {area:.0%} of the image on average; its centre moves by {moves:.1f} pixels"
    return grid(title, text, columns, ["frame", "what the\nnetwork sees"])


def of_grad_cam(maps: Tensor, data: Data, chosen: Tensor) -> Section:
    """For comparison, where a network without attention finds evidence of a class."""
    share, total = maps.flatten(1), maps.sum((1, 2))
    half = (share.sort(descending=True).values.cumsum(1) < total[:, None] / 2).sum(1) + (total > 0)
    height, width = maps.shape[1:]
    text = (
        "Grad-CAM (Selvaraju et al. 2017) estimates from gradients which positions of the last feature map "
        f"({height}x{width}) raise the score of the image's class. They need not lie on the object; in a blank map, "
        "none does. Each map is scaled to its own maximum."
    )
    scale = Scale(Normalize(0, 1), "Grad-CAM")
    title = f"no attention block; half of Grad-CAM lies in {half.float().mean():.0f} of {height * width} positions"
    return image_columns(title, text, [("Grad-CAM", [heat(one, scale) for one in maps])], data, chosen, scale)


# how many blocks of a kind a section takes, and what lays it out
SECTIONS = {
    "weights": (2, of_weights),
    "channels": (2, of_channels),
    "positions": (2, of_positions),
    "theta": (1, of_theta),
}


def for_each(blocks: list[Block], form: str, values: Iterable) -> str:
    """`1 (8x8 map) and 2 (4x4 map)`."""
    return " and ".join(f"{form.format(value)} ({block.where})" for block, value in zip(blocks, values, strict=True))


def ranges(blocks: list[Block], gates: list[Tensor]) -> str:
    return for_each(blocks, "{}", [f"from {values.min():.2f} to {values.max():.2f}" for values in gates])


def class_names(data: Data, labels: Iterable[int]) -> list[str]:
    return [shorten(data.classes[label], 14) for label in labels]


# ---- panels ------------------------------------------------------------------------------------------------


def photograph(image: Tensor, decorate: Panel = lambda axes: None) -> Panel:
    """An image (3, H, W) uint8, of any size."""

    def panel(axes: Axes) -> None:
        axes.imshow(image.permute(1, 2, 0).numpy(), extent=(0, 32, 32, 0))
        decorate(axes)

    return panel


def heat(values: Tensor, scale: Scale, decorate: Panel = lambda axes: None) -> Panel:
    """A map (H, W)."""

    def panel(axes: Axes) -> None:
        axes.imshow(values.numpy(), extent=(0, 32, 32, 0), norm=scale.norm, cmap=scale.colours)
        decorate(axes)

    return panel


def outline(patch: Patch) -> Panel:
    """A patch's border in white between black, to be seen on any image."""
    patch.set(
        fill=False, edgecolor="white", linewidth=1.6, path_effects=[withStroke(linewidth=3.6, foreground="black")]
    )
    return lambda axes: axes.add_patch(patch)


def name_queries(names: str) -> Panel:
    """Queries' letters at their pixels."""

    def decorate(axes: Axes) -> None:
        for name in names:
            row, column = QUERIES[name]
            box = {"color": "black", "pad": 1.5}
            axes.text(column, row, name, color="white", weight="bold", fontsize=7, ha="center", va="center", bbox=box)

    return decorate


def weights_columns(block: Block, answer: Tensor, queries: str) -> list[Column]:
    """What queries attend to in images, or what A does in each of several heads; the query's cell is outlined."""
    heads, (h, w) = block.shape[0], block.size
    shown = [(0, query) for query in queries] if heads == 1 else [(head, "A") for head in range(min(heads, HEADS))]
    columns = []
    for head, query in shown:
        row, column = (place * side // 32 for place, side in zip(QUERIES[query], (h, w), strict=True))
        maps = (answer[:, head, row * w + column] * h * w).clamp(RELATIVE.norm.vmin, RELATIVE.norm.vmax)
        cell = (column * 32 / w, row * 32 / h), 32 / w, 32 / h
        panels = [heat(values.reshape(h, w), RELATIVE, outline(Rectangle(*cell))) for values in maps]
        columns.append((f"{block.where}\n{f'query {query}' if heads == 1 else f'head {head + 1}'}", panels))
    return columns


def frame_panels(image: Tensor, theta: Tensor) -> tuple[Panel, Panel]:
    """An image (3, H, W) with the frame on it, and the 32x32 pixels that are sampled from the frame."""
    sampling = F.affine_grid(theta[None], (1, 3, 32, 32), align_corners=False)
    sampled = F.grid_sample(image[None] / 127.5 - 1, sampling, align_corners=False)[0]  # 0, outside, is grey
    frame = outline(Polygon(corners(theta[None])[0].numpy()))
    return photograph(image, frame), photograph(((sampled + 1) * 127.5).round().to(torch.uint8))


def grid(title: str, text: str, columns: list[Column | None], names: list[str], scale: Scale | None = None) -> Section:
    """A section of panels in columns, with names of the rows at the left; None leaves a gap."""
    widths = [1 if column else GAP for column in columns]
    widths.append(max(0.01, 6 - sum(widths)))  # an empty column where there are few
    above = 0.15 * max(column[0].count("\n") for column in columns if column)
    height = above + len(names) * (WIDTH - (2 if scale else 1)) / sum(widths)

    def draw(area: SubFigure) -> None:
        places, drawn = area.add_gridspec(len(names), len(widths), width_ratios=widths), []
        for c, column in enumerate(columns):
            for r, panel in enumerate(column[1] if column else ()):
                drawn.append(axes := area.add_subplot(places[r, c]))
                panel(axes)
                axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], aspect="equal")
                if r == 0:
                    axes.set_title(column[0], fontsize=9, pad=3)
                if c == 0:
                    axes.set_ylabel(names[r], rotation=0, ha="right", va="center")
        if scale:
            colour_bar(area, drawn, scale)

    return Section(title, text, height, draw)


def image_columns(
    title: str, text: str, rows: list[tuple[str, list[Panel]]], data: Data, chosen: Tensor, scale: Scale
) -> Section:
    """A section of named rows of panels, below the images that they belong to."""
    images = [photograph(image) for image in data.test_images[chosen]]
    panels = zip(images, *(panels for _, panels in rows), strict=True)
    columns = list(zip(class_names(data, data.test_labels[chosen]), panels, strict=True))
    return grid(title, text, columns, ["", *(name for name, _ in rows)], scale)


def colour_bar(area: SubFigure, axes: list[Axes], scale: Scale) -> None:
    bar = area.colorbar(ScalarMappable(scale.norm, scale.colours), ax=axes, label=scale.label, aspect=16, shrink=0.8)
    if scale.ticks:
        bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
        bar.minorticks_off()
