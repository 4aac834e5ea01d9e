"""A run's plot: whose control is drawn beside it, and what it says."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from support.pictures import curves
from support.run.facts import TRAINING, write_facts
from support.run.record import Epoch, write_csv

FACTS = {"parameters": 7, "data": "CIFAR-10 JPEG copy", "checksum": "0123abcd", "control": "CNN", "seed": 3}
FACTS |= {"batch_size": 64, "lr": 0.001, "precision": "fp32"}


def history(*accuracies: float) -> list[Epoch]:
    return [Epoch(i, 1.0, 50.0, 2 - accuracy / 100, accuracy, 1.0) for i, accuracy in enumerate(accuracies, 1)]


@pytest.fixture
def plot(tmp_path, monkeypatch):
    """Plots a run beside the control's files in its folder, and returns the figure."""
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure))

    def plot(values: list[Epoch], name: str = "Mine") -> Figure:
        curves.plot_run(tmp_path / f"{name}.png", tmp_path / f"{name}.csv", values, 4, FACTS)
        return drawn[-1]

    return plot


def lines(figure: Figure) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[1].lines}


def test_a_run_its_control_as_far_as_the_run_is_and_what_the_picture_says(plot, tmp_path):
    write_csv(tmp_path / "CNN.csv", history(10, 20, 30, 40))
    write_facts(tmp_path / "CNN.json", FACTS | {"data": "under another name"})
    figure = plot(history(15, 35, 25))
    assert lines(figure) == {"test, control (CNN)": [10, 20, 30], "training": [50] * 3, "test": [15, 35, 25]}
    title, foot = (text.get_text() for text in figure.texts)
    assert title.endswith("epoch 3:\ntest accuracy 25.00%; its control: 30.00%")
    assert foot.startswith("7 parameters. One run, seed 3:")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "lowest test loss (dot): 1.65 at epoch 2",
        "training accuracy ends 25.0 points above test accuracy",
    ]


@pytest.mark.parametrize("wrong", ["checksum", *TRAINING, "no facts", "no csv"])
def test_a_control_that_is_none_is_not_drawn(wrong, plot, tmp_path):
    if wrong != "no csv":
        write_csv(tmp_path / "CNN.csv", history(10, 20))
    if wrong != "no facts":
        write_facts(tmp_path / "CNN.json", FACTS | {wrong: "other"})
    assert list(lines(plot(history(15, 25)))) == ["training", "test"]


def test_the_gain_is_of_the_last_epoch_that_both_have():
    assert curves.gain(history(10, 20, 90), history(1, 5)) == 15
    assert curves.gain(history(10), history(12, 99)) == -2


def test_every_point_and_the_title_of_a_long_name_lie_within_the_picture(plot):
    for values in (history(50), history(*[0, 100] * 150), [Epoch(1, 1e6, 0, 1e6, 0, 0)]):
        figure = plot(values, 60 * "n")
        box = figure.texts[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert 0 < box.x0 < box.x1 < figure.bbox.width
        for axes in figure.axes:
            (low, high), values = axes.get_ylim(), [value for line in axes.lines for value in line.get_ydata()]
            assert low <= min(values) and max(values) <= high
