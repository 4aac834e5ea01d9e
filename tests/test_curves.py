"""A run's plot: whose control is drawn beside it, and what its file says."""

import pytest
from helpers import make_tree
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from common import load_data
from support import curves
from support.dataset import fingerprint
from support.history import Epoch, write_csv


@pytest.fixture(scope="module")
def data(tree):
    return load_data(str(tree))


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


def test_the_control_is_drawn_as_far_as_the_run_is(data, lines, tmp_path):
    write_csv(tmp_path / "CNN.csv", history(10, 20, 30, 40))
    curves.plot_run(tmp_path / "CNN.png", history(10, 20, 30, 40), 4, fingerprint(data), 7)
    curves.plot_run(tmp_path / "Mine.png", history(15, 25), 4, fingerprint(data), 7, "CNN")
    assert lines[CONTROL] == [10, 20] and lines["test"] == [15, 25]
    with Image.open(tmp_path / "Mine.png") as plot:
        assert plot.size == (1400, 704)
        assert (plot.info["Source"], plot.info["Control"]) == (fingerprint(data), "CNN")


@pytest.mark.parametrize("wrong", ["other data", "no plot", "no csv"])
def test_a_control_that_is_none_is_not_drawn(wrong, data, lines, tmp_path):
    write_csv(tmp_path / "CNN.csv", history(10, 20))
    others = load_data(str(make_tree(tmp_path / data.name, classes=("dog", "eel"), train=1, test=1)))
    curves.plot_run(tmp_path / "CNN.png", history(10, 20), 4, fingerprint(others if wrong == "other data" else data), 7)
    if wrong != "other data":
        (tmp_path / ("CNN.png" if wrong == "no plot" else "CNN.csv")).unlink()
    curves.plot_run(tmp_path / "Mine.png", history(15, 25), 4, fingerprint(data), 7, "CNN")
    assert not lines.get(CONTROL)


@pytest.mark.parametrize(("last", "training", "says"), [(0.51, 0.4, False), (0.8, 0.4, True), (0.8, 0.9, False)])
def test_over_fitting_is_claimed_where_test_loss_has_risen_above_training(
    last, training, says, data, monkeypatch, tmp_path
):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path, **_: drawn.append(figure))
    losses = [Epoch(i, training, 50.0, loss, 50.0, 1.0) for i, loss in enumerate((0.9, 0.5, last), 1)]
    curves.plot_run(tmp_path / "Mine.png", losses, 3, fingerprint(data), 7)
    [text] = [text.get_text() for text in drawn[0].axes[0].texts]
    assert text.startswith("lowest test loss 0.50 at epoch 2") and ("over-fits" in text) == says


def test_the_gain_is_of_the_last_epoch_that_both_have():
    assert curves.gain(history(10, 20, 90), history(1, 5)) == 15
    assert curves.gain(history(10), history(12, 99)) == -2


@pytest.mark.parametrize("values", [(1e6, 0.0), (50.0, 50.0), (0.0, 100.0)])
def test_any_run_can_be_plotted(values, data, tmp_path):
    """With a huge loss, without a gap between training and test, over a single epoch."""
    epoch = Epoch(1, values[0], values[1], values[0], values[1], 0.0)
    for count in (1, 2, 300):
        curves.plot_run(
            tmp_path / "Mine.png", [epoch._replace(epoch=i + 1) for i in range(count)], count, fingerprint(data), 7
        )
        with Image.open(tmp_path / "Mine.png") as plot:
            plot.load()
            assert plot.size == (1400, 704)


def test_the_title_of_a_long_name_fits_into_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, *_, **__: drawn.append(figure))
    for name in ("CNN-64-128-hidden256-dropout0", 60 * "n"):
        path, source = tmp_path / f"{name}.png", "CIFAR-10 JPEG copy (0123abcd)"
        curves.plot_run(path, history(*[50.0] * 100), 100, source, parameters=1)
        title = drawn[-1].texts[0]
        box = title.get_window_extent(FigureCanvasAgg(drawn[-1]).get_renderer())
        assert 0 < box.x0 < box.x1 < drawn[-1].bbox.width
        assert title.get_text().endswith("50.00% of test images right")
