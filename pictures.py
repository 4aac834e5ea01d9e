"""All that is drawn: the data set of shapes, a run's curves, runs compared, what a network attends to."""

import cmath
import io
import math
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageDraw
from torch import Tensor, nn

from common import DRAWN, Data, Epoch, normalize, read_csv, write

# ---- shapes --------------------------------------------------------------------------------------------


def draw_shapes(train: int = 5000, test: int = 1000) -> Data:
    """Ten classes of shapes of random place, size, turn and colour, among clutter; always the same images."""

    def polygon(corners: int, *radii: float) -> list[complex]:
        return [cmath.rect(radii[k % len(radii)], math.tau * k / corners) for k in range(corners)]

    circle = polygon(24, 1)
    shapes = {  # outlines as complex numbers within the unit circle, so that a turn is a multiplication
        "circle": circle,
        "ring": [*circle, 1, 0.55, *(0.55 * point for point in circle[::-1])],
        "semicircle": circle[:13],
        "triangle": polygon(3, 1),
        "square": polygon(4, 1),
        "pentagon": polygon(5, 1),
        "star": polygon(10, 1, 0.4),
        "cross": [1j**k * corner for k in range(4) for corner in (0.9 - 0.3j, 0.9 + 0.3j, 0.3 + 0.3j)],
        "bar": [0.95 + 0.3j, -0.95 + 0.3j, -0.95 - 0.3j, 0.95 - 0.3j],
        "arrow": [1, 0.1 + 0.8j, 0.1 + 0.25j, -0.9 + 0.25j, -0.9 - 0.25j, 0.1 - 0.25j, 0.1 - 0.8j],
    }
    rng = random.Random(0)
    size = 128  # drawn four times as large as needed, then averaged, for smooth edges

    def colour(darkest: int, lightest: int) -> tuple[int, ...]:
        return tuple(rng.randint(darkest, lightest) for _ in "RGB")

    def draw(outline: list[complex]) -> np.ndarray:
        image = Image.new("RGB", (size, size), colour(0, 130))
        pen = ImageDraw.Draw(image)
        for _ in range(8):
            pen.line([rng.randrange(size) for _ in range(4)], colour(0, 160), rng.randint(2, 12))
        radius = rng.uniform(0.2, 0.42) * size
        turn = cmath.rect(radius, rng.uniform(0, math.tau))
        centre = complex(rng.uniform(radius, size - radius), rng.uniform(radius, size - radius))
        points = [centre + turn * point for point in outline]
        pen.polygon([(point.real, point.imag) for point in points], colour(90, 255))
        return np.asarray(image.reduce(4))

    outlines = list(shapes.values())
    labels = torch.arange(train + test) % len(outlines)
    images = torch.from_numpy(np.stack([draw(outlines[label]) for label in labels])).permute(0, 3, 1, 2)
    return Data(DRAWN, list(shapes), images[:train], labels[:train], images[train:], labels[train:])


# ---- curves --------------------------------------------------------------------------------------------

# Colours by Okabe and Ito, which colour-blind readers can tell apart; markers for readers in grey.
STYLES = {
    "CNN": ("#000000", "o"),
    "CNN-32-64-128": ("#000000", "v"),
    "CNN-64-128": ("#888888", "^"),
    "Self-Attention": ("#0072B2", "s"),
    "Multi-Head Attention": ("#56B4E9", "D"),
    "SE-Attention": ("#D55E00", "P"),
    "ECA-Attention": ("#E69F00", "X"),
    "CBAM-Attention": ("#009E73", "*"),
    "STN-Attention": ("#CC79A7", "h"),
}
SPARE_COLOURS = ("#8C564B", "#6A3D9A", "#7F7F00", "#A50F15", "#1B4F72")  # for scripts of the user's own


def plot_run(path: Path, title: str, data: str, history: list[Epoch], epochs: int) -> None:
    """Loss and accuracy of one run, on the training and on the test images.

    Size and axes are the same for every run, so that plots can be flipped through like cards. The loss axis,
    logarithmic for its range of five hundred to one, grows only when a run leaves it.
    """
    figure, loss, accuracy = panels(title, epochs, height=5)
    for part, colour, line in (("train", "#0072B2", "--"), ("test", "#D55E00", "-")):
        style = {"color": colour, "linestyle": line, "label": part}
        style |= {"marker": "o", "markersize": 3 if epochs <= 30 else 0}
        draw(loss, history, f"{part}_loss", style)
        draw(accuracy, history, f"{part}_acc", style)
    losses = [value for epoch in history for value in (epoch.train_loss, epoch.test_loss) if value > 0]
    lowest, highest = (
        10.0 ** turn(math.log10(loss)) for turn, loss in ((math.floor, min(losses)), (math.ceil, max(losses)))
    )
    loss.set(ylim=(min(0.01, lowest), max(10, highest)))
    accuracy.set(ylim=(0, 101), yticks=range(0, 101, 10))
    loss.legend(loc="upper left")
    accuracy.legend(loc="lower right")
    save(figure, path, data)


