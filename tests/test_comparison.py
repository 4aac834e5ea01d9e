"""The comparison: which runs of a folder belong together, and what else may lie there."""

import shlex
import shutil

import pytest
from helpers import make_tree, run

from common import load_data
from support.data.dataset import checksum
from support.pictures import comparison
from support.pictures.comparison import read_folder
from support.run.facts import write_facts

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


def facts(folder) -> dict:
    data = load_data(str(folder))
    return {"data": data.name, "checksum": checksum(data)}


ODD_FACTS = {
    "no facts": b"",
    "half of them": b'{"data": "tiny tree"',
    "a list": b"[1, 2]",
    "a number": b"7",
    "latin 1 facts": b'{"data": "caf\xe9"}',
    "deep": b"[" * 100_000,
}


@pytest.fixture(scope="module")
def odd(tree, tmp_path_factory):
    """A run in a folder with odd CSVs, each with facts that say it is of the same data, and odd facts."""
    folder = tmp_path_factory.mktemp("odd")
    plots = folder / "plots"
    plots.mkdir()
    for name, content in ODD_FILES.items():
        write_facts(plots / f"{name}.json", facts(tree) | {"control": ["no", "name"]})
        (plots / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, content in ODD_FACTS.items():
        (plots / f"{name}.json").write_bytes(content)
        (plots / f"{name}.csv").write_text(ODD_FILES["blank last line"])
    (plots / "from before.csv").write_text(ODD_FILES["blank last line"])
    (plots / "folder.csv").mkdir()
    (plots / "folder.json").mkdir()
    flags = ["--data", tree, "--epochs", 1]
    return [run("CNN", *flags, *more, cwd=folder, curves=True) for more in ([], ["--resume"])], plots


def test_odd_files_in_the_folder_stop_nothing(odd):
    results, plots = odd
    assert [(result.status, result.err) for result in results] == [(0, "")] * 2
    assert (plots / "CNN.png").exists() and (plots / "comparison.png").exists()


def test_of_odd_files_only_runs_are_compared(odd, tree):
    names = set(read_folder(odd[1], facts(tree)))
    assert names == {"CNN", "blank last line"}


def test_runs_on_other_data_are_not_compared(tree, tmp_path):
    """Also where the folders of the two data sets have the same name."""
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    other = make_tree(tmp_path / tree.name, classes=("dog", "eel"))
    assert run("SE-Attention", "--data", other, "--epochs", 1, cwd=tmp_path).status == 0
    for folder, name in ((tree, "CNN"), (other, "SE-Attention")):
        assert list(read_folder(tmp_path / "plots", facts(folder))) == [name]


def test_a_folder_called_like_the_drawn_shapes_is_not_taken_for_them(tmp_path):
    tree = make_tree(tmp_path / "drawn shapes")
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path, curves=True).status == 0
    assert {path.name for path in (tmp_path / "plots").glob("comparison*")} == {"comparison.png"}


def test_a_run_of_one_epoch_can_be_seen_beside_longer_ones(tmp_path, monkeypatch):
    for name, epochs in (("Short", 1), ("Long", 9)):
        lines = [f"{k},2.0,30.0,2.0,30.0,1.0\n" for k in range(1, epochs + 1)]
        (tmp_path / f"{name}.csv").write_text(HEADER + "".join(lines))
        write_facts(tmp_path / f"{name}.json", {"data": "ants", "checksum": "0"})
    drawn = []
    monkeypatch.setattr(comparison, "save", lambda figure, path: drawn.append(figure))
    runs = read_folder(tmp_path, {"data": "ants", "checksum": "0"})
    comparison.plot_comparison(tmp_path / "comparison.png", runs, "ants")
    markers = {axes.get_title().partition("\n")[0]: axes.lines[-1].get_marker() for axes in drawn[0].axes[::2]}
    assert markers == {"Long": "None", "Short": "o"}


def test_a_control_is_drawn_beside_its_run_alone(finished, tree, tmp_path):
    """The run that only serves as another's control has no panel of its own."""
    for script in ("SE-Attention", "ECA-Attention", "CNN"):
        for end in ("csv", "json"):  # no picture is needed
            shutil.copy(finished[script][1] / "plots" / f"{script}.{end}", tmp_path)
    folder = read_folder(tmp_path, facts(tree))
    assert list(folder) == ["CNN", "SE-Attention", "ECA-Attention"]  # in the scripts' order
    assert all(control == [] for _, control in folder.values())
    for end in ("csv", "json"):
        (tmp_path / f"CNN.{end}").rename(tmp_path / f"CNN-32-64-128.{end}")
    folder = read_folder(tmp_path, facts(tree))
    assert list(folder) == ["SE-Attention", "ECA-Attention"]
    assert all(len(history) == len(control) == 2 for history, control in folder.values())


def test_a_control_trained_otherwise_is_left_out_and_the_run_says_how_to_get_one(tree, tmp_path):
    def train(script, *flags):
        result = run(script, "--data", tree, "--epochs", 1, *flags, cwd=tmp_path)
        assert result.status == 0
        return result.out.splitlines()[0], read_folder(tmp_path / "plots", facts(tree))

    train("CNN", "--widths", 32, 64, 128, "--lr", 0.01, "--batch-size", 5, "--seed", 7)
    said, folder = train("SE-Attention", "--batch-size", 5)
    assert "which has seed 7, not 0, lr 0.01, not 0.001. To match: python CNN.py --widths 32 64 128" in said
    assert [(name, len(control)) for name, (_, control) in folder.items()] == [
        ("SE-Attention", 0),
        ("CNN-32-64-128", 0),
    ]
    script, *flags = shlex.split(said.partition("To match: python ")[2])
    _, folder = train(script.removesuffix(".py"), *flags)
    assert list(folder) == ["SE-Attention"] and len(folder["SE-Attention"][1]) == 1
