"""A run's plot: loss and accuracy beside its control's."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from support.data.dataset import printable
from support.pictures.style import DPI, GREY, GRID_GREY, TEXT_GREY, WIDTH, default_style, save, shorten
from support.run.facts import is_control, read_facts
from support.run.record import Epoch, read_csv

TRAIN, TEST = "#0072B2", "#D55E00"
CONTROL_LINE = {"color": GREY, "linestyle": "--", "linewidth": 1}


def read_control(csv: Path, facts: dict) -> list[Epoch]:
    """The control beside a run's CSV; an empty list if there is none, or if it was not trained in the same way."""
    control = csv.parent / f"{facts.get('control')}.csv"
    return read_csv(control) if is_control(read_facts(control.with_suffix(".json")), facts) else []


def shown_name(run: str) -> str:
    return printable(run).removesuffix("-shapes")


def draw(axes: Axes, history: list[Epoch], field: str, **line) -> None:
    marker = "o" if len(history) == 1 else None  # a line of one point shows nothing
    axes.plot([epoch.epoch for epoch in history], [getattr(epoch, field) for epoch in history], marker=marker, **line)


def set_epochs(axes: Axes, epochs: int, ticks: int, first: int = 1) -> None:
    """Gives a panel the axis of epochs."""
    margin = max(0.5, 0.02 * epochs)
    axes.set_xlim(first - margin, epochs + margin)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.grid(color=GRID_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@default_style
def plot_run(path: Path, csv: Path, history: list[Epoch], epochs: int, facts: dict) -> None:
    """Loss and accuracy of one run, in training and on the test images, beside its control's if there is one.

    Size and axes are the same for every run, so that plots are easy to compare; only a run that leaves the axes
    stretches them.

    Args:
        path: of the picture.
        csv: the run's; its control's is looked for in the same folder.
        epochs: where the axis ends.
    """
    beside = read_control(csv, facts)[: len(history)]
    last = history[-1]
    title = f"{shorten(shown_name(csv.stem), 44)} on {facts['data']}, epoch {last.epoch}:\n"
    title += f"test accuracy {last.test_acc:.2f}%"
    if beside:
        title += f"; its control: {beside[-1].test_acc:.2f}%"
        if len(beside) < len(history):
            title += f" after epoch {len(beside)}"

    figure = Figure(figsize=(WIDTH, 4.4), dpi=DPI)
    figure.text(0.5, 0.93, title, ha="center", va="center", fontsize=11.5, weight="bold")
    figure.text(
        0.5,
        0.02,
        f"{facts['parameters']:,} parameters. One run, seed {facts['seed']}: other seeds will differ. Training values "
        "are averaged over the epoch while the\nweights change, with dropout where the network has it, so early on "
        "test may look better than training.",
        ha="center",
        color=TEXT_GREY,
    )
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.225, top=0.8, wspace=0.17)
    loss, accuracy = figure.subplots(1, 2)
    for axes, field in ((loss, "loss"), (accuracy, "acc")):
        if beside:
            draw(axes, beside, f"test_{field}", label=f"test, control ({shown_name(facts['control'])})", **CONTROL_LINE)
        draw(axes, history, f"train_{field}", label="training", color=TRAIN, linestyle=(0, (5, 1.5)))
        draw(axes, history, f"test_{field}", label="test", color=TEST, linewidth=2)
        set_epochs(axes, epochs, ticks=10)
        axes.set_xlabel("epoch")
    highest = max(max(epoch.train_loss, epoch.test_loss) for epoch in history)
    loss.set(ylabel="loss (cross-entropy)", ylim=(0, 2.4 if highest < 2.4 else 1.25 * highest))
    lowest = min(min(epoch.train_acc, epoch.test_acc) for epoch in history)
    accuracy.set(ylabel="accuracy (%)", ylim=(30 if lowest > 30 else 0, 101))
    accuracy.legend(loc="lower right", frameon=False, reverse=True)
    best, gap = min(history, key=lambda epoch: epoch.test_loss), last.train_acc - last.test_acc
    loss.plot(best.epoch, best.test_loss, "o", color=TEST, markersize=6)
    loss.set_title(f"lowest test loss (dot): {best.test_loss:.2f} at epoch {best.epoch}", fontsize=9)
    side = "above" if gap >= 0 else "below"
    accuracy.set_title(f"training accuracy ends {abs(gap):.1f} points {side} test accuracy", fontsize=9)
    save(figure, path)
