"""Every script as a user runs it: what it prints and leaves, its control, its flags, and where it has to manage."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import DRAWN, NETWORKS, ROOT, SCRIPTS, check_refused, copy_script, make_tree, posix, rows, run
from PIL import Image

LINE = re.compile(
    r"Epoch \[(\d+)/2\] Train Loss: (\d+\.\d{4}), Train Acc: (\d+\.\d\d)% "
    r"Test Loss: (\d+\.\d{4}), Test Acc: (\d+\.\d\d)%"
)


def facts(path):
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_run_prints_and_leaves(script, finished):
    result, folder = finished[script]
    assert (result.status, result.err) == (0, "")  # and no bars in a log
    control, path = NETWORKS[script].control, folder / "plots" / f"{script}.csv"
    assert ("To train its control" in result.out) == bool(control)
    with path.open(encoding="utf-8", newline="") as file:
        epochs = list(csv.DictReader(file))
    assert list(epochs[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "seconds"]
    lines = [line for line in result.out.splitlines() if line.startswith("Epoch")]
    for line, epoch in zip(lines, epochs, strict=True):
        recorded = [float(value) for value in list(epoch.values())[:5]]
        assert [float(number) for number in LINE.fullmatch(line).groups()] == pytest.approx(recorded, abs=0.006)
    expected = {"script": script, "control": control, "data": "tiny tree", "classes": ["ant", "bee", "cow"], "seed": 0}
    assert (expected | {"torch": torch.__version__}).items() <= facts(path).items()
    for picture in [".attention.png"] * (script in DRAWN) + [".png"] * (script == "CNN"):
        with Image.open(path.with_suffix(picture)) as image:
            assert image.width == 1400


def said_flags(text: str, label: str) -> list[str]:
    """The flags of the command that a message gives after a label."""
    return shlex.split(text.partition(f"{label}: ")[2].splitlines()[0].partition("; ")[0])[2:]


def test_a_control_is_trained_as_the_run_says_and_drawn_beside_it(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 2, "--seed", 3, "--out", "my plots"]
    first = run("SE-Attention", *flags, cwd=tmp_path)
    typed = said_flags(first.out, "the same network without the block")
    assert typed == [*map(str, flags), "--control"]
    looked = run("SE-Attention", "--data", tree, "--out", "my plots", "--look", cwd=tmp_path)
    again = said_flags(looked.out, "the same network without the block")  # as the run was trained
    assert again[:5] == ["--control", "--epochs", "2", "--seed", "3"]
    result = run("SE-Attention", *typed, cwd=tmp_path)
    assert (result.status, result.err) == (0, "") and "To train its control" not in result.out
    control, block = (tmp_path / "my plots" / name for name in ("CNN-32-64-128.csv", "SE-Attention.csv"))
    assert rows(control) != rows(block) and len(rows(control)) == 3
    assert facts(control)["script"] == "CNN-32-64-128" and facts(control)["control"] is None
    assert facts(control)["parameters"] == facts(block)["control_parameters"] == 355_907  # three classes
    # any script of that trunk continues it
    result = run("ECA-Attention", *flags, "--epochs", 3, "--control", "--resume", cwd=tmp_path)
    assert (result.status, result.out.count("Epoch [")) == (0, 1)
    result = run("ECA-Attention", *flags, "--seed", 4, cwd=tmp_path)
    assert "was trained with seed 3, not 4" in result.out
    assert run("ECA-Attention", *said_flags(result.out, "To train a matching one"), cwd=tmp_path).status == 0
    assert "not shown" not in run("ECA-Attention", *flags, "--seed", 4, "--resume", cwd=tmp_path).out


def test_a_control_of_another_network_is_not_taken_for_it(tree, tmp_path, typed):
    """A copied script with other widths and the old name of its control."""
    copy = copy_script("SE-Attention", tmp_path / "Mine.py", "widths=(32, 64, 128)", "widths=(32, 64, 96)")
    flags, says = ["--data", tree, "--epochs", 1], "give the control another name"
    assert run("SE-Attention", *flags, "--control", cwd=tmp_path).status == 0
    before = (tmp_path / "plots" / "CNN-32-64-128.pt").read_bytes()
    for how in ([], ["--resume"], ["--look"]):
        check_refused(typed(copy, *flags, "--control", *how), says)
    assert (tmp_path / "plots" / "CNN-32-64-128.pt").read_bytes() == before
    result = run(copy, *flags, cwd=tmp_path)
    assert result.status == 0 and says in result.out


WRONG = [  # what is typed after `python`, and what the refusal says
    ("CNN.py --epochs 0", "'0' is not an integer of at least 1"),
    ("CNN.py --lr nan", "'nan' is not a number above 0"),
    ("CNN.py --seed -1", "'-1' is not an integer of at least 0"),
    ("CNN.py --device warp", "'warp' is not usable (Expected one of cpu, cuda, "),
    ("CNN.py --device cuda:99", "'cuda:99' is not usable ("),
    ("CNN.py --precision tf32 --device cpu", "or newer, but the device is cpu; use fp32 or bf16"),
    ("CNN.py --data nowhere", "--data nowhere: folder not found; give one with images or CIFAR-10"),
    (f"CNN.py --data {300 * 'x'}", "xx: folder not found"),
    ("CNN.py --data .", "--data .: has CNN.py, Comparison.py, blockless.py, but neither train and test"),
    ("CNN.py --out CNN.py/plots", "cannot write in the folder 'CNN.py"),
    ("CNN.py --epoch 3", "unrecognized arguments: --epoch"),
    ("CNN.py --control", "--control: this script names no control"),
    ("CNN.py --look", "no checkpoint"),
    ("CNN.py --photo CNN.py", f"no checkpoint {Path('plots', 'CNN.pt')}: train first, without --photo"),
    ("CNN.py --out trained --photo no.png", "--photo no.png: file not found"),
    (f"CNN.py --out trained --photo {300 * 'x'}", "xx: file not found"),
    ("CNN.py --out trained --photo 1 2 3 4 5 6 7 8 9", "--photo takes up to eight files, not 9"),
    ("blockless.py --control", "build(num_classes, block=...)"),
    ("Comparison.py", "give the script another name"),  # on macOS and Windows `Comparison.png` is `comparison.png`
    ("benchmarks/ResNet-18.py --blocks SE-Four", "invalid choice: 'SE-Four'"),
    ("benchmarks/ResNet-18.py --minutes -1", "'-1' is not a number of at least 0"),
    ("benchmarks/ResNet-18.py --data nowhere", "folder not found"),
    ("benchmarks/in_place.py", "give own or ResNet-18"),
    ("benchmarks/in_place.py ResNet-9 block SE-Attention.py SE", "give own or ResNet-18"),
    ("benchmarks/in_place.py own half SE-Attention.py SE", "give own or ResNet-18"),
    ("benchmarks/in_place.py own constant SE-Attention.py SE 0.5", "as a JSON list"),
]


@pytest.mark.parametrize("words, says", WRONG)
def test_what_cannot_be_is_refused_in_a_line(words, says, typed):
    """In a folder with copies of scripts and an empty checkpoint in it, and with no data."""
    copy_script("CNN", Path("blockless.py"), "run(build)", "run(build, 'control')")
    for name in ("CNN", "Comparison"):
        copy_script("CNN", Path(f"{name}.py"))
    Path("trained").mkdir()
    Path("trained", "CNN.pt").touch()
    script, *flags = shlex.split(words)
    result = typed(ROOT / script if script.startswith("benchmarks") else script, *flags)
    check_refused(result, says)
    assert result.out == "" and result.err.startswith(f"{Path(script).name}: ")


ODD_NAMES = ["$a$", "cash $5 to $10", "a_1^2 %s {}", "中文", "عربى", "-x", "no font has \U0010fffd"]
if os.name != "nt":
    ODD_NAMES.append(r"$\frac{$")
if sys.platform == "linux":
    ODD_NAMES.append(os.fsdecode(b"caf\xe9"))  # from an archive of the days before UTF-8


def test_names_of_every_kind_are_drawn(tmp_path):
    """Of classes, the folder and the script, whose names are in the titles."""
    tree = make_tree(tmp_path / f"$_^$中{ODD_NAMES[-1]}", classes=tuple(ODD_NAMES), train=2, test=1)
    # a parameter of five dimensions, for which there is no channels last
    table = "super().__init__()\n        self.table = nn.Parameter(torch.zeros(1, 1, 1, 1, 1))"
    script = copy_script("SE-Attention", tmp_path / "$5 to $6 中文.py", "super().__init__()", table)
    result = run(script, "--data", tree, "--epochs", 1, cwd=tmp_path, attention=True, curves=True)
    assert (result.status, result.err) == (0, "")
    for name in (f"{script.stem}.png", f"{script.stem}.attention.png", "comparison.png"):
        with Image.open(tmp_path / "plots" / name) as picture:
            picture.load()


def close_streams() -> None:
    os.close(1)
    os.close(2)
    sys.stdout = sys.stderr = None  # as Python has them then


def stop_reading() -> None:
    """As `| head -0` does."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)


