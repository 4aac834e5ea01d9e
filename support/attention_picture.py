"""The picture of what a trained model attends to, with its finding in numbers as the title."""

from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor, nn

from support.attention import (
    View,
    ask,
    class_means,
    find_views,
    frames,
    grad_cam,
    weight_figures,
    weight_maps,
)
from support.dataset import Data, fingerprint, printable
from support.figures import DPI, WIDTH, plainly, save
from support.record import Record

QUERIES = {"A": (16, 16), "B": (8, 24)}  # (row, column) of the pixels whose attention is drawn
MARKS = {"A": "#D55E00", "B": "#009E73"}
IMAGES_ACROSS, IMAGES_DOWN = 8, 4
CHANNELS = 20  # of those gated most differently between classes
CLASSES = 10

Panel = Callable[[Axes], None]


class Section:
    """A part of the picture: what it found, in a sentence; its height in inches; and how it is drawn."""

    def __init__(self, finding: str, height: float, draw: Callable[[SubFigure], None]):
        self.finding, self.height, self.draw = finding, height, draw


def draw(record: Record) -> None:
    """Draws what a record's model attends to, into `<run>-attention.png`."""
    model, data, name = record.model, record.data, printable(record.options.name).removesuffix("-shapes")
    figure = draw_figure(model, data, f"{name} on {data.name}, epoch {len(record.history)}")
    if figure is None:
        print("No attention picture: the model has neither a block to ask nor a feature map")
        return
    path = record.options.out / f"{record.options.name}-attention.png"
    save(figure, path, Source=fingerprint(data))


@plainly
def draw_figure(model: nn.Module, data: Data, title: str) -> Figure | None:
    """The picture of a model; None where there is nothing to draw."""
    model.eval()
    found = sections(model, data)
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, 0.4 + sum(0.75 + part.height for part in found)), dpi=DPI)
    heights = [0.4, *(height for part in found for height in (0.75, part.height))]
    title_area, *areas = figure.subfigures(len(heights), 1, height_ratios=heights)
    title_area.text(0.5, 0.4, title, ha="center", va="center", fontsize=11.5, weight="bold")
    for words, area, part in zip(areas[::2], areas[1::2], found, strict=True):
        words.text(0.02, 0.5, part.finding, va="center", fontsize=10, linespacing=1.4)
        part.draw(area)
    return figure


def sections(model: nn.Module, data: Data) -> list[Section]:
    views = find_views(model, data.test_images)
    if not views:
        return cam_section(model, data)
    parts = []
    for view in views:
        parts += {
            "weights": weights_section,
            "positions": positions_section,
            "channels": channels_section,
            "theta": theta_section,
        }[view.kind](model, view, data)
    return parts


# ---- panels --------------------------------------------------------------------------------------------


def first_of_each_class(data: Data, count: int) -> Tensor:
    """The numbers of the first test image of each of the first classes."""
    labels = data.test_labels.unique()[:count]
    return torch.stack([(data.test_labels == label).nonzero()[0, 0] for label in labels])


def fill(area: SubFigure, panels: list[list[Panel]], titles: list[str], right: float = 0.98) -> None:
    """Lays panels out in rows, all over the 32x32 pixels of an image, with titles above the first row."""
    area.subplots_adjust(left=0.02, right=right, top=1 - 0.22 / area.bbox.height * DPI, bottom=0.02,
                         wspace=0.06, hspace=0.06)  # fmt: skip
    for row, places in zip(panels, area.subplots(len(panels), len(panels[0]), squeeze=False), strict=True):
        for panel, axes in zip(row, places, strict=True):
            panel(axes)
            axes.set(xlim=(0, 32), ylim=(32, 0), xticks=[], yticks=[], aspect="equal")
    for axes, title in zip(area.axes, titles, strict=False):
        axes.set_title(title if len(title) < 15 else f"{title[:13]}…", fontsize=9, pad=3)


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


def colour_bar(area: SubFigure, norm: Normalize, colours: str, label: str, ticks: list[float]) -> None:
    place = area.add_axes((0.925, 0.08, 0.014, 0.78))
    bar = area.colorbar(ScalarMappable(norm, colours), cax=place, label=label)
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()


def class_names(data: Data, chosen: Tensor) -> list[str]:
    return [data.classes[label] for label in data.test_labels[chosen]]


# ---- a section for each kind of attention --------------------------------------------------------------


