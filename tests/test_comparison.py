"""The comparison: which runs of a folder belong together, and what else may lie there."""

import os

import pytest
from helpers import run

from common import load_data
from support.data.dataset import checksum
from support.pictures import comparison
from support.pictures.comparison import read_folder
from support.run.facts import write_facts

HEADER = "epoch,train_loss,train_acc,test_loss,test_acc,seconds\n"
ONE = HEADER + "1,2.0,30.0,2.0,30.0,1.0\n"
FACTS = {"checksum": "0", "seed": 0}
ODD_FILES = {  # in place of a CSV
    "overlong field": HEADER + f'1,"{"9" * 200_000}",30.0,2.0,30.0,1.0\n',
    "other columns": "name,price\nbread,2\n",
    "too few columns": HEADER + "1,2.0\n",
    "no numbers": HEADER + "1,a,b,c,d,e\n",
    "header alone": HEADER,
    "empty": "",
    "latin 1": b"caf\xe9",
}
ODD_FACTS = {  # in place of a JSON
    "no facts": b"",
    "half of them": b'{"data": "tiny tree"',
    "a list": b"[1, 2]",
    "latin 1 facts": b'{"data": "caf\xe9"}',
    "deep": b"[" * 100_000,
}


def write(folder, name: str, epochs: int = 1, **facts) -> None:
    rows = [f"{k},2.0,30.0,2.0,30.0,1.0\n" for k in range(1, epochs + 1)]
    (folder / f"{name}.csv").write_text(HEADER + "".join(rows))
    write_facts(folder / f"{name}.json", FACTS | facts)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws the runs of a folder; returns the panels' titles, what their accuracy curves show, and the words above."""
    figures = []
    monkeypatch.setattr(comparison, "save", lambda figure, path: figures.append(figure))

    def draw() -> tuple[list[str], list, str]:
        comparison.plot_comparison(tmp_path / "comparison.png", read_folder(tmp_path, FACTS), "ants")
        panels = figures[-1].axes[::2]
        shown = [(list(axes.lines[-1].get_xdata()), axes.lines[-1].get_marker()) for axes in panels]
        return [axes.get_title() for axes in panels], shown, figures[-1].texts[-1].get_text()

    return draw


def test_odd_files_in_the_folder_stop_nothing_and_only_runs_are_compared(tree, tmp_path):
    plots = tmp_path / "plots"
    plots.mkdir()
    data = load_data(str(tree))
    facts = {"data": data.name, "checksum": checksum(data)}
    for name, content in ODD_FILES.items() | {("a run with a blank last line", ONE + "\n")}:
        write_facts(plots / f"{name}.json", facts | {"control": ["no", "name"]})
        (plots / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, content in ODD_FACTS.items():
        (plots / f"{name}.json").write_bytes(content)
        (plots / f"{name}.csv").write_text(ONE)
    (plots / "from before.csv").write_text(ONE)
    (plots / "folder.csv").mkdir()
    (plots / "folder.json").mkdir()
    result = run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path, curves=True)
    assert (result.status, result.err) == (0, "")
    assert (plots / "CNN.png").exists() and (plots / "comparison.png").exists()
    assert set(read_folder(plots, facts)) == {"CNN", "a run with a blank last line"}


def test_the_checksum_alone_says_which_runs_are_on_the_same_data(tmp_path):
    write(tmp_path, "Here", data="ants")
    write(tmp_path, "Renamed", data="bees")
    write(tmp_path, "Other", data="ants", checksum="1")
    assert list(read_folder(tmp_path, FACTS | {"data": "ants"})) == ["Here", "Renamed"]


def test_a_control_is_drawn_beside_its_run_alone(tmp_path, drawn):
    """The run that only serves as another's control has no panel of its own; one trained otherwise serves nobody."""
    for name in ("SE-Attention", "Mine", "CNN"):
        write(tmp_path, name, epochs=2, control="CNN-32-64-128")
    assert drawn()[0][:2] == [f"{name}\n30.00%\n(no matching control)" for name in ("CNN", "SE-Attention")]
    write(tmp_path, "CNN-32-64-128", epochs=2, seed=7)
    assert all(control == [] for _, control in read_folder(tmp_path, FACTS).values())
    write(tmp_path, "CNN-32-64-128", epochs=2)
    assert drawn()[0] == [f"{name}\nthis run: +0.00" for name in ("CNN", "SE-Attention", "Mine")]


def test_the_axes_begin_late_in_long_runs_but_at_the_first_epoch_of_short_ones(tmp_path, drawn):
    write(tmp_path, "Long", epochs=40)
    _, [(epochs, _)], text = drawn()
    assert epochs == list(range(3, 41)) and text.endswith("The axes begin at epoch 3.")
    write(tmp_path, "Short", epochs=1)
    _, shown, text = drawn()
    assert shown == [(list(range(1, 41)), "None"), ([1], "o")] and "axes begin" not in text


def test_the_newest_24_runs_of_a_large_folder_are_drawn(tmp_path, drawn):
    for i in range(30):
        write(tmp_path, f"{i:02}")
        os.utime(tmp_path / f"{i:02}.csv", (i % 7, i % 7))  # the sevens are the oldest
    titles, _, text = drawn()
    left_out = {f"{i:02}" for i in range(30)} - {title.partition("\n")[0] for title in titles}
    assert len(titles) == 24 and {"00", "07", "14", "21", "28"} < left_out
    assert text.endswith("These are the folder's newest 24 runs.")
