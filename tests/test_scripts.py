"""Every script as a user runs it: what it prints and leaves, its control, its flags, and where it has to manage."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import NETWORKS, ROOT, SCRIPTS, Process, make_tree, rows, run
from PIL import Image

from support.run.command_line import make_parser

posix = pytest.mark.skipif(os.name == "nt", reason="types into a POSIX shell")
LINE = re.compile(
    r"Epoch \[(\d+)/2\] Train Loss: \d+\.\d{4}, Train Acc: \d+\.\d\d% "
    r"Test Loss: \d+\.\d{4}, Test Acc: \d+\.\d\d%"
)


def facts(path):
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_epochs(script, finished):
    result, folder = finished[script]
    assert (result.status, result.err) == (0, "")  # and no bars in a log
    lines = [line for line in result.out.splitlines() if line.startswith("Epoch")]
    assert [LINE.fullmatch(line)[1] for line in lines] == ["1", "2"]
    control = NETWORKS[script].control
    assert ("To train its control" in result.out) == bool(control)

    run_csv = folder / "plots" / f"{script}.csv"
    with run_csv.open(encoding="utf-8", newline="") as file:
        epochs = list(csv.DictReader(file))
    assert list(epochs[0]) == ["epoch", "train_loss", "train_acc", "test_loss", "test_acc", "seconds"]
    for line, epoch in zip(lines, epochs, strict=True):
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", line)]
        recorded = [float(epoch[key]) for key in ("train_loss", "train_acc", "test_loss", "test_acc")]
        assert numbers == pytest.approx(recorded, abs=0.006)
    known = facts(run_csv)
    expected = {"script": script, "control": control, "data": "tiny tree", "classes": ["ant", "bee", "cow"], "seed": 0}
    assert expected.items() <= known.items() and known["torch"] == torch.__version__

    with Image.open(folder / "plots" / f"{script}.png") as plot:
        assert plot.size == (1400, 704)  # the same for every script
    with Image.open(folder / "plots" / "comparison.png") as plot:
        assert plot.width == 1400


def test_same_seed_same_numbers(tree, tmp_path):
    def numbers(out, seed):
        assert run("CNN", "--data", tree, "--epochs", 2, "--seed", seed, "--out", out, cwd=tmp_path).status == 0
        return rows(tmp_path / out / "CNN.csv")

    assert numbers("first", 1) == numbers("second", 1) != numbers("third", 2)


# ---- the control ---------------------------------------------------------------------------------------


def said_command(text: str, label: str) -> list[str]:
    """The flags of the command that a message gives after a label, without `python` and the script."""
    return shlex.split(text.partition(f"{label}: ")[2].splitlines()[0].partition("; ")[0])[2:]


def test_a_control_is_trained_as_the_run_says_and_drawn_beside_it(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 2, "--seed", 3, "--out", "my plots"]
    first = run("SE-Attention", *flags, cwd=tmp_path)
    typed = said_command(first.out, "the same network without the block")
    assert typed == [*map(str, flags), "--control"]
    looked = run("SE-Attention", "--data", tree, "--out", "my plots", "--look", cwd=tmp_path)
    again = said_command(looked.out, "the same network without the block")  # as the run was trained
    assert again[:5] == ["--control", "--epochs", "2", "--seed", "3"]
    result = run("SE-Attention", *typed, cwd=tmp_path, curves=True)
    assert (result.status, result.err) == (0, "") and "To train its control" not in result.out
    control, block = (tmp_path / "my plots" / name for name in ("CNN-32-64-128.csv", "SE-Attention.csv"))
    assert rows(control) != rows(block) and len(rows(control)) == 3
    known = facts(control)
    assert known["script"] == "CNN-32-64-128" and known["control"] is None and known["script_checksum"] is None
    assert known["parameters"] == facts(block)["control_parameters"] == 355_907  # three classes
    # any script of that trunk continues it
    result = run("ECA-Attention", *flags, "--epochs", 3, "--control", "--resume", cwd=tmp_path)
    assert (result.status, result.out.count("Epoch [")) == (0, 1)
    result = run("ECA-Attention", *flags, "--seed", 4, cwd=tmp_path)
    assert "was trained with seed 3, not 4" in result.out
    typed = said_command(result.out, "To train a matching one")
    assert typed[0] == "--control" and "4" in typed and "my plots" in typed
    assert run("ECA-Attention", *typed, cwd=tmp_path).status == 0
    assert "not shown" not in run("ECA-Attention", *flags, "--seed", 4, "--resume", cwd=tmp_path).out


OTHER_WIDTHS = "widths=(32, 64, 96)"


def test_a_control_of_another_network_is_not_taken_for_it(tree, tmp_path):
    """A copied script with other widths and the old name of its control."""
    copy = tmp_path / "Mine.py"
    source = (ROOT / "SE-Attention.py").read_text(encoding="utf-8")
    copy.write_text(source.replace("widths=(32, 64, 128)", OTHER_WIDTHS), encoding="utf-8")
    flags = ["--data", tree, "--epochs", 1]
    assert run("SE-Attention", *flags, "--control", cwd=tmp_path).status == 0
    before = (tmp_path / "plots" / "CNN-32-64-128.pt").read_bytes()
    for how in ([], ["--resume"], ["--look"]):
        result = run(str(copy), *flags, "--control", *how, cwd=tmp_path)
        assert result.status == 2 and result.err.count("\n") == 1 and "give the control another name" in result.err
    assert (tmp_path / "plots" / "CNN-32-64-128.pt").read_bytes() == before
    result = run(str(copy), *flags, cwd=tmp_path)
    assert result.status == 0 and "give the control another name" in result.out


# ---- flags ---------------------------------------------------------------------------------------------

WITHOUT_BLOCK = "from common import CNN, run\n\n\ndef build(num_classes):\n    return CNN()\n\n\nrun(build, 'X')\n"
WRONG_FLAGS = [
    (["--epochs", 0], "'0' is not an integer of at least 1"),
    (["--epochs", 1.5], "'1.5' is not an integer"),
    (["--batch-size", -64], "'-64' is not an integer of at least 1"),
    (["--lr", "nan"], "'nan' is not a number above 0"),
    (["--lr", "inf"], "'inf' is not a number above 0"),
    (["--seed", -1], "'-1' is not an integer of at least 0"),
    (["--seed", 10**30], "is not an integer of at least 0"),
    (["--device", "warp"], "'warp' is not usable (Expected one of cpu, cuda, "),
    (["--device", "cuda:99"], "'cuda:99' is not usable ("),
    (["--device", "meta"], "'meta' is not usable (Tensor.item() cannot be called on meta tensors); use"),
    (["--precision", "fp8"], "fp8"),
    (["--precision", "tf32", "--device", "cpu"], "or newer, but the device is cpu; use fp32 or bf16"),
    (["--data", "nowhere"], "nowhere: folder not found"),
    (["--data", "file.txt"], "file.txt: folder not found; give one with images or CIFAR-10"),
    (["--data", ""], "folder not found"),
    (["--out", "file.txt"], "cannot write in the folder 'file.txt'"),
    (["--out", "file.txt/plots"], "cannot write in the folder 'file.txt"),
    (["--epoch", 3], "unrecognized arguments: --epoch"),
    (["--epochs"], "expected one argument"),
    (["--control"], "--control: this script names no control"),
    (["--look"], "no checkpoint"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What `CNN.py` answers to each of the wrong flags, asked two at a time."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "file.txt").write_text("not a folder")
    results = []
    for i in range(0, len(WRONG_FLAGS), 2):
        pair = [Process("CNN", *typed, cwd=folder) for typed, _ in WRONG_FLAGS[i : i + 2]]
        results += [process.wait() for process in pair]
    return results


@pytest.mark.parametrize("i", range(len(WRONG_FLAGS)), ids=lambda i: " ".join(map(str, WRONG_FLAGS[i][0])))
def test_wrong_flags(i, refusals):
    says, result = WRONG_FLAGS[i][1], refusals[i]
    assert result.status == 2 and result.out == ""
    assert result.err.startswith("CNN.py: ") and result.err.count("\n") == 1 and says in result.err


def test_a_build_without_a_block_has_no_control_to_train(tmp_path):
    script = tmp_path / "Mine.py"
    script.write_text(WITHOUT_BLOCK, encoding="utf-8")
    result = run(str(script), "--control", cwd=tmp_path)
    assert result.status == 2 and result.err.count("\n") == 1 and "build(num_classes, block=...)" in result.err


def spoil_cuda() -> None:
    """A GPU that is there and cannot be had, as when another process has it to itself."""
    ones = torch.ones

    def busy(*size, device=None, **rest):
        if torch.device(device or "cpu").type == "cuda":
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nFor debugging pass")
        return ones(*size, device=device, **rest)

    torch.ones, torch.cuda.is_available = busy, lambda: True


def test_a_gpu_that_auto_finds_and_that_cannot_compute(tmp_path):
    result = run("CNN", cwd=tmp_path, prepare=spoil_cuda)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    reason = "CUDA error: all CUDA-capable devices are busy or unavailable"
    assert f"--device auto chose 'cuda', which is not usable ({reason}); use --device cpu" in result.err


def test_without_docstrings(monkeypatch):
    """As under `python -OO`."""
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    assert make_parser("SE-Attention").description.startswith("Trains SE-Attention. Writes plots")


@pytest.mark.parametrize("name", ["Comparison", "comparison-shapes", "SE.Attention"])
def test_a_script_cannot_take_the_name_of_another_s_picture(name, tree, tmp_path):
    """In any letter case: on macOS and Windows `Comparison.png` is `comparison.png`."""
    copy = tmp_path / f"{name}.py"
    copy.write_bytes((ROOT / "SE-Attention.py").read_bytes())
    result = run(str(copy), "--data", tree, "--epochs", 1, cwd=tmp_path)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert "another name" in result.err and not list(tmp_path.glob("plots/*.png"))


# ---- names, streams, a newcomer's clone ----------------------------------------------------------------


def test_renamed_scripts_write_their_own_plots(tree, tmp_path):
    for name in ("My Block", "My-shapes", "$5 to $6"):
        (tmp_path / f"{name}.py").write_bytes((ROOT / "SE-Attention.py").read_bytes())
        assert run(str(tmp_path / f"{name}.py"), "--data", tree, "--epochs", 1, cwd=tmp_path, curves=True).status == 0
        assert (tmp_path / "plots" / f"{name}.png").exists()
    assert (tmp_path / "plots" / "comparison.png").exists()


def test_a_tree_named_shapes_is_not_the_drawn_shapes(tmp_path):
    make_tree(tmp_path / "shapes")
    assert run("CNN", "--data", tmp_path / "shapes", "--epochs", 1, cwd=tmp_path, curves=True).status == 0
    assert (tmp_path / "plots" / "comparison.png").exists()


ODD_NAMES = ["$a$", "cash $5 to $10", "a_1^2 %s {}", "中文", "한국어", "عربى", "-x"]
if os.name != "nt":
    ODD_NAMES.append(r"$\frac{$")
if sys.platform == "linux":
    ODD_NAMES.append(os.fsdecode(b"caf\xe9"))  # from an archive of the days before UTF-8


def test_names_of_every_kind_are_drawn(tmp_path):
    """Of classes, and of the folder, whose name is in the titles."""
    tree = make_tree(tmp_path / f"$_^$中{ODD_NAMES[-1]}", classes=tuple(ODD_NAMES), train=2, test=1)
    result = run("SE-Attention", "--data", tree, "--epochs", 1, cwd=tmp_path, attention=True)
    assert (result.status, result.err) == (0, "")
    for name in ("SE-Attention.png", "SE-Attention.attention.png", "comparison.png"):
        with Image.open(tmp_path / "plots" / name) as picture:
            picture.load()


REDIRECTIONS = [">&- 2>&-", "| head -1"]
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
        typed = list(map(str, [sys.executable, scripts[name], "--data", tree, "--epochs", "1"]))
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
    left = {"CNN.png", "CNN.csv", "CNN.json", "CNN.pt", "CNN.attention.png", "comparison.png", ".CNN.lock"}
    assert {path.name for path in (folder / "plots").iterdir()} - {"README.md", "gallery"} == left
    assert git("-C", folder, "status", "--porcelain") == ""


@posix
def test_closed_streams_and_the_user_s_own_style_of_plots(started):
    """Without LaTeX on the machine, say, `text.usetex` would end every run at its first plot."""
    status, out, err, folder = started[REDIRECTIONS[0]]
    assert (status, out, err) == (0, "", "")
    # files get the numbers of closed streams: none may have caught what was to be printed
    for path in (folder / "plots").iterdir():
        assert b"Epoch [" not in path.read_bytes()
    usual = started["newcomer"][3]
    for name in ("CNN.png", "CNN.attention.png"):
        with Image.open(folder / "plots" / name) as styled, Image.open(usual / "plots" / name) as plain:
            assert styled.convert("RGB").tobytes() == plain.convert("RGB").tobytes(), name


@posix
def test_a_reader_that_stops_reading_is_no_fault_of_the_disk(started):
    _, out, err, _ = started["| head -1"]
    assert out.startswith("CNN: ") and out.count("\n") == 1
    assert "cannot write" not in err and "Traceback" not in err