def cell_of(query: str, h: int, w: int) -> tuple[int, int]:
    """The row and column of the map's cell that a query pixel lies in."""
    row, column = QUERIES[query]
    return row * h // 32, column * w // 32


def outline(query: str, h: int, w: int) -> Panel:
    """Draws the border of the cell that a query pixel lies in."""

    def decorate(axes: Axes) -> None:
        row, column = cell_of(query, h, w)
        height, width = 32 / h, 32 / w
        place = (column * width, row * height)
        axes.add_patch(Rectangle(place, width, height, fill=False, linewidth=2.2, color=MARKS[query]))

    return decorate


def weights_section(model: nn.Module, view: View, data: Data) -> list[Section]:
    """Where positions attend to: an image a row, its photograph, then a map for each head or query."""
    chosen = first_of_each_class(data, IMAGES_DOWN)
    images = data.test_images[chosen]
    maps = weight_maps(model, view, images)  # (N, heads, h, w, h, w)
    heads, h, w = maps.shape[1:4]
    positions, change, distance = weight_figures(model, view, data.test_images)
    queries = ["A", "B"] if heads == 1 else ["A"]
    columns = [(head, query) for head in range(min(heads, 8)) for query in queries]
    norm, colours = LogNorm(1 / 16, 16), "PuOr_r"

    def draw_section(area: SubFigure) -> None:
        def row(i: int) -> list[Panel]:
            def marks(axes: Axes) -> None:
                for query in queries:
                    outline(query, h, w)(axes)

            shown = [photograph(images[i], marks)]
            for head, query in columns:
                values = maps[i, head, *cell_of(query, h, w)].clamp(1 / 16, 16)
                shown.append(heat(values, norm, colours, outline(query, h, w)))
            return shown

        titles = [f"{query} attends to" if heads == 1 else f"head {head + 1}: {positions[head]:.0f} of {h * w}"
                  for head, query in columns]  # fmt: skip
        fill(area, [row(i) for i in range(len(images))], [" and ".join(queries), *titles], right=0.9)
        label = "attention, 1 = equal everywhere"
        colour_bar(area, norm, colours, label, [1 / 16, 1 / 4, 1, 4, 16])

    width = 0.88 * WIDTH / (len(columns) + 1)
    finding = (
        f"{view.where}: a position spreads its attention over {positions.mean():.0f} of {h * w} positions (effective "
        f"number). What comes back changes the map by {change:.0%}\nof its size. The maps of two positions of one image "
        f"are {distance:.2f} apart (cosine distance; 0: the same whoever asks)."
    )
    return [Section(finding, 0.25 + min(width, 1.6) * len(images), draw_section)]


def strip(
    view_height: float, finding: str, rows: list[list[Panel]], titles: list[str], bar: tuple | None = None
) -> Section:
    """A section with images side by side and what belongs to each below it."""

    def draw_section(area: SubFigure) -> None:
        fill(area, rows, titles, right=0.9 if bar else 0.98)
        if bar:
            colour_bar(area, *bar)

    return Section(finding, 0.25 + view_height * len(rows), draw_section)


