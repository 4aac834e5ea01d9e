"""The pictures of a run: its curves, and the comparison of all the runs in a folder."""

import io
import math
import zlib
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from common import Epoch, read_csv, write

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
    for part, colour in (("train", "#0072B2"), ("test", "#D55E00")):
        style = {"color": colour, "label": part, "marker": "o", "markersize": 3 if epochs <= 30 else 0}
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
    ending = "-shapes" if data == "shapes" else ""
    runs = {}
    for path in sorted(folder.glob("*.csv")):
        same = path.stem.endswith("-shapes") == bool(ending) and data_of(path.with_suffix(".png")) in (
            data,
            None,
        )
        if same and (history := read_csv(path)):
            runs[path.stem.removesuffix(ending)] = history
    names = [name for name in STYLES if name in runs] + [name for name in runs if name not in STYLES]
    epochs = max(len(history) for history in runs.values())
    figure, loss, accuracy = panels(f"Test loss and test accuracy on {data}", epochs, height=7)
    figure.subplots_adjust(bottom=0.25, top=0.88)
    for i, name in enumerate(names):
        history = runs[name]
        colour, marker = STYLES.get(
            name, (SPARE_COLOURS[zlib.crc32(name.encode()) % len(SPARE_COLOURS)], ".")
        )
        every = max(1, epochs // 10)
        style = {
            "color": colour,
            "linestyle": "--" if name.startswith("CNN-") else "-",
            "linewidth": 1.3,
            "marker": marker,
            "markersize": 6,
            "markevery": (min(i * every // len(names), len(history) - 1), every),  # no two at the same epochs
            "label": f"{name}: {history[-1].test_acc:.2f}% after {len(history)}",
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