@posix
def test_closed_streams_and_a_reader_that_stops_reading(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 1]
    assert run("CNN", *flags, cwd=tmp_path, prepare=close_streams, curves=True) == (0, "", "")
    for path in (tmp_path / "plots").iterdir():  # files get the numbers of closed streams
        assert b"Epoch [" not in path.read_bytes()
    assert run("CNN", *flags, cwd=tmp_path, prepare=stop_reading) == (1, "", "")


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no git, or no checkout")
def test_as_a_newcomer_types_it(tree, tmp_path):
    """In a clone, with their own style of plots. Standard output and nothing else is the log; Git sees no change."""

    def typed(*words: object) -> subprocess.CompletedProcess:
        environment = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
        return subprocess.run(list(map(str, words)), cwd=clone, capture_output=True, text=True, env=environment)

    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.constrained_layout.use: True\n")
    clone = tmp_path / "clone"
    clone.mkdir()
    typed("git", "clone", "--quiet", ROOT, clone)
    result = typed(sys.executable, "CNN.py", "--data", tree, "--epochs", 1)
    assert (result.returncode, result.stderr) == (0, "")
    assert "60 images to train, 24 to test" in result.stdout and "Epoch [1/1] Train Loss" in result.stdout
    left = {"CNN.png", "CNN.csv", "CNN.json", "CNN.pt", "CNN.attention.png", "comparison.png", ".CNN.lock"}
    assert {path.name for path in (clone / "plots").iterdir()} - {"README.md", "gallery"} == left
    assert typed("git", "status", "--porcelain").stdout == ""
