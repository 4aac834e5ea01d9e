"""A run's curves and the comparison: which runs belong together, what is drawn of them, and what else may lie there."""

from pathlib import Path

import pytest
from helpers import run
from matplotlib.figure import Figure

from common import load_data
from support.data.dataset import checksum
from support.pictures import comparison, curves
from support.pictures.comparison import read_folder
from support.run.facts import write_facts
from support.run.record import Epoch, write_csv

FACTS = {"parameters": 7, "data": "ants", "checksum": "0", "control": "CNN-32-64-128", "seed": 3}
FACTS |= {"batch_size": 64, "lr": 0.001, "precision": "fp32"}
CONTROL = FACTS | {"control": None}


def history(*accuracies: float) -> list[Epoch]:
    return [Epoch(i, 1.0, 50.0, 2 - accuracy / 100, accuracy, 1.0) for i, accuracy in enumerate(accuracies, 1)]


def write(folder, name: str, *accuracies: float, **facts) -> None:
    write_csv(folder / f"{name}.csv", history(*accuracies))
    write_facts(folder / f"{name}.json", FACTS | facts)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of their files."""
    figures = []
    for module in (curves, comparison):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


@pytest.fixture
def plot(tmp_path, figures):
    """Plots a run beside the control's files in its folder, and returns the figure."""

    def plot(values: list[Epoch], name: str = "Mine") -> Figure:
        curves.plot_run(tmp_path / f"{name}.png", tmp_path / f"{name}.csv", values, 4, FACTS)
        return figures[-1]

    return plot


def lines(figure: Figure) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[1].lines}


def test_a_run_its_control_as_far_as_the_run_is_and_what_the_picture_says(plot, tmp_path):
    write(tmp_path, "CNN-32-64-128", 10, 20, 30, 40, data="under another name")
    figure = plot(history(15, 35, 25))
    expected = {"test, control (CNN-32-64-128)": [10, 20, 30], "training": [50] * 3, "test": [15, 35, 25]}
    assert lines(figure) == expected
    title, foot = (text.get_text() for text in figure.texts)
    assert title.endswith("epoch 3:\ntest accuracy 25.00%; its control: 30.00%")
    assert foot.startswith("7 parameters. One run, seed 3:")
    assert [axes.get_title() for axes in figure.axes] == [
        "lowest test loss (dot): 1.65 at epoch 2",
        "training accuracy ends 25.0 points above test accuracy",
    ]


@pytest.mark.parametrize("wrong", ["checksum", "seed", "batch_size", "lr", "precision"])
def test_a_control_that_was_trained_otherwise_is_not_drawn(wrong, plot, tmp_path):
    assert list(lines(plot(history(15, 25)))) == ["training", "test"]
    write(tmp_path, "CNN-32-64-128", 10, 20, **{wrong: "other"})
    assert list(lines(plot(history(15, 25)))) == ["training", "test"]


HEADER = "epoch,train_loss,train_acc,test_loss,test_acc,seconds\n"
ODD_FILES = {  # in place of a CSV
    "other columns": b"name,price\nbread,2\n",
    "too few columns": f"{HEADER}1,2.0\n".encode(),
    "latin 1": b"caf\xe9",
}
ODD_FACTS = {"half of them": b'{"data": "tiny tree"', "a list": b"[1, 2]", "deep": b"[" * 100_000}  # of a JSON


def test_odd_files_in_the_folder_stop_nothing_and_only_runs_on_the_same_data_are_compared(tree, tmp_path):
    plots, data = tmp_path / "plots", load_data(str(tree))
    plots.mkdir()
    facts = FACTS | {"checksum": checksum(data), "control": ["no", "name"]}
    for name, content in ODD_FILES.items():
        write(plots, name, 30, **facts)
        (plots / f"{name}.csv").write_bytes(content)
    for name, content in ODD_FACTS.items():
        write(plots, name, 30)
        (plots / f"{name}.json").write_bytes(content)
    write_csv(plots / "without facts.csv", history(30))
    (plots / "folder.csv").mkdir()
    write(plots, "other data", 30)
    write(plots, "a renamed folder's data", 30, **facts | {"data": "bees"})
    result = run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path, curves=True)
    assert (result.status, result.err) == (0, "")
    assert (plots / "CNN.png").exists() and (plots / "comparison.png").exists()
    assert f"Done: {Path('plots/CNN.png')}, {Path('plots/comparison.png')}\n" in result.out
    assert set(read_folder(plots, facts)) == {"CNN", "a renamed folder's data"}


def test_a_control_is_drawn_beside_its_runs_alone(tmp_path, figures):
    """The run that only serves as another's control has no panel of its own; one trained otherwise serves nobody."""

    def titles() -> list[str]:
        comparison.plot_comparison(tmp_path / "comparison.png", read_folder(tmp_path, FACTS), "ants")
        return [axes.get_title() for axes in figures[-1].axes[::2]]

    for name in ("SE-Attention", "Mine", "CNN"):
        write(tmp_path, name, 30, 35)
    write(tmp_path, "CNN-32-64-128", 30, 32, 90, **CONTROL | {"seed": 7})
    assert titles()[:2] == [f"{name}\n35.00%\n(no matching control)" for name in ("CNN", "SE-Attention")]
    write(tmp_path, "CNN-32-64-128", 30, 32, 90, **CONTROL)
    assert titles() == [f"{name}\nthis run: +3.00" for name in ("CNN", "SE-Attention", "Mine")]
