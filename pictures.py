"""The pictures of a run: its curves, and the comparison of all runs in a folder."""

import io
import zlib
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from PIL import Image

from common import Epoch, read_csv, write

# Colours by Okabe and Ito, which colour-blind readers can tell apart; markers for readers in grey.
STYLES = {
    "CNN": ("#000000", "o"),
    "CNN-32-64-128": ("#555555", "v"),
    "CNN-64-128": ("#999999", "^"),
    "Self-Attention": ("#0072B2", "s"),
    "Multi-Head Attention": ("#56B4E9", "D"),
    "SE-Attention": ("#D55E00", "P"),
    "ECA-Attention": ("#E69F00", "X"),
    "CBAM-Attention": ("#009E73", "*"),
    "STN-Attention": ("#CC79A7", "h"),
}
SPARE_COLOURS = ("#8C564B", "#6A3D9A", "#7F7F00", "#A50F15", "#1B4F72")  # for scripts of the user's own


def panels(epochs: int, curves: list[Epoch]) -> tuple[Figure, Axes, Axes]:
    """A figure with a panel for the loss and one for the accuracy, the same in every plot.

    Size and axes are fixed so that plots can be flipped through like cards; the loss axis, logarithmic for
    its range of five hundred to one, grows only when a run leaves it.
    """
    figure = Figure(figsize=(12, 5), dpi=100)
    loss, accuracy = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.11, top=0.84, wspace=0.15)
    losses = [value for epoch in curves for value in (epoch.train_loss, epoch.test_loss) if value > 0]
    loss.set(yscale="log", ylim=(min([0.01, *losses]), max([10, *losses])))
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.yaxis.set_minor_locator(NullLocator())
    loss.set_yticks([tick * 10**power for power in range(-2, 1) for tick in (1, 3)] + [10])
    accuracy.set(ylim=(0, 100), yticks=range(0, 101, 10))
    for axes, label in ((loss, "Loss (cross-entropy)"), (accuracy, "Accuracy (%)")):
        margin = max(0.5, 0.02 * epochs)
        axes.set(title=label, xlabel="Epoch", xlim=(1 - margin, epochs + margin))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, loss, accuracy


def save_figure(figure: Figure, path: Path, data: str) -> None:
    """Writes a PNG that says in its metadata which data its run saw."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Source": data})
    write(path, buffer.getvalue())


def plot_run(path: Path, title: str, data: str, history: list[Epoch], epochs: int) -> None:
    """Loss and accuracy of one run, on the training and on the test images."""
    figure, loss, accuracy = panels(epochs, history)
    figure.suptitle(title, fontsize=13, parse_math=False)
    x = [epoch.epoch for epoch in history]
    for part, colour in (("train", "#0072B2"), ("test", "#D55E00")):
        style = {"color": colour, "label": part, "marker": "o", "markersize": 3 if epochs <= 30 else 0}
        loss.plot(x, [getattr(epoch, f"{part}_loss") for epoch in history], **style)
        accuracy.plot(x, [getattr(epoch, f"{part}_acc") for epoch in history], **style)
    loss.legend(loc="upper left")
    accuracy.legend(loc="lower right")
    save_figure(figure, path, data)


def plot_comparison(folder: Path, data: str) -> None:
    """Test loss and test accuracy of all runs in a folder that saw the same data, over one another."""
    ending = "-shapes" if data == "shapes" else ""
    runs = {}
    for path in sorted(folder.glob("*.csv")):
        name = path.stem.removesuffix(ending)
        if path.stem.endswith("-shapes") == bool(ending) and seen(path.with_suffix(".png")) in (data, None):
            runs[name] = read_csv(path)
    runs = {name: runs[name] for name in sorted(runs, key=lambda n: ([*STYLES, n].index(n), n)) if runs[name]}
    epochs = max(len(history) for history in runs.values())
    figure, loss, accuracy = panels(epochs, [])
    figure.subplots_adjust(right=0.8)
    figure.suptitle(f"Test loss and accuracy on {data}", fontsize=13, parse_math=False)
    for i, (name, history) in enumerate(runs.items()):
        spare = SPARE_COLOURS[zlib.crc32(name.encode()) % len(SPARE_COLOURS)]
        colour, marker = STYLES.get(name, (spare, "."))
        every = max(1, epochs // 10)
        style = {
            "color": colour,
            "linestyle": "--" if name.startswith("CNN-") else "-",
            "linewidth": 1.3,
            "marker": marker,
            "markersize": 5,
            "markevery": (min(i * every // len(runs), len(history) - 1), every),  # not all on one another
            "label": f"{name}  {history[-1].test_acc:.2f}%",
        }
        x = [epoch.epoch for epoch in history]
        loss.plot(x, [epoch.test_loss for epoch in history], **style)
        accuracy.plot(x, [epoch.test_acc for epoch in history], **style)
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(0.805, 0.5), title="Last test accuracy")
    save_figure(figure, folder / f"comparison{ending}.png", data)


def seen(plot: Path) -> str | None:
    """The data set that a run's plot was drawn for, None when there is no telling."""
    try:
        with Image.open(plot) as image:
            return image.info.get("Source")
    except OSError:
        return None
