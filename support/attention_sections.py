"""What an attention picture shows of each kind of attention, and what it says of it in numbers."""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import SubFigure
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from support.attention import View, ask, class_means, frames, grad_cam, weight_figures, weight_maps
from support.attention_panels import (
    Panel,
    Section,
    class_name,
    class_names,
    colour_bar,
    first_of_each_class,
    heat,
    photograph,
    plain_ticks,
    strip,
)
from support.dataset import Data
from support.figures import WIDTH

QUERIES = {"A": (16, 16), "B": (8, 24)}  # (row, column) of the pixels whose attention is drawn
MARKS = {"A": "#D55E00", "B": "#009E73"}
IMAGES_ACROSS, IMAGES_DOWN = 8, 4
CHANNELS = 20  # of those gated most differently between classes
CLASSES = 10


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


def weights_section(model: nn.Module, view: View, data: Data) -> Section:
    """Where positions attend to: each photograph with a map for each head or query beside it."""
    chosen = first_of_each_class(data, IMAGES_DOWN)
    images = data.test_images[chosen]
    maps = weight_maps(model, view, images)  # (N, heads, h, w, h, w)
    heads, h, w = maps.shape[1:4]
    positions, change, distance = weight_figures(model, view, data.test_images)
    queries = ["A", "B"] if heads == 1 else ["A"]
    columns = [(head, query) for head in range(min(heads, 8)) for query in queries]
    norm, colours = LogNorm(1 / 16, 16), "PuOr_r"

    def mark_queries(axes: Axes) -> None:
        for query in queries:
            outline(query, h, w)(axes)

    def group(i: int) -> list[Panel]:
        shown = [photograph(images[i], mark_queries)]
        for head, query in columns:
            values = maps[i, head][cell_of(query, h, w)].clamp(1 / 16, 16)
            shown.append(heat(values, norm, colours, outline(query, h, w)))
        return shown

    across = 2 if len(columns) < 3 and len(images) % 2 == 0 else 1  # images side by side
    groups = [group(i) for i in range(len(images))]
    rows = [[panel for panels in groups[i : i + across] for panel in panels] for i in range(0, len(groups), across)]
    names = [
        f"{query} attends to" if heads == 1 else f"head {head + 1}: {positions[head]:.0f} of {h * w}"
        for head, query in columns
    ]
    finding = (
        f"{view.where}: a position spreads its attention over {positions.mean():.0f} of {h * w} positions (effective "
        f"number). What comes back changes the map by {change:.0%} of its size. The maps of two positions of one "
        f"image are {distance:.2f} apart (cosine distance; 0: the same whoever asks)."
    )
    ticks = {1 / 16: "≤1/16", 1 / 4: "1/4", 1: "1", 4: "4", 16: "≥16"}
    bar = (norm, colours, "1 = equal attention everywhere", ticks)
    height = min(0.84 * WIDTH / len(rows[0]), 1.6)
    return strip(height, finding, rows, [" and ".join(queries), *names] * across, bar)


def positions_section(model: nn.Module, view: View, data: Data) -> Section:
    """A gate of positions, drawn over the range that it takes on the whole test set."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    gates = ask(model, view.block, view.method, data.test_images)[:, 0]  # (N, h, w)
    low, high = gates.min().item(), gates.max().item()
    spread = gates.flatten(1).std(1).mean().item()
    norm = Normalize(low, max(high, low + 1e-6))
    finding = (
        f"{view.where}, positions: gates between {low:.2f} and {high:.2f} (1 lets all through); within one image "
        f"they differ by {spread:.2g} (standard deviation, mean over test images). The colours span only that range."
    )
    photographs = [photograph(image) for image in data.test_images[chosen]]
    maps = [heat(gates[i], norm, "viridis") for i in chosen]
    bar = (norm, "viridis", "gate", plain_ticks(low, (low + high) / 2, high))
    return strip(1.0, finding, [photographs, maps], class_names(data, chosen), bar)


def channels_section(model: nn.Module, view: View, data: Data) -> Section:
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
        f"{view.where}, channels: gates between {gates.min():.2f} and {gates.max():.2f}. From class to class "
        f"a channel's mean gate differs by {spread.mean():.3f} (standard deviation, mean over {len(spread)} channels). "
        f"Below, the {shown.shape[1]} that differ most, each minus its mean over the classes."
    )

    def draw_section(area: SubFigure) -> None:
        area.subplots_adjust(left=0.13, right=0.87, top=0.97, bottom=0.14)
        axes = area.subplots()
        axes.imshow(shown.numpy(), aspect="auto", cmap="PuOr_r", norm=norm, interpolation="none")
        axes.set_yticks(range(len(classes)), [class_name(data, classes[k]) for k in order])
        axes.set(xticks=[], xlabel="channels (their order is arbitrary; those gated alike stand together)")
        colour_bar(area, norm, "PuOr_r", "gate minus channel's mean", plain_ticks(-limit, 0, limit))

    return Section(finding, 0.5 + 0.2 * len(classes), draw_section)


def theta_section(model: nn.Module, view: View, data: Data) -> Section:
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
            f"The frame is the whole image, for every image: over the {len(shift):,} test images no corner lies more "
            f"than {shift.max():.1f} pixels from the image's own. The block changes next to nothing."
        )
    else:
        finding = (
            f"The frame covers {areas.mean():.0%} of the image on average, and its centre moves by {movement:.1f} "
            f"pixels from image to image (mean over the {len(shift):,} test images)."
        )

    def framed(k: int) -> Panel:
        border = corners[chosen[k]].numpy()
        return photograph(
            images[k],
            lambda axes: axes.add_patch(Polygon(border, fill=False, linewidth=2.2, color=MARKS["A"])),
        )

    sampled = ask(model, view.block, view.block.forward, images).add(1).div(2).clamp(0, 1)
    rows = [[framed(k) for k in range(len(images))], [photograph(image) for image in sampled]]
    return strip(1.0, f"{finding} Above: the frame; below: what is sampled.", rows, class_names(data, chosen))


def cam_section(model: nn.Module, data: Data) -> Section | None:
    """Grad-CAM, where a model has no block to ask: each photograph as bright as its map."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    images = data.test_images[chosen]
    cam = grad_cam(model, images, data.test_labels[chosen])
    if cam is None:
        return None
    share = cam.flatten(1)
    half = (share.sort(dim=1, descending=True).values.cumsum(1) < share.sum(1, keepdim=True) / 2).sum(1) + 1
    finding = (
        f"No attention here: Grad-CAM, the positions of the last feature map ({cam.shape[1]}x{cam.shape[2]}) that "
        f"raise the true class's score, for comparison. In these images half of it lies on {half.float().mean():.0f} "
        f"of {share.shape[1]} positions. Below, 1 is each image's maximum."
    )
    norm = Normalize(0, 1)
    rows = [[photograph(image) for image in images], [heat(values, norm, "viridis") for values in cam]]
    bar = (norm, "viridis", "Grad-CAM", plain_ticks(0, 0.5, 1))
    return strip(1.0, finding, rows, class_names(data, chosen), bar)


SECTIONS = {
    "weights": weights_section,
    "positions": positions_section,
    "channels": channels_section,
    "theta": theta_section,
}
