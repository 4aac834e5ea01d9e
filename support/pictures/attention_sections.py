"""What an attention picture shows of each kind of attention, and what it says of it, in words and in numbers."""

import torch
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import SubFigure
from matplotlib.patches import Polygon
from torch import nn

from support.data.dataset import Data
from support.pictures.attention import View, ask, class_means, frames, grad_cam, weight_maps, weight_statistics
from support.pictures.attention_panels import (
    INK,
    QUERIES,
    Panel,
    Scale,
    Section,
    cell_of,
    class_names,
    colour_bar,
    first_of_each_class,
    heat,
    mark_cell,
    name_queries,
    outline,
    panel_rows,
    photograph,
    plain_ticks,
)

IMAGES_ACROSS, IMAGES_DOWN = 8, 4
HEADS = 4
CHANNELS = 20  # of those gated most differently between classes
CLASSES = 10


def weights_section(model: nn.Module, views: list[View], data: Data) -> Section:
    """Where positions attend to: a row an image, in it each block's maps of the two queries, or of A for each head."""
    chosen = first_of_each_class(data, IMAGES_DOWN)
    images = data.test_images[chosen]
    ticks = {1 / 16: "≤1/16", 1 / 4: "1/4", 1: "1", 4: "4", 16: "≥16"}
    scale = Scale(LogNorm(1 / 16, 16), INK, "1: equal attention everywhere", ticks)
    findings, figures, titles, asked = [], [], ["image"], set()
    columns: list[list[Panel | None]] = []
    for view in views:
        maps = weight_maps(model, view, images)  # (N, heads, h, w, h, w)
        heads, h, w = maps.shape[1:4]
        spread, change, distance = weight_statistics(model, view, data.test_images)
        share = spread.mean() / (h * w)
        where = "nearly everywhere" if share > 0.75 else "at part of the map" if share > 0.4 else "at few positions"
        findings.append(f"{where} ({view.where})")
        figures.append(
            f"{view.where}: spread {spread.mean():.0f} of {h * w} positions, "
            f"added {change:.0%}, distance {distance:.2f}."
        )
        shown = [(0, query) for query in QUERIES] if heads == 1 else [(head, "A") for head in range(min(heads, HEADS))]
        asked |= {query for _, query in shown}
        columns.append([None] * len(images))
        for head, query in shown:
            row, column = cell_of(query, h, w)
            values = maps[:, head, row, column].clamp(1 / 16, 16)
            columns.append([heat(value, scale, mark_cell(query, h, w)) for value in values])
            titles.append(
                f"{view.where}\n" + (f"from {query}" if heads == 1 else f"head {head + 1}: {spread[head]:.0f}")
            )

    columns.insert(0, [photograph(image, name_queries(asked)) for image in images])
    figures.append(
        "Spread: effective number of positions that a position attends to. Added: the size of what is added, over that "
        "of what it is added to. Distance: between what two positions of an image attend to (cosine; 0: the same, "
        "1: nothing in common). Means over the test images."
    )
    rows = list(zip(class_names(data, data.test_labels[chosen]), zip(*columns, strict=True), strict=True))
    looks = "looks" if heads == 1 else "its heads look"
    return panel_rows(f"{looks} {', '.join(findings)}", " ".join(figures), rows, titles, scale)


