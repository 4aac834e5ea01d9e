"""Runs that are killed, interrupted, out of disk or diverging, and what `--resume` makes of them."""

import json
import os
import pickle
import random
import shlex
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from helpers import ROOT, Process, check_refused, contents, copy_script, make_tree, posix, rows, run

CNN = ROOT / "CNN.py"


@pytest.fixture
def plots(finished, tmp_path):
    """A run of two epochs in the folder of a test."""
    return shutil.copytree(finished["CNN"][1] / "plots", tmp_path / "plots")


def wait_for(file: Path, process: Process) -> None:
    while not file.exists():
        assert process.process.is_alive()
        time.sleep(0.01)


def check_whole(out: Path, name: str) -> int:
    """Checks that what a run has left is whole; gives the number of epochs that can be resumed."""
    if (out / f"{name}.json").exists():
        json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    if (out / f"{name}.csv").exists():
        lines = (out / f"{name}.csv").read_text(encoding="utf-8").split("\n")
        assert lines[-1] == "" and all(len(line.split(",")) == 6 for line in lines[:-1])
    if not (out / f"{name}.pt").exists():
        return 0
    return len(torch.load(out / f"{name}.pt", weights_only=True)["history"])


@posix
def test_killed_at_random_moments_and_resumed_to_the_digit(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 8, "--batch-size", 16, "--resume"]
    start = time.monotonic()
    assert run("CNN", *flags, "--out", "whole", cwd=tmp_path).status == 0
    seconds = time.monotonic() - start
    rng, killed, done = random.Random(0), tmp_path / "killed", 0
    for _ in range(5):
        process = Process("CNN", *flags, "--out", killed, cwd=tmp_path)
        deadline = time.monotonic() + rng.uniform(0.1, 1) * seconds
        while time.monotonic() < deadline and check_whole(killed, "CNN") < 7:
            time.sleep(0.01)
        process.process.kill()
        assert process.wait().status == -signal.SIGKILL
        epochs = check_whole(killed, "CNN")
        assert epochs >= done, "an epoch was lost"
        done = epochs
        if done == 7:  # start over, so that kills hit training, not its end
            shutil.rmtree(killed)
            done = 0
    assert run("CNN", *flags, "--out", killed, cwd=tmp_path).status == 0
    assert rows(killed / "CNN.csv") == rows(tmp_path / "whole" / "CNN.csv")
    assert (killed / "CNN.json").read_bytes() == (tmp_path / "whole" / "CNN.json").read_bytes()


@pytest.mark.parametrize(("script", "precision"), [("Self-Attention", "bf16"), ("STN-Attention", "fp32")])
def test_more_epochs_later_are_the_same_as_at_once(script, precision, tree, tmp_path):
    """Also where the checkpoint is from a GPU, on which weights and moments have another order in memory."""
    flags = ["--data", tree, "--precision", precision, "--seed", 5]
    whole = Process(script, *flags, "--epochs", 3, "--out", "whole", cwd=tmp_path)
    assert run(script, *flags, "--epochs", 1, "--out", "parts", cwd=tmp_path).status == 0
    path = tmp_path / "parts" / f"{script}.pt"
    saved = torch.load(path, weights_only=True)
    moments = saved["optimizer"]["state"].values()
    assert not all(state["exp_avg"].is_contiguous() for state in moments)
    for state in moments:
        state.update({key: value.contiguous() for key, value in state.items()})
    torch.save(saved, path)
    resumed = run(script, *flags, "--epochs", 3, "--out", "parts", "--resume", cwd=tmp_path)
    assert resumed.status == whole.wait().status == 0 and "was edited" not in resumed.out
    assert rows(path.with_suffix(".csv")) == rows(tmp_path / "whole" / f"{script}.csv")
    whole, parts = (torch.load(tmp_path / out / path.name, weights_only=True)["model"] for out in ("whole", "parts"))
    assert all(whole[key].equal(parts[key]) for key in whole)
    assert all(weight.is_contiguous() for weight in whole.values())  # as other programs expect them


def test_resuming_a_finished_run_restores_its_files(plots, tree, tmp_path):
    """From a copy of its data elsewhere, too."""
    before, copy = contents(plots), shutil.copytree(tree, tmp_path / "copy" / tree.name)
    for file in ("CNN.csv", "CNN.json", "comparison.png"):
        (plots / file).unlink()
    result = run("CNN", "--data", copy, "--epochs", 2, "--resume", cwd=tmp_path, curves=True)
    assert result.status == 0 and "Epoch [" not in result.out
    assert contents(plots) == before


