"""The flags: what is refused before any work starts, and the names that they give a run's files."""

import pytest
import torch
from helpers import ROOT, Process, run

from support.run.facts import write_facts

WRONG_FLAGS = [
    (["--epochs", 0], "'0' is not an integer of at least 1"),
    (["--epochs", "ten"], "'ten' is not an integer"),
    (["--epochs", 1.5], "'1.5' is not an integer"),
    (["--batch-size", -64], "'-64' is not an integer of at least 1"),
    (["--lr", 0], "'0' is not a number above 0"),
    (["--lr", "nan"], "'nan' is not a number above 0"),
    (["--lr", "inf"], "'inf' is not a number above 0"),
    (["--seed", -1], "'-1' is not an integer of at least 0"),
    (["--seed", 10**30], "is not an integer of at least 0"),
    (["--device", "warp"], "'warp' cannot compute here (Expected one of cpu, cuda, "),
    (["--device", "cuda:99"], "'cuda:99' cannot compute here ("),
    (
        ["--device", "meta"],
        "'meta' cannot compute here (Tensor.item() cannot be called on meta tensors): give",
    ),
    (["--device", ""], "'' cannot compute here (Device string must not be empty)"),
    (["--precision", "fp8"], "fp8"),
    (["--precision", "tf32", "--device", "cpu"], "or newer, and the device is cpu: give fp32 or bf16"),
    (["--data", "nowhere"], "nowhere: there is no such folder"),
    (["--data", "file.txt"], "file.txt: there is no such folder; give one with the data in it"),
    (["--data", ""], "no such folder"),
    (["--out", "file.txt"], "cannot write in the folder 'file.txt'"),
    (["--out", "file.txt/plots"], "cannot write in the folder 'file.txt"),
    (["--epoch", 3], "unrecognized arguments: --epoch"),
    (["--epochs"], "expected one argument"),
    (["extra"], "unrecognized arguments: extra"),
    (["--widths", 0], "widths (0)"),
    (["--widths", 8, 8, 8, 8, 8, 8], "one to five"),
    (["--widths"], "expected at least one argument"),
    (["--hidden", 0], "hidden (0)"),
    (["--dropout", 1], "dropout (1.0)"),
    (["--dropout", "nan"], "dropout (nan)"),
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
    assert f"'cuda', which auto has found, cannot compute here ({reason}): give --device cpu" in result.err


@pytest.mark.parametrize("name", ["Comparison", "comparison-shapes", "SE.Attention"])
def test_a_script_cannot_take_the_name_of_another_s_picture(name, tree, tmp_path):
    """In any letter case: on macOS and Windows `Comparison.png` is `comparison.png`."""
    copy = tmp_path / f"{name}.py"
    copy.write_bytes((ROOT / "SE-Attention.py").read_bytes())
    for data in (tree, "shapes"):
        result = run(str(copy), "--data", data, "--epochs", 1, cwd=tmp_path)
        assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
        assert "another name" in result.err and not list(tmp_path.glob("plots/*"))


def test_a_run_is_not_replaced_by_another_script_s(tmp_path):
    """`CNN-8.py` and `CNN.py --widths 8` have the same files."""
    (tmp_path / "plots").mkdir()
    write_facts(tmp_path / "plots" / "CNN-8-shapes.json", {"script": "CNN-8"})
    result = run("CNN", "--data", "shapes", "--epochs", 1, "--widths", 8, cwd=tmp_path)
    assert result.status == 2 and result.err.count("\n") == 1 and "is of a run of CNN-8" in result.err


NAMES = {
    "CNN-8-16": ["--widths", 8, 16],
    "CNN-8-hidden16-dropout0": ["--widths", 8, "--hidden", 16, "--dropout", 0],
    "CNN-8-hidden16": ["--widths", 8, "--hidden", 16],
    "CNN-8-hidden12": ["--widths", 8, "--hidden", 12],
    "CNN-8-dropout0.25": ["--dropout", 0.25, "--widths", 8],
}


def test_every_flag_that_changes_the_network_is_in_the_name(tree, tmp_path):
    for typed in NAMES.values():
        assert run("CNN", "--data", tree, "--epochs", 1, *typed, cwd=tmp_path).status == 0
    for end in ("csv", "json", "pt"):
        assert {path.stem for path in (tmp_path / "plots").glob(f"*.{end}")} == set(NAMES)