def positions_section(model: nn.Module, views: list[View], data: Data) -> Section:
    """Gates of positions, drawn over the range that they take on the whole test set."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    rows = [("", [photograph(image) for image in data.test_images[chosen]])]
    gates = [ask(model, view.block, view.method, data.test_images)[:, 0] for view in views]  # (N, h, w) each
    low, high = min(gate.min().item() for gate in gates), max(gate.max().item() for gate in gates)
    scale = Scale(Normalize(low, max(high, low + 1e-6)), INK, "gate", plain_ticks(low, (low + high) / 2, high))
    spreads = [gate.flatten(1).std(1).mean().item() for gate in gates]
    alike = max(spreads) < 0.05
    finding = "lets all positions through nearly alike" if alike else "lets some positions through more than others"
    figures = " ".join(
        f"{view.where}: gates between {gate.min():.2f} and {gate.max():.2f} (1 lets all through), within an image they "
        f"differ by {spread:.2g} (standard deviation, mean over test images)."
        for view, gate, spread in zip(views, gates, spreads, strict=True)
    )
    rows += [(view.where, [heat(gate[i], scale) for i in chosen]) for view, gate in zip(views, gates, strict=True)]
    return panel_rows(finding, figures, rows, class_names(data, data.test_labels[chosen]), scale)


def channels_section(model: nn.Module, views: list[View], data: Data) -> Section:
    """Which channels are gated differently for different classes: of each block the twenty that differ most."""
    gates = [ask(model, view.block, view.method, data.test_images) for view in views]  # (N, C) each
    classes = data.test_labels.unique()[:CLASSES].tolist()
    means = [class_means(gate, data.test_labels, classes) for gate in gates]  # (K, C) each
    differences = [mean - mean.mean(0) for mean in means]
    spreads = [difference.square().mean(0).sqrt() for difference in differences]  # (C,) each, between the classes
    leading = max(range(len(views)), key=lambda i: spreads[i].mean())  # the block that tells classes apart most
    # along its first principal component those treated alike stand together
    component = torch.linalg.svd(differences[leading], full_matrices=False)[0][:, 0]
    order = component.argsort()
    limit = max(1e-6, *(difference.abs().max().item() for difference in differences))
    scale = Scale(Normalize(-limit, limit), "PuOr_r", "gate minus channel's mean", plain_ticks(-limit, 0, limit))
    names = class_names(data, [classes[k] for k in order])
    finding = "gates channels nearly alike for all classes"
    if spreads[leading].mean() >= 0.005:
        ends = [" and ".join(end) for end in (names[:2], names[-2:])] if len(names) > 3 else [names[0], names[-1]]
        finding = f"opens different channels for {ends[0]} than for {ends[1]} ({views[leading].where})"
    figures = " ".join(
        f"{view.where}: gates between {gate.min():.2f} and {gate.max():.2f}; from class to class a channel's mean gate "
        f"differs by {spread.mean():.3f} (standard deviation, mean over {len(spread)} channels)."
        for view, gate, spread in zip(views, gates, spreads, strict=True)
    )

    def draw(area: SubFigure) -> None:
        area.subplots_adjust(left=0.115, right=0.885, top=0.9, bottom=0.12, wspace=0.04)
        places = area.subplots(1, len(views), squeeze=False)[0]
        for axes, view, difference, spread in zip(places, views, differences, spreads, strict=True):
            shown = difference[:, spread.argsort(descending=True)[:CHANNELS]]
            shown = shown[order][:, (component @ shown).argsort()]
            axes.imshow(shown.numpy(), aspect="auto", cmap=scale.colours, norm=scale.norm, interpolation="none")
            axes.set(xticks=[], yticks=[], xlabel=f"the {shown.shape[1]} of {len(spread)} channels that differ most")
            axes.set_title(view.where, fontsize=9, pad=3)
        places[0].set_yticks(range(len(names)), names)
        colour_bar(area, scale, 0.9)

    return Section(finding, figures, 0.55 + 0.2 * len(classes), draw)


def theta_section(model: nn.Module, views: list[View], data: Data) -> Section:
    """The frame that is sampled from each image, and what is sampled."""
    [view] = views
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    images = data.test_images[chosen]
    theta = ask(model, view.block, view.method, data.test_images)  # (N, 2, 3)
    corners = frames(theta)  # (N, 4, 2)
    shift = (corners - frames(torch.eye(2, 3)[None])).norm(dim=2)  # (N, 4) pixels, from the whole image's corners
    areas = theta[:, :, :2].det().abs()  # as shares of the image's
    centres = corners.mean(1)  # (N, 2)
    movement = (centres - centres.mean(0)).norm(dim=1).mean()
    finding = "changes next to nothing: the frame is the whole image"
    if shift.max() >= 1:
        how = "zooms in" if areas.mean() < 0.9 else "moves its frame"
        finding = (
            f"{how}: to {areas.mean():.0%} of the image, in a place that {'' if movement >= 1 else 'hardly '}varies"
        )
    figures = (
        f"Over the {len(shift):,} test images: the frame covers {areas.mean():.0%} of the image and its centre lies "
        f"{movement:.1f} pixels from where it lies on average (means); no corner is more than {shift.max():.1f} pixels "
        "from the image's own."
    )
    sampled = ask(model, view.block, view.block.forward, images).add(1).div(2).clamp(0, 1)

    borders = [outline(Polygon(border)) for border in corners[chosen].numpy()]
    rows = [("frame", list(map(photograph, images, borders))), ("sampled", list(map(photograph, sampled)))]
    return panel_rows(finding, figures, rows, class_names(data, data.test_labels[chosen]))


def cam_section(model: nn.Module, data: Data) -> Section | None:
    """Grad-CAM, where a model has no block to ask."""
    chosen = first_of_each_class(data, IMAGES_ACROSS)
    images, labels = data.test_images[chosen], data.test_labels[chosen]
    cam = grad_cam(model, images, labels)
    if cam is None:
        return None
    share = cam.flatten(1)
    half = (share.sort(dim=1, descending=True).values.cumsum(1) < share.sum(1, keepdim=True) / 2).sum(1) + 1
    figures = (
        f"For comparison, the positions of the last feature map ({cam.shape[1]}x{cam.shape[2]}) that raise the true "
        f"class's score. {half.float().mean():.0f} of {share.shape[1]} positions hold half of the sum, on average over "
        "these images. The scale goes to each image's own maximum."
    )
    scale = Scale(Normalize(0, 1), INK, "Grad-CAM", plain_ticks(0, 0.5, 1))
    rows = [("", [photograph(image) for image in images]), ("Grad-CAM", [heat(values, scale) for values in cam])]
    return panel_rows(
        "Grad-CAM, since this network has no attention",
        figures,
        rows,
        class_names(data, labels),
        scale,
    )


# of each kind: what draws it, and how many blocks it takes at once
SECTIONS = {
    "weights": (weights_section, 2),
    "channels": (channels_section, 2),
    "positions": (positions_section, 2),
    "theta": (theta_section, 1),
}