def positions_section(model: nn.Module, view: View, data: Data) -> list[Section]:
    """A gate of positions, drawn over the range that it takes on the whole test set."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    gates = ask(model, view.block, view.method, data.test_images)[:, 0]  # (N, h, w)
    low, high = gates.min().item(), gates.max().item()
    spread = gates.flatten(1).std(1).mean().item()
    norm = Normalize(low, max(high, low + 1e-6))
    finding = (
        f"{view.where}, positions: gates between {low:.2f} and {high:.2f} (1 lets all through); within one image they "
        f"differ by {spread:.3f}\n(standard deviation, mean over the test images). The colours span only that range."
    )
    photographs = [photograph(image) for image in data.test_images[chosen]]
    maps = [heat(gates[i], norm, "viridis") for i in chosen]
    bar = (norm, "viridis", "gate", [low, (low + high) / 2, high])
    return [strip(1.0, finding, [photographs, maps], class_names(data, chosen), bar)]


def channels_section(model: nn.Module, view: View, data: Data) -> list[Section]:
    """Which channels are gated differently for different classes, the twenty that differ most."""
    gates = ask(model, view.block, view.method, data.test_images)  # (N, C)
    classes = data.test_labels.unique()[:CLASSES].tolist()
    means = class_means(gates, data.test_labels, classes)  # (K, C)
    difference = means - means.mean(0)
    spread = difference.square().mean(0).sqrt()  # (C,) standard deviation between the classes
    shown = difference[:, spread.argsort(descending=True)[:CHANNELS]]
    # along the first principal component those treated alike stand together
    left, _, right = torch.linalg.svd(shown, full_matrices=False)
    order = left[:, 0].argsort()
    shown = shown[order][:, right[0].argsort()]
    limit = max(shown.abs().max().item(), 1e-6)
    norm = Normalize(-limit, limit)
    finding = (
        f"{view.where}, channels: gates between {gates.min():.2f} and {gates.max():.2f}. From class to class a "
        f"channel's mean gate differs by {spread.mean():.3f}\n(standard deviation, mean over the {len(spread)} channels); "
        f"below, the {shown.shape[1]} that differ most, each minus its mean over the classes."
    )

    def draw_section(area: SubFigure) -> None:
        area.subplots_adjust(left=0.13, right=0.9, top=0.97, bottom=0.14)
        axes = area.subplots()
        axes.imshow(shown.numpy(), aspect="auto", cmap="PuOr_r", norm=norm, interpolation="none")
        names = [data.classes[classes[k]] for k in order]
        axes.set_yticks(range(len(names)), [name if len(name) < 15 else f"{name[:13]}…" for name in names])
        axes.set(xticks=[], xlabel="channels (their order is arbitrary; those gated alike stand together)")
        colour_bar(area, norm, "PuOr_r", "gate minus channel's mean", [-limit, 0, limit])

    return [Section(finding, 0.5 + 0.2 * len(classes), draw_section)]


def theta_section(model: nn.Module, view: View, data: Data) -> list[Section]:
    """The frame that is sampled from each image, and what is sampled."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    images = data.test_images[chosen]
    corners = frames(ask(model, view.block, view.method, data.test_images))  # (N, 4, 2)
    whole = frames(torch.eye(2, 3)[None])
    shift = (corners - whole).norm(dim=2)  # (N, 4) pixels
    x, y = corners.unbind(2)
    areas = (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1).abs() / 2 / 32**2
    centres = corners.mean(1)  # (N, 2)
    movement = (centres - centres.mean(0)).norm(dim=1).mean()
    if shift.max() < 1:
        finding = (
            f"The frame is the whole image, for every image: over the {len(shift):,} test images no corner lies more than "
            f"{shift.max():.1f} pixels\nfrom the image's own. The block changes next to nothing."
        )
    else:
        finding = (
            f"The frame covers {areas.mean():.0%} of the image on average, and its centre moves by {movement:.1f} pixels "
            f"from image to image\n(mean over the {len(shift):,} test images)."
        )

    def framed(k: int) -> Panel:
        border = corners[chosen[k]].numpy()
        return photograph(
            images[k], lambda axes: axes.add_patch(Polygon(border, fill=False, linewidth=2.2, color=MARKS["A"]))
        )

    sampled = ask(model, view.block, view.block.forward, images).add(1).div(2).clamp(0, 1)
    rows = [[framed(k) for k in range(len(images))], [photograph(image) for image in sampled]]
    return [strip(1.05, f"{finding} Above: the frame; below: what is sampled.", rows, class_names(data, chosen))]


def cam_section(model: nn.Module, data: Data) -> list[Section]:
    """Grad-CAM, where a model has no block to ask: each photograph as bright as its map."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    images = data.test_images[chosen]
    cam = grad_cam(model, images, data.test_labels[chosen])
    if cam is None:
        return []
    share = cam.flatten(1)
    half = (share.sort(dim=1, descending=True).values.cumsum(1) < share.sum(1, keepdim=True) / 2).sum(1) + 1
    finding = (
        f"No attention here: Grad-CAM, the positions of the last feature map ({cam.shape[1]}x{cam.shape[2]}) that raise the "
        f"true class's score, for comparison.\nIn these images half of it lies on {half.float().mean():.0f} of "
        f"{share.shape[1]} positions. Below, 1 is each image's maximum."
    )
    norm = Normalize(0, 1)
    rows = [[photograph(image) for image in images], [heat(values, norm, "viridis") for values in cam]]
    return [strip(1.0, finding, rows, class_names(data, chosen), (norm, "viridis", "Grad-CAM", [0, 0.5, 1]))]