def test_resuming_an_edited_script_says_so_and_goes_on(tree, tmp_path):
    script, flags = copy_script("Multi-Head Attention", tmp_path / "Mine too.py"), ["--data", tree, "--epochs"]
    assert run(script, *flags, 1, cwd=tmp_path).status == 0
    copy_script("Multi-Head Attention", script, "num_heads: int = 4", "num_heads: int = 8")  # the same weights
    result = run(script, *flags, 2, "--resume", cwd=tmp_path)
    assert result.status == 0 and result.out.count("Epoch [") == 1
    assert "Mine too.py was edited after this run began" in result.out
    copy_script("Multi-Head Attention", script, "run(build, ", "run(build, name='Mine too', ")  # as from a cell
    assert "was edited" not in run(script, *flags, 2, "--resume", cwd=tmp_path).out
    moved = run(script, *flags, 1, cwd=tmp_path).out
    add = shlex.split(moved.partition("To resume that one, add: ")[2].splitlines()[0])
    assert run(script, *flags, 3, *add, cwd=tmp_path).out.count("Epoch [") == 1


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def flip_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:600_000] + bytes([content[600_000] ^ 1]) + content[600_001:])


def widen(path: Path) -> None:
    saved = torch.load(path, weights_only=True)
    saved["model"]["classifier.4.bias"] = torch.zeros(4)
    torch.save(saved, path)


