"""A run's plot: whose control is drawn beside it, and what it says."""

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from support.pictures import curves
from support.run.facts import TRAINING, write_facts
from support.run.history import Epoch, write_csv

FACTS = {"parameters": 7, "data": "ants", "checksum": "0123abcd", "control": None, "seed": 3}
FACTS |= {"batch_size": 64, "lr": 0.001, "precision": "fp32"}


def history(*accuracies: float) -> list[Epoch]:
    return [Epoch(i, 1.0, 50.0, 1.0, accuracy, 1.0) for i, accuracy in enumerate(accuracies, 1)]


@pytest.fixture
def lines(monkeypatch):
    """What the plots drawn in a test have lines for: {label: values} of the last axes that has the label."""
    drawn = {}
    plot = Axes.plot

    def noted(axes, *arguments, **options):
        if "label" in options:
            drawn[options["label"]] = list(arguments[1])
        return plot(axes, *arguments, **options)

    monkeypatch.setattr(Axes, "plot", noted)
    return drawn


CONTROL = "test, control (CNN)"


def plot(folder, values: list[Epoch], epochs: int, **facts) -> None:
    curves.plot_run(folder / "Mine.png", folder / "Mine.csv", values, epochs, FACTS | facts)


def test_the_control_is_drawn_as_far_as_the_run_is(lines, tmp_path):
    write_csv(tmp_path / "CNN.csv", history(10, 20, 30, 40))
    write_facts(tmp_path / "CNN.json", FACTS)
    plot(tmp_path, history(15, 25), 4, control="CNN")
    assert lines[CONTROL] == [10, 20] and lines["test"] == [15, 25]
    with Image.open(tmp_path / "Mine.png") as picture:
        assert picture.size == (1400, 704)


@pytest.mark.parametrize("wrong", ["other name", "other images", *TRAINING, "no facts", "no csv"])
def test_a_control_that_is_none_is_not_drawn(wrong, lines, tmp_path):
    if wrong != "no csv":
        write_csv(tmp_path / "CNN.csv", history(10, 20))
    other = {"other name": {"data": "bees"}, "other images": {"checksum": "0123abce"}}.get(wrong, {wrong: "other"})
    if wrong != "no facts":
        write_facts(tmp_path / "CNN.json", FACTS | other)
    plot(tmp_path, history(15, 25), 4, control="CNN")
    assert not lines.get(CONTROL)


def test_the_seed_is_said(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure))
    plot(tmp_path, history(10, 20), 2)
    assert "7 parameters" in drawn[0].texts[1].get_text() and "seed 3" in drawn[0].texts[1].get_text()


@pytest.mark.parametrize(("last", "training", "says"), [(0.51, 0.4, False), (0.8, 0.4, True), (0.8, 0.9, False)])
def test_over_fitting_is_claimed_where_test_loss_has_risen_above_training(last, training, says, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure))
    losses = [Epoch(i, training, 50.0, loss, 50.0, 1.0) for i, loss in enumerate((0.9, 0.5, last), 1)]
    plot(tmp_path, losses, 3)
    [text] = [text.get_text() for text in drawn[0].axes[0].texts]
    assert text.startswith("lowest test loss (dot): 0.50 at epoch 2") and ("overfits" in text) == says


def test_the_gain_is_of_the_last_epoch_that_both_have():
    assert curves.gain(history(10, 20, 90), history(1, 5)) == 15
    assert curves.gain(history(10), history(12, 99)) == -2


@pytest.mark.parametrize("values", [(1e6, 0.0), (50.0, 50.0), (0.0, 100.0)])
def test_any_run_can_be_plotted(values, tmp_path):
    """With a huge loss, without a gap between training and test, over a single epoch."""
    epoch = Epoch(1, values[0], values[1], values[0], values[1], 0.0)
    for count in (1, 2, 300):
        plot(tmp_path, [epoch._replace(epoch=i + 1) for i in range(count)], count)
        with Image.open(tmp_path / "Mine.png") as picture:
            picture.load()
            assert picture.size == (1400, 704)


def test_the_title_of_a_long_name_fits_into_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path: drawn.append(figure))
    for name in ("CNN-64-128-hidden256-dropout0", 60 * "n"):
        facts = FACTS | {"data": "CIFAR-10 JPEG copy"}
        curves.plot_run(tmp_path / "a.png", tmp_path / f"{name}.csv", history(*[50.0] * 100), 100, facts)
        title = drawn[-1].texts[0]
        box = title.get_window_extent(FigureCanvasAgg(drawn[-1]).get_renderer())
        assert 0 < box.x0 < box.x1 < drawn[-1].bbox.width
        assert title.get_text().endswith("test accuracy 50.00%")