def plot_comparison(folder: Path, data: str) -> None:
    """Test loss and test accuracy of all the runs in a folder that saw the same data, over one another."""
    ending = "-shapes" if data == DRAWN else ""
    runs = {}
    for path in sorted(folder.glob("*.csv")):
        if data_of(path.with_suffix(".png")) == data and (history := read_csv(path)):
            runs[path.stem.removesuffix(ending)] = history
    if not runs:
        return
    names = [name for name in STYLES if name in runs] + [name for name in runs if name not in STYLES]
    epochs = max(len(history) for history in runs.values())
    figure, loss, accuracy = panels(f"Test loss and test accuracy on {data}", epochs, height=7)
    figure.subplots_adjust(bottom=0.25, top=0.88)
    subs = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)  # for a narrower range than a run's
    loss.yaxis.get_major_locator().set_params(subs=subs)
    for i, name in enumerate(names):
        history = runs[name]
        colour, marker = STYLES.get(
            name, (SPARE_COLOURS[zlib.crc32(name.encode()) % len(SPARE_COLOURS)], ".")
        )
        every = max(1, min(len(names), epochs // 2))
        style = {
            "color": colour,
            "linestyle": "--" if name.startswith("CNN-") else "-",
            "linewidth": 1.3,
            "marker": marker,
            "markersize": 6,
            "markevery": (min(i * every // len(names), len(history) - 1), every),  # few at the same epochs
            "label": f"{name}: {history[-1].test_acc:.2f}% after epoch {len(history)}",
        }
        draw(loss, history, "test_loss", style)
        draw(accuracy, history, "test_acc", style)
    figure.legend(
        *loss.get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        title="Test accuracy after the last epoch",
    )
    save(figure, folder / f"comparison{ending}.png", data)


def panels(title: str, epochs: int, height: float) -> tuple[Figure, Axes, Axes]:
    """A figure with an empty panel for the loss and one for the accuracy."""
    figure = Figure(figsize=(12, height), dpi=100)
    figure.suptitle(title, fontsize=13, parse_math=False)
    loss, accuracy = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.11, top=0.84, wspace=0.15)
    loss.set(title="Loss (cross-entropy, logarithmic)", yscale="log")
    for axis in (loss.yaxis, accuracy.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    loss.yaxis.get_minor_locator().set_params(subs=())
    accuracy.set(title="Accuracy (%)")
    margin = max(0.5, 0.02 * epochs)
    for axes in (loss, accuracy):
        axes.set(xlabel="Epoch", xlim=(1 - margin, epochs + margin))
        axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, loss, accuracy


def draw(axes: Axes, history: list[Epoch], field: str, style: dict) -> None:
    axes.plot([epoch.epoch for epoch in history], [getattr(epoch, field) for epoch in history], **style)


def save(figure: Figure, path: Path, data: str) -> None:
    """Writes a PNG that says in its metadata which data its run saw."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Source": data})
    write(path, buffer.getvalue())


def data_of(plot: Path) -> str | None:
    """The data set that a run's plot was drawn for; None when there is no telling."""
    try:
        with Image.open(plot) as image:
            return image.info.get("Source")
    except OSError:
        return None


# ---- what a network attends to -------------------------------------------------------------------------

QUERIES = ((16, 16), (8, 24))  # (row, column) of the pixels whose attention is drawn: middle, above right


class AttentionPicture:
    """Rows of panels that show what a trained network attends to, on the first test image of each class.

    A script's `look(picture)` adds the rows that suit its block; `picture.network` is the trained network.
    """

    def __init__(self, network: nn.Module, data: Data):
        self.network, self.data = network.eval(), data
        first = [(data.test_labels == label).nonzero()[:1, 0] for label in range(len(data.classes))]
        self.chosen = torch.cat(first)[:10]  # the test images that are drawn
        self.images = data.test_images[self.chosen]
        self.queries = QUERIES
        self.rows = []  # (height in inches, function that draws on a SubFigure)

    def stages(self, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
        """The network's blocks of a class, each with the words that say where it stands."""
        found, stage = [], 0
        for layer in self.network.features:
            stage += isinstance(layer, nn.Conv2d)
            if isinstance(layer, kind):
                found.append((f"after stage {stage}", layer))
        return found

    @torch.no_grad()
    def outputs(self, block: nn.Module, method: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """`method` of what reaches `block` as the network sees the images, (N, ...) on the CPU."""
        results = []
        hook = block.register_forward_pre_hook(lambda _, inputs: results.append(method(inputs[0]).cpu()))
        device = next(self.network.parameters()).device
        for batch in images.split(500):
            self.network(normalize(batch.to(device)))
        hook.remove()
        return torch.cat(results)

    def panels(self, label: str, draw_panel: Callable, scale: tuple | None = None) -> None:
        """A row with a panel for each image, by `draw_panel(axes, i)`. `scale`: meaning, lowest, highest."""

        def draw_row(area: SubFigure) -> None:
            axes = area.subplots(1, 10)
            area.subplots_adjust(left=0.13, right=0.925, bottom=0.06, top=0.88, wspace=0.05)
            area.text(0.005, 0.45, label, va="center", fontsize=9)
            for i, panel in enumerate(axes):
                panel.axis("off")
                if i < len(self.images):
                    draw_panel(panel, i)
                    panel.set(xlim=(0, 32), ylim=(32, 0), aspect="equal")
            if scale:
                meaning, low, high = scale
                bar = ScalarMappable(Normalize(low, high), "viridis")
                bar = area.colorbar(bar, cax=area.add_axes((0.935, 0.08, 0.01, 0.78)))
                bar.set_label(meaning, fontsize=8)

        self.rows.append((1.15, draw_row))

    def pictures(self, mark: Sequence[tuple[int, int]] = ()) -> None:
        """The images themselves, with the class above and query pixels marked."""

        def draw_panel(panel: Axes, i: int) -> None:
            self.show_image(panel, i)
            name = self.data.classes[self.data.test_labels[self.chosen[i]]]
            panel.set_title(name, fontsize=9, pad=3, parse_math=False)
            for number, (row, column) in enumerate(mark):
                panel.text(column, row, "AB"[number], color="white", fontsize=8, weight="bold", ha="center",
                           va="center", bbox={"boxstyle": "circle,pad=0.15", "color": "#D55E00"})  # fmt: skip

        self.panels("test image", draw_panel)

    def show_image(self, panel: Axes, i: int) -> None:
        panel.imshow(self.images[i].permute(1, 2, 0).numpy(), extent=(0, 32, 32, 0))

    def maps(self, label: str, values: Tensor, meaning: str, low: float, high: float) -> None:
        """A row of maps (N, h, w), each stretched over its image's 32x32 pixels."""

        def draw_panel(panel: Axes, i: int) -> None:
            grey = self.images[i].float().mean(0).numpy()
            panel.imshow(grey, cmap="gray", extent=(0, 32, 32, 0), vmin=-256, vmax=511)  # faint
            panel.imshow(
                values[i].numpy(), cmap="viridis", vmin=low, vmax=high, extent=(0, 32, 32, 0), alpha=0.75
            )

        label = f"{label}\n{values.min():.2f} to {values.max():.2f}"
        self.panels(label, draw_panel, (meaning, low, high))

    def attention(self, where: str, block: nn.Module, queries: Sequence[tuple[int, int]]) -> None:
        """Rows of the block's `weights`, for each query and head: (N, HW, HW) or (N, heads, HW, HW)."""
        weights = self.outputs(block, block.weights, self.images)
        side = math.isqrt(weights.shape[-1])
        weights = weights.reshape(len(self.images), -1, side * side, side * side)
        for letter, (row, column) in zip("AB", queries, strict=False):
            cell = row * side // 32 * side + column * side // 32
            for head in range(weights.shape[1]):
                label = f"{where}, query {letter}" if weights.shape[1] == 1 else f"{where}, head {head + 1}"
                maps = weights[:, head, cell].reshape(-1, side, side) * side * side
                self.maps(
                    f"{label}\ngamma = {block.gamma.item():+.3f}", maps, "times uniform\n(4 or more)", 0, 4
                )

    def places(self, where: str, block: nn.Module) -> None:
        """A row with the block's `gate` of each place, (N, 1, H, W)."""
        gates = self.outputs(block, block.gate, self.images)
        self.maps(f"gate of places\n{where}", gates[:, 0], "gate", 0, 1)

    def channels(self, where: str, block: nn.Module) -> None:
        """The mean of the block's `gate` (N, C) over each class's test images: a row a class."""
        gates = self.outputs(block, block.gate, self.data.test_images)
        present = self.data.test_labels.unique()[:10].tolist()
        means = torch.stack([gates[self.data.test_labels == label].mean(0) for label in present])  # (K, C)
        means = means[:, means.mean(0).argsort()]

        def draw_row(area: SubFigure) -> None:
            axes = area.subplots()
            area.subplots_adjust(left=0.13, right=0.925, bottom=0.17, top=0.87)
            shown = axes.imshow(
                means.numpy(), aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="none"
            )
            axes.set_yticks(range(len(present)), [self.data.classes[label] for label in present], fontsize=9)
            axes.set_xlabel(f"{means.shape[1]} channels, by mean gate", fontsize=9)
            axes.set_title(
                f"gate of channels {where}: {means.min():.2f} to {means.max():.2f}; a channel's spread "
                f"between classes: {means.std(0).mean():.3f} (standard deviation, mean over channels)",
                fontsize=10,
            )
            area.colorbar(shown, cax=area.add_axes((0.935, 0.17, 0.01, 0.7)), label="mean gate")

        self.rows.append((2.9, draw_row))

    def transforms(self, block: nn.Module) -> None:
        """The images with what the block's `theta` (N, 2, 3) samples, and the warped results."""
        theta = self.outputs(block, block.theta, self.images)
        warped = self.outputs(block, block.forward, self.images).add(1).div(2).clamp(0, 1)
        corners = torch.tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]]).float()

        def draw_panel(panel: Axes, i: int) -> None:
            self.show_image(panel, i)
            x, y = 16 * (theta[i] @ corners.T + 1)
            panel.plot(x, y, color="#D55E00", linewidth=2, clip_on=False)

        self.panels("sampled frame", draw_panel)
        self.panels(
            "what the\nnetwork sees",
            lambda panel, i: panel.imshow(warped[i].permute(1, 2, 0).numpy(), extent=(0, 32, 32, 0)),
        )
        everywhere = self.outputs(block, block.theta, self.data.test_images)
        shift = 16 * (everywhere @ corners[:4].T - corners[:4, :2].T).norm(dim=1)  # (N, 4) pixels
        text = (
            f"Over the {len(shift):,} test images the frame's corners lie {shift.mean():.1f} pixels from the "
            f"image's own on average (furthest: {shift.max():.1f});\ntheta is "
            f"{' '.join(f'{number:+.2f}' for number in everywhere.mean(0).flatten())} on average and varies "
            f"between images by {everywhere.std(0).mean():.4f} (standard deviation, mean of the six)."
        )
        self.rows.append((0.6, lambda area: area.text(0.13, 0.5, text, va="center", fontsize=9)))

    def grad_cam(self, layer: nn.Module) -> None:
        """Grad-CAM of the true class at a layer's output (Selvaraju et al. 2017, arXiv 1610.02391).

        Channel weights are the class score's gradients, averaged over places; the map is the ReLU of the
        weighted sum of channels, divided by its maximum.
        """
        device = next(self.network.parameters()).device
        kept = []
        hook = layer.register_forward_hook(lambda _, inputs, output: kept.append(output))
        with torch.enable_grad():
            logits = self.network(normalize(self.images.to(device)))
            score = logits.gather(1, self.data.test_labels[self.chosen].to(device)[:, None]).sum()
            [gradient] = torch.autograd.grad(score, kept)
        hook.remove()
        cam = (gradient.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1).relu().cpu()  # (N, h, w)
        self.maps("Grad-CAM of\nthe true class", cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-12),
                  "of its maximum", 0, 1)  # fmt: skip

    def figure(self, title: str, caption: str) -> Figure:
        heights = [0.75, *(height for height, _ in self.rows)]
        figure = Figure(figsize=(12, sum(heights)), dpi=150)
        areas = figure.subfigures(len(heights), 1, height_ratios=heights)
        areas[0].text(0.5, 0.72, title, ha="center", va="center", fontsize=13, parse_math=False)
        areas[0].text(0.5, 0.25, caption, ha="center", va="center", fontsize=10)
        for area, (_, draw_row) in zip(areas[1:], self.rows, strict=True):
            draw_row(area)
        return figure


def plot_attention(path: Path, title: str, network: nn.Module, data: Data, look: Callable) -> None:
    """Draws what a trained network attends to: `look(picture)` adds the rows and returns the caption."""
    picture = AttentionPicture(network, data)
    caption = look(picture)
    save(picture.figure(title, caption), path, data.name)
