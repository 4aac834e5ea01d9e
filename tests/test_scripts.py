"""Every script as a user runs it: what it prints, what it leaves, and where it has to manage."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers import NETWORKS, ROOT, SCRIPTS, make_tree, rows, run
from PIL import Image

posix = pytest.mark.skipif(os.name == "nt", reason="types into a POSIX shell")
LINE = re.compile(
    r"Epoch \[(\d+)/2\] Train Loss: \d+\.\d{4}, Train Acc: \d+\.\d\d% "
    r"Test Loss: \d+\.\d{4}, Test Acc: \d+\.\d\d%"
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_epochs(script, finished):
    result, folder = finished[script]
    assert (result.status, result.err) == (0, "")  # and no bars in a log
    lines = [line for line in result.out.splitlines() if line.startswith("Epoch")]
    assert [LINE.fullmatch(line)[1] for line in lines] == ["1", "2"]

    with (folder / "plots" / f"{script}.csv").open(encoding="utf-8", newline="") as file:
        epochs = list(csv.DictReader(file))
    assert list(epochs[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "seconds"]
    for line, epoch in zip(lines, epochs, strict=True):
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
        recorded = [float(epoch[key]) for key in ("train_loss", "train_acc", "test_loss", "test_acc")]
        assert numbers == pytest.approx(recorded, abs=0.006)

    with Image.open(folder / "plots" / f"{script}.png") as plot:
        assert plot.size == (1400, 704)  # the same for every script
    with Image.open(folder / "plots" / "comparison.png") as plot:
        assert plot.width == 1400


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_the_control_that_is_listed(script):
    named = re.findall(r'control="([^"]+)"', (ROOT / f"{script}.py").read_text(encoding="utf-8"))
    assert (named or [None]) == [NETWORKS[script].control]


def test_same_seed_same_figures(tree, tmp_path):
    def figures(out, seed):
        assert run("CNN", "--data", tree, "--epochs", 2, "--seed", seed, "--out", out, cwd=tmp_path).status == 0
        return rows(tmp_path / out / "CNN.csv")

    assert figures("first", 1) == figures("second", 1) != figures("third", 2)


@pytest.mark.parametrize("name", ["My Block", "My-shapes", "$5 to $6"])
def test_a_renamed_script_writes_its_own_plot(name, tree, tmp_path):
    copy = tmp_path / f"{name}.py"
    copy.write_bytes((ROOT / "SE-Attention.py").read_bytes())
    assert run(str(copy), "--data", tree, "--epochs", 1, cwd=tmp_path, curves=True).status == 0
    assert {"comparison.png", f"{name}.png"} <= {path.name for path in (tmp_path / "plots").iterdir()}


def test_a_tree_named_shapes_is_not_the_drawn_shapes(tmp_path):
    make_tree(tmp_path / "shapes")
    assert run("CNN", "--data", tmp_path / "shapes", "--epochs", 1, cwd=tmp_path, curves=True).status == 0
    assert (tmp_path / "plots" / "comparison.png").exists()


def test_a_network_too_large_for_the_memory(tmp_path):
    result = run("CNN", "--data", "shapes", "--hidden", 10**12, cwd=tmp_path)
    assert result.status == 1 and "out of memory" in result.err and result.err.count("\n") == 1


ODD_NAMES = ["$a$", "cash $5 to $10", "a_1^2 %s {}", "中文", "한국어", "عربى", "-x"]
if os.name != "nt":
    ODD_NAMES.append(r"$\frac{$")
if sys.platform == "linux":
    ODD_NAMES.append(os.fsdecode(b"caf\xe9"))  # from an archive of the days before UTF-8


@pytest.mark.parametrize("script", ["CNN", "SE-Attention"])
def test_names_of_every_kind_are_drawn(script, tmp_path):
    """Of classes, and of the folder, whose name is in the titles."""
    tree = make_tree(tmp_path / f"$_^$中{ODD_NAMES[-1]}", classes=tuple(ODD_NAMES), train=2, test=1)
    result = run(script, "--data", tree, "--epochs", 1, cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "")
    for name in (f"{script}.png", f"{script}.attention.png", "comparison.png"):
        with Image.open(tmp_path / "plots" / name) as picture:
            picture.load()


# ---- in an interpreter of its own, started from a shell ------------------------------------------------

REDIRECTIONS = ["2>&-", ">&- 2>&-", "| head -1"]


IS_CHECKOUT = bool(shutil.which("git") and (ROOT / ".git").exists())


def git(*typed: object) -> str:
    return subprocess.run(["git", *map(str, typed)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def started(tree, tmp_path_factory):
    """`CNN.py` in interpreters of their own, all at once: {name: (status, out, err, folder)}.

    One in a clone; the others with their streams redirected, the first of these where a user has a style of plots.
    """
    folders = {name: tmp_path_factory.mktemp("started") for name in (*REDIRECTIONS, "newcomer")}
    style = "text.usetex: True\nfigure.constrained_layout.use: True\n"
    (folders[REDIRECTIONS[0]] / "matplotlibrc").write_text(style)
    scripts = dict.fromkeys(folders, ROOT / "CNN.py")
    if IS_CHECKOUT:
        git("clone", "--quiet", ROOT, folders["newcomer"])
        scripts["newcomer"] = "CNN.py"
    processes = {}
    for name, folder in folders.items():
        typed = list(map(str, [sys.executable, "-u", scripts[name], "--data", tree, "--epochs", "1"]))
        if name in REDIRECTIONS and os.name != "nt":
            typed = ["sh", "-c", f"{shlex.join(typed)} {name}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes[name] = subprocess.Popen(typed, cwd=folder, text=True, **pipes)
    results = {}
    for name, process in processes.items():
        out, err = process.communicate(timeout=120)
        results[name] = process.returncode, out, err, folders[name]
    return results


@pytest.mark.skipif(not IS_CHECKOUT, reason="no git, or no checkout")
def test_as_a_newcomer_types_it(started):
    """In a clone; standard output and nothing else is the log. Git sees no change."""
    status, out, err, folder = started["newcomer"]
    assert (status, err) == (0, "")
    assert "60 images to train, 24 to test" in out and "Epoch [1/1] Train Loss" in out
    left = {"CNN.png", "CNN.csv", "CNN.json", "CNN.pt", "CNN.attention.png", "comparison.png"}
    assert {path.name for path in (folder / "plots").iterdir()} - {"README.md", "gallery"} == left
    for name in ("plots/SE-Attention-shapes.csv", "plots/SE-Attention-shapes.json", "runs/seed0/CNN.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")  # as a run with other flags leaves it
    assert git("-C", folder, "status", "--porcelain") == ""


@posix
@pytest.mark.parametrize("closed", REDIRECTIONS[:2])
def test_closed_streams(closed, started):
    status, out, err, folder = started[closed]
    assert (status, err) == (0, "")
    assert ("Epoch [1/1]" in out) == (">&-" not in closed.split())
    assert (folder / "plots" / "CNN.png").exists()
    # files get the numbers of closed streams: none may have caught what was to be printed
    for path in (folder / "plots").iterdir():
        assert b"Epoch [" not in path.read_bytes()


@posix
def test_a_reader_that_stops_reading_is_no_fault_of_the_disk(started):
    _, out, err, _ = started["| head -1"]
    assert out.startswith("CNN: ") and out.count("\n") == 1
    assert "cannot write" not in err and "Traceback" not in err


def test_the_user_s_own_style_of_plots_changes_nothing(started):
    """Without LaTeX on the machine, say, `text.usetex` would end every run at its first plot."""
    own, usual = started[REDIRECTIONS[0]][3], started[REDIRECTIONS[1]][3]
    for name in ("CNN.png", "CNN.attention.png", "comparison.png"):
        with Image.open(own / "plots" / name) as styled, Image.open(usual / "plots" / name) as plain:
            assert styled.convert("RGB").tobytes() == plain.convert("RGB").tobytes(), name