UNFIT = {  # what is typed, what is done to the checkpoint, and what the refusal says
    "another learning rate": (["--lr", 0.1], None, "lr 0.001, not 0.1"),
    "another seed": (["--seed", 4], None, "seed 0, not 4"),
    "another precision": (["--precision", "bf16"], None, "precision fp32, not bf16"),
    "fewer epochs": (["--epochs", 1], None, "has 2 epochs already"),
    "another network's": ([], widen, "of another network, perhaps of another version"),
    "other data": (["--data", "other"], None, "was trained on other images: give --data their folder, or start afresh"),
    "half": ([], lambda path: path.write_bytes(path.read_bytes()[:500_000]), "is damaged: start afresh"),
    "a bit": ([], flip_a_bit, "is damaged: start afresh"),
    "hostile": ([], lambda path: torch.save({"facts": Bomb()}, path), "is damaged: start afresh"),
    "a hostile pickle": ([], lambda path: path.write_bytes(pickle.dumps(Bomb())), "is damaged: start afresh"),
    "another program's": ([], lambda path: torch.save({"weight": torch.ones(3)}, path), "by another version"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_checkpoint_that_does_not_fit_is_refused_and_kept(case, plots, tree, tmp_path, typed):
    changed, spoil, says = UNFIT[case]
    make_tree(tmp_path / "other", classes=("bee", "cow", "ant"), train=1, test=1)
    if spoil:
        spoil(plots / "CNN.pt")
    before = contents(plots)
    check_refused(typed(CNN, "--data", tree, "--epochs", 4, "--resume", *changed), says)
    assert contents(plots) == before and not (tmp_path / "exploded").exists()


@posix
def test_ctrl_c_says_how_to_continue(tree, tmp_path):
    process = Process("Multi-Head Attention", "--data", tree, "--epochs", 500, cwd=tmp_path)
    wait_for(tmp_path / "plots" / "Multi-Head Attention.csv", process)
    os.kill(process.process.pid, signal.SIGINT)
    result = process.wait()
    epochs = check_whole(tmp_path / "plots", "Multi-Head Attention")
    check_refused(result, f"stopped after epoch {epochs}; continue with: python '", 130)
    assert result.err.endswith(f"Attention.py' --data '{tree}' --epochs 500 --resume\n")
    flags = ["--data", tree, "--epochs", epochs + 1, "--resume"]
    assert run("Multi-Head Attention", *flags, cwd=tmp_path).out.count("Epoch [") == 1


FAILURES = {
    "stopped before the first epoch finished; nothing was saved": (KeyboardInterrupt(), 130),
    "try a smaller --batch-size than 512": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 1),
    "smaller --batch-size than 512, or a smaller network": (MemoryError(), 1),
    "The operator 'aten::x' is missing on cpu: add --device cpu": (
        NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device. If you want"),
        1,
    ),
    "last batch of an epoch has one image": (ValueError("Expected more than 1 value per channel when training"), 1),
}


@pytest.mark.parametrize("says", FAILURES)
def test_what_ends_a_first_epoch_is_one_line_and_displaces_no_earlier_run(says, plots, tree, typed, monkeypatch):
    before, (error, status) = contents(plots), FAILURES[says]
    monkeypatch.setattr("common.train_epoch", Mock(side_effect=error))
    check_refused(typed(CNN, "--data", tree, "--batch-size", 512), says, status)
    assert contents(plots) == before


def test_a_checkpoint_for_which_there_is_no_memory_is_not_called_damaged(plots, tree, typed, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    monkeypatch.setattr(torch.optim.Adam, "load_state_dict", Mock(side_effect=error))
    check_refused(typed(CNN, "--data", tree, "--epochs", 3, "--resume"), "out of memory on cpu", 1)


def test_a_fresh_start_moves_the_earlier_run_aside(plots, tmp_path):
    """All of it, every time, and nothing else."""
    earlier = {name: content for name, content in contents(plots).items() if name != "comparison.png"}
    others = {"CNN-attention.png", "CNN.5.png.1.tmp", "comparison.png.2.tmp"}  # of other runs
    for name in [*others, "CNN.attention.png.1.tmp"]:  # and what a kill has left
        (plots / name).write_bytes(b"half a picture")
    other, place = make_tree(tmp_path / "other", classes=("dog", "eel")), Path("plots") / "earlier" / "CNN-1"
    result = run("CNN", "--data", other, "--epochs", 1, cwd=tmp_path)
    assert result.status == 0 and result.out.count(f"Moved the previous run with this name to {place}") == 1
    left = {path.name for path in plots.iterdir()}
    assert others <= left and "CNN.attention.png.1.tmp" not in left
    second = (plots / "CNN.csv").read_bytes()
    (plots / "CNN.pt").unlink()  # as someone does who needs the space
    assert run("CNN", "--data", other, "--epochs", 1, cwd=tmp_path).status == 0
    assert (plots / "earlier" / "CNN-2" / "CNN.csv").read_bytes() == second
    assert contents(tmp_path / place) == earlier


def limit_files() -> None:
    """As on a full disk: no file of this process can grow beyond 1 MB, and a checkpoint is larger."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


@posix
@pytest.mark.parametrize("how", [["--resume"], []], ids=["resumed", "anew"])
def test_a_full_disk_costs_nothing_that_was_written(how, plots, tree, tmp_path):
    before = contents(plots)
    result = run("CNN", "--data", tree, "--epochs", 4, *how, cwd=tmp_path, prepare=limit_files)
    check_refused(result, "File too large", 1)
    assert ("--resume" in result.err) == bool(how)  # which would continue the earlier run
    assert "Moved" not in result.out and contents(plots) == before


def open_elsewhere(names: tuple[str, ...]) -> None:
    """As on Windows where another program has these files open."""
    replace = os.replace

    def refuse(source, target):
        if Path(target).name in names:
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)

    os.replace = refuse


def test_a_file_that_is_open_elsewhere_ends_no_run_unless_it_is_the_checkpoint(tree, tmp_path):
    flags, names = ["--data", tree, "--epochs", 2], ("CNN.csv", "CNN.json", "CNN.png")
    check_refused(run("CNN", *flags, cwd=tmp_path, prepare=partial(open_elsewhere, ("CNN.pt",))), "cannot write", 1)
    result = run("CNN", *flags, cwd=tmp_path, prepare=partial(open_elsewhere, names), curves=True)
    assert (result.status, result.err) == (0, "") and result.out.count("training goes on") == 3
    assert f"could not be written: {', '.join(str(Path('plots', name)) for name in names)}" in result.out
    result = run("CNN", *flags, "--resume", cwd=tmp_path, curves=True)
    assert result.status == 0 and "could not be written" not in result.out
    assert all((tmp_path / "plots" / name).exists() for name in names)


def test_a_loss_that_is_not_finite_keeps_the_last_good_epoch(plots, tree, tmp_path):
    saved = torch.load(plots / "CNN.pt", weights_only=True)
    saved["model"]["classifier.4.bias"][0] = 1e38  # the sum over a batch will overflow
    saved["model"]["classifier.4.bias"][1] = -1e38
    torch.save(saved, plots / "CNN.pt")
    result = run("CNN", "--data", tree, "--epochs", 4, "--resume", cwd=tmp_path)
    check_refused(result, "epoch 3 is not finite", 1)
    assert "--lr 0.0001" in result.err and check_whole(plots, "CNN") == 2


def test_a_mistake_of_the_user_s_own_keeps_its_traceback(tree, tmp_path, typed):
    own = copy_script("CNN", tmp_path / "Own.py", "return CNN", "open('my weights.pt')\n    return CNN")
    with pytest.raises(FileNotFoundError):
        typed(own, "--data", tree)


@posix
def test_of_two_runs_of_one_name_the_second_is_refused_until_the_first_is_gone(tree, tmp_path, typed):
    """Before it looks at its data; another folder is free."""
    first = Process("CNN", "--data", tree, "--epochs", 5000, cwd=tmp_path)
    wait_for(tmp_path / "plots" / "CNN.csv", first)
    refused = [typed(CNN, "--data", "nowhere", *how) for how in ([], ["--look"])]
    elsewhere = run("CNN", "--data", tree, "--epochs", 1, "--out", "another", cwd=tmp_path)
    first.process.kill()
    first.wait()
    assert elsewhere.status == 0
    for result in refused:
        check_refused(result, "CNN.py: another run of CNN is in progress in the folder plots: ")
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
