"""The comparison: which runs of a folder belong together, and what else may lie there."""

import shutil

import pytest
from helpers import make_tree, run
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common import load_data
from support import comparison
from support.comparison import read_folder
from support.dataset import fingerprint

HEADER = "epoch,train_loss,train_acc,test_loss,test_acc,seconds\n"
ODD_FILES = {
    "blank last line": HEADER + "1,2.0,30.0,2.0,30.0,1.0\n\n",
    "overlong field": HEADER + f'1,"{"9" * 200_000}",30.0,2.0,30.0,1.0\n',
    "other columns": "name,price\nbread,2\n",
    "too few columns": HEADER + "1,2.0\n",
    "no numbers": HEADER + "1,a,b,c,d,e\n",
    "header alone": HEADER,
    "empty": "",
    "latin 1": b"caf\xe9",
}


def source(folder) -> str:
    return fingerprint(load_data(str(folder)))


@pytest.fixture(scope="module")
def odd(tree, tmp_path_factory):
    """A run in a folder with odd CSVs, each beside a PNG that says it is of the same data, and odd PNGs."""
    folder = tmp_path_factory.mktemp("odd")
    plots = folder / "plots"
    plots.mkdir()
    says = PngInfo()
    says.add_text("Source", source(tree))
    for name, content in ODD_FILES.items():
        Image.new("1", (4, 4)).save(plots / f"{name}.png", pnginfo=says)
        (plots / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    Image.new("1", (20_000, 20_000)).save(plots / "huge.png", pnginfo=says)  # Pillow refuses it
    (plots / "huge.csv").write_text(ODD_FILES["blank last line"])
    (plots / "no picture.png").write_bytes(b"hello")
    (plots / "no picture.csv").write_text(ODD_FILES["blank last line"])
    (plots / "folder.csv").mkdir()
    return [run("CNN", "--data", tree, "--epochs", 1, *more, cwd=folder) for more in ([], ["--resume"])], plots


def test_odd_files_in_the_folder_stop_nothing(odd):
    results, plots = odd
    assert [(result.status, result.err) for result in results] == [(0, "")] * 2
    assert (plots / "CNN.png").exists() and (plots / "comparison.png").exists()


def test_of_odd_files_only_runs_are_compared(odd, tree):
    names = set(read_folder(odd[1], source(tree)))
    assert names == {"CNN", "blank last line"}


def test_a_large_picture_in_the_folder_is_passed_over_in_silence(tree, tmp_path):
    """Of a size that Pillow warns of, which is half of the size that it refuses."""
    (tmp_path / "plots").mkdir()
    Image.new("1", (10_000, 10_000)).save(tmp_path / "plots" / "large.png")
    (tmp_path / "plots" / "large.csv").write_text(ODD_FILES["blank last line"])
    result = run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")


def test_runs_on_other_data_are_not_compared(tree, tmp_path):
    """Also where the folders of the two data sets have the same name."""
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    other = make_tree(tmp_path / tree.name, classes=("dog", "eel"))
    assert run("SE-Attention", "--data", other, "--epochs", 1, cwd=tmp_path).status == 0
    for folder, name in ((tree, "CNN"), (other, "SE-Attention")):
        assert list(read_folder(tmp_path / "plots", source(folder))) == [name]


def test_a_folder_called_like_the_drawn_shapes_is_not_taken_for_them(tmp_path):
    tree = make_tree(tmp_path / "drawn shapes")
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    assert {path.name for path in (tmp_path / "plots").glob("comparison*")} == {"comparison.png"}


def test_a_run_of_one_epoch_can_be_seen_beside_longer_ones(tmp_path, monkeypatch):
    for name, epochs in (("Short", 1), ("Long", 9)):
        lines = [f"{k},2.0,30.0,2.0,30.0,1.0\n" for k in range(1, epochs + 1)]
        (tmp_path / f"{name}.csv").write_text(HEADER + "".join(lines))
        says = PngInfo()
        says.add_text("Source", "data (0)")
        Image.new("1", (4, 4)).save(tmp_path / f"{name}.png", pnginfo=says)
    drawn = []
    monkeypatch.setattr(comparison, "save", lambda figure, path, **_: drawn.append(figure))
    comparison.plot_comparison(tmp_path / "comparison.png", "data (0)")
    markers = {axes.get_title().partition("\n")[0]: axes.lines[-1].get_marker() for axes in drawn[0].axes[::2]}
    assert markers == {"Long": "None", "Short": "o"}


def test_a_control_is_drawn_beside_its_run_alone(finished, tree, tmp_path):
    """The run that only serves as another's control has no panel of its own."""
    for script in ("SE-Attention", "ECA-Attention", "CNN"):
        for path in (finished[script][1] / "plots").glob(f"{script}.*"):
            shutil.copy(path, tmp_path)
    folder = read_folder(tmp_path, source(tree))
    assert list(folder) == ["CNN", "SE-Attention", "ECA-Attention"]  # in the scripts' order
    assert all(control == [] for _, control in folder.values())
    for end in ("png", "csv"):
        (tmp_path / f"CNN.{end}").rename(tmp_path / f"CNN-32-64-128.{end}")
    folder = read_folder(tmp_path, source(tree))
    assert list(folder) == ["SE-Attention", "ECA-Attention"]
    assert all(len(history) == len(control) == 2 for history, control in folder.values())
