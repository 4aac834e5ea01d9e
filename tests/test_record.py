"""Runs that are killed, interrupted, out of disk or diverging, and what `--resume` makes of them."""

import json
import os
import pickle
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import ROOT, Process, load, make_tree, rows, run
from PIL import Image

posix = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


def check_whole(out: Path, name: str) -> int:
    """Checks that what a run has left is whole; gives the number of epochs that can be resumed."""
    for plot in out.glob("*.png"):
        with Image.open(plot) as image:
            image.load()
    if (out / f"{name}.json").exists():
        json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    if (out / f"{name}.csv").exists():
        lines = (out / f"{name}.csv").read_text(encoding="utf-8").split("\n")
        assert lines[-1] == "" and all(len(line.split(",")) == 6 for line in lines[:-1])
    if not (out / f"{name}.pt").exists():
        return 0
    return len(torch.load(out / f"{name}.pt", weights_only=True)["history"])


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for locks."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


@posix
def test_killed_at_random_moments_and_resumed_to_the_digit(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 8, "--batch-size", 16]
    assert run("CNN", *flags, "--out", "whole", cwd=tmp_path).status == 0
    rng = random.Random(0)
    kills = done = 0
    while True:
        process = Process("CNN", *flags, "--out", "killed", "--resume", cwd=tmp_path)
        # as long as there are kills to come, all but the last epoch may be reached; then the run may end
        deadline = time.monotonic() + rng.uniform(0.05, 0.6)
        while kills < 8 and time.monotonic() < deadline and done < 7:
            time.sleep(0.01)
            done = check_whole(tmp_path / "killed", "CNN") if (tmp_path / "killed" / "CNN.pt").exists() else done
        if kills == 8:
            break
        os.kill(process.process.pid, signal.SIGKILL)
        assert process.wait().status == -signal.SIGKILL
        kills += 1
        epochs = check_whole(tmp_path / "killed", "CNN")
        assert epochs >= done, "an epoch was lost"
        done = epochs
        if done == 7:  # start over, so that kills hit training, not its end
            shutil.rmtree(tmp_path / "killed")
            done = 0
    assert process.wait().status == 0
    assert rows(tmp_path / "killed" / "CNN.csv") == rows(tmp_path / "whole" / "CNN.csv")
    assert (tmp_path / "killed" / "CNN.json").read_bytes() == (tmp_path / "whole" / "CNN.json").read_bytes()


@pytest.mark.parametrize(("script", "precision"), [("Self-Attention", "bf16"), ("STN-Attention", "fp32")])
def test_more_epochs_later_is_the_same_as_at_once(script, precision, tree, tmp_path):
    flags = ["--data", tree, "--precision", precision, "--seed", 5]
    whole = Process(script, *flags, "--epochs", 3, "--out", "whole", cwd=tmp_path)
    for epochs in (1, 3):
        assert run(script, *flags, "--epochs", epochs, "--out", "parts", "--resume", cwd=tmp_path).status == 0
    assert whole.wait().status == 0
    names = [tmp_path / out / f"{script}" for out in ("whole", "parts")]
    assert rows(names[0].with_suffix(".csv")) == rows(names[1].with_suffix(".csv"))
    whole, parts = (torch.load(f"{name}.pt", weights_only=True)["model"] for name in names)
    assert all(whole[key].equal(parts[key]) for key in whole)


def test_a_checkpoint_from_a_device_with_another_order_in_memory_continues_to_the_digit(tree, tmp_path):
    """On a GPU weights and moments are contiguous; on a CPU they are channels last."""
    flags = ["--data", tree, "--batch-size", 16]
    assert run("CNN", *flags, "--epochs", 3, "--out", "whole", cwd=tmp_path).status == 0
    assert run("CNN", *flags, "--epochs", 1, "--out", "parts", cwd=tmp_path).status == 0
    path = tmp_path / "parts" / "CNN.pt"
    saved = torch.load(path, weights_only=True)
    moments = saved["optimizer"]["state"].values()
    assert not all(state["exp_avg"].is_contiguous() for state in moments)
    for state in moments:
        state.update({key: value.contiguous() for key, value in state.items()})
    torch.save(saved, path)
    assert run("CNN", *flags, "--epochs", 3, "--out", "parts", "--resume", cwd=tmp_path).status == 0
    assert rows(tmp_path / "parts" / "CNN.csv") == rows(tmp_path / "whole" / "CNN.csv")


def test_resuming_a_finished_run_restores_its_files(tree, tmp_path):
    flags = ["--data", tree, "--epochs", 1]
    assert run("CNN", *flags, cwd=tmp_path).status == 0
    before = (tmp_path / "plots" / "CNN.csv").read_bytes()
    for file in ("CNN.csv", "CNN.json"):
        (tmp_path / "plots" / file).unlink()
    result = run("CNN", *flags, "--resume", cwd=tmp_path, curves=True)
    assert result.status == 0 and "Epoch [" not in result.out
    assert (tmp_path / "plots" / "CNN.csv").read_bytes() == before
    assert (tmp_path / "plots" / "CNN.json").exists() and (tmp_path / "plots" / "comparison.png").exists()


@posix
def test_ctrl_c_says_how_to_continue(tree, tmp_path):
    process = Process("Multi-Head Attention", "--data", tree, "--epochs", 500, cwd=tmp_path)
    while not (tmp_path / "plots" / "Multi-Head Attention.csv").exists():
        time.sleep(0.01)
    os.kill(process.process.pid, signal.SIGINT)
    result = process.wait()
    assert result.status == 130 and "Traceback" not in result.err
    epochs = check_whole(tmp_path / "plots", "Multi-Head Attention")
    assert result.err.strip().endswith("--resume")
    assert "'" in result.err.split("continue with: ")[1]  # a script with a space in its name is quoted
    flags = ["--data", tree, "--epochs", epochs + 1, "--resume"]
    assert run("Multi-Head Attention", *flags, cwd=tmp_path).out.count("Epoch [") == 1


def stop_at_the_csv() -> None:
    from support.run import record

    def stop(path, history):
        raise KeyboardInterrupt

    record.write_csv = stop


def test_ctrl_c_between_the_files_of_the_first_epoch(tree, tmp_path):
    result = run("CNN", "--data", tree, "--epochs", 2, cwd=tmp_path, prepare=stop_at_the_csv)
    assert result.status == 130 and result.err.strip().endswith("--resume")
    result = run("CNN", "--data", tree, "--epochs", 2, "--resume", cwd=tmp_path)
    assert result.out.count("Epoch [") == 1 and check_whole(tmp_path / "plots", "CNN") == 2


@posix
def test_ctrl_c_before_training(tmp_path):
    folder = make_tree(tmp_path / "large", train=1500, test=1)
    process = Process("CNN", "--data", folder, cwd=tmp_path)
    while not (tmp_path / "plots").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.process.pid, signal.SIGINT)
    result = process.wait()
    assert result.status == 130 and "Traceback" not in result.err and result.err.strip().count("\n") == 0


@pytest.fixture(scope="module")
def stopped(tree, tmp_path_factory):
    """A folder with a run of two epochs in it, which no test changes."""
    out = tmp_path_factory.mktemp("stopped")
    flags = ["--data", tree, "--epochs", 2, "--batch-size", 16, "--lr", 0.002, "--seed", 3]
    assert run("CNN", *flags, "--out", out, cwd=out).status == 0
    return out


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--batch-size", 8], "batch_size 16, not 8"),
        (["--lr", 0.1], "lr 0.002, not 0.1"),
        (["--seed", 4], "seed 3, not 4"),
        (["--precision", "bf16"], "precision fp32, not bf16"),
        (["--epochs", 1], "has 2 epochs already"),
        (["--data", "other"], "was trained with checksum"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_refuses_to_resume_with_other_settings(changed, says, stopped, tree, tmp_path):
    shutil.copytree(stopped, tmp_path / "plots")
    make_tree(tmp_path / "other", classes=("bee", "cow", "ant"), train=19)
    flags = ["--data", tree, "--epochs", 4, "--batch-size", 16, "--lr", 0.002, "--seed", 3, "--resume"]
    result = run("CNN", *flags, *changed, cwd=tmp_path)
    assert result.status == 2 and says in result.err and result.err.count("\n") == 1
    assert (tmp_path / "plots" / "CNN.pt").read_bytes() == (stopped / "CNN.pt").read_bytes()


def test_refuses_to_resume_another_network_or_script(stopped, tree, tmp_path):
    (tmp_path / "plots").mkdir()
    flags = ["--data", tree, "--batch-size", 16, "--lr", 0.002, "--seed", 3, "--resume"]
    shutil.copy(stopped / "CNN.pt", tmp_path / "plots" / "SE-Attention.pt")
    result = run("SE-Attention", *flags, cwd=tmp_path)
    assert result.status == 2 and "script CNN, not SE-Attention" in result.err
    shutil.copy(stopped / "CNN.pt", tmp_path / "plots" / "CNN.pt")
    wider = tmp_path / "CNN.py"
    source = (ROOT / "CNN.py").read_text(encoding="utf-8")
    wider.write_text(source.replace("CNN(num_classes", "CNN((32, 65), num_classes"), encoding="utf-8")
    result = run(str(wider), *flags, cwd=tmp_path)
    assert result.status == 2 and "of another network, perhaps of another version of this script" in result.err


def test_resuming_an_edited_script_says_so_and_goes_on(tree, tmp_path):
    """`num_heads`, say, changes what is trained, but no shape of a weight."""
    script = tmp_path / "Mine.py"
    source = (ROOT / "Multi-Head Attention.py").read_text(encoding="utf-8")
    flags = ["--data", tree]
    script.write_text(source, encoding="utf-8")
    assert run(str(script), *flags, "--epochs", 1, cwd=tmp_path).status == 0
    assert "was edited" not in run(str(script), *flags, "--epochs", 2, "--resume", cwd=tmp_path).out
    script.write_text(source.replace("num_heads: int = 4", "num_heads: int = 8"), encoding="utf-8")
    result = run(str(script), *flags, "--epochs", 3, "--resume", cwd=tmp_path)
    assert (result.status, result.out.count("Epoch [")) == (
        0,
        1,
    ) and "Mine.py was edited after this run began" in result.out


def test_a_renamed_copy_of_the_data_is_the_same_data(stopped, tree, tmp_path):
    shutil.copytree(stopped, tmp_path / "plots")
    shutil.copytree(tree, tmp_path / "renamed")
    flags = ["--data", "renamed", "--epochs", 3, "--batch-size", 16, "--lr", 0.002, "--seed", 3, "--resume"]
    result = run("CNN", *flags, cwd=tmp_path)
    assert (result.status, result.out.count("Epoch [")) == (0, 1)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "hostile", "pickle", "foreign"])
def test_refuses_a_damaged_or_hostile_checkpoint(damage, stopped, tree, tmp_path):
    shutil.copytree(stopped, tmp_path / "plots")
    path = tmp_path / "plots" / "CNN.pt"
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        path.write_bytes(content[:600_000] + bytes([content[600_000] ^ 1]) + content[600_001:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "hostile":
        torch.save({"settings": Bomb()}, path)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif damage == "foreign":
        torch.save({"weight": torch.ones(3)}, path)
    flags = ["--data", tree, "--epochs", 4, "--batch-size", 16, "--lr", 0.002, "--seed", 3, "--resume"]
    result = run("CNN", *flags, cwd=tmp_path)
    assert result.status == 2 and result.err.count("\n") == 1 and "start afresh" in result.err
    assert not (tmp_path / "exploded").exists()


def test_a_fresh_start_moves_the_earlier_run_aside(stopped, tree, tmp_path):
    """All of it, every time, even when that run saw other data, and nothing else; it can be resumed there."""
    plots = tmp_path / "plots"
    shutil.copytree(stopped, plots)
    (plots / "CNN.attention.png").write_bytes(b"a picture")
    earlier = {path.name: path.read_bytes() for path in plots.glob("CNN*")}
    (plots / "CNN.attention.png.1.tmp").write_bytes(b"half a picture")  # as a kill leaves it
    others = {plots / "CNN-attention.png", plots / "CNN.5.png.1.tmp"}  # of scripts CNN-attention and CNN.5
    others.add(plots / "comparison.png.2.tmp")  # which another run writes now
    for path in [*others, old := plots / "comparison.png.1.tmp"]:  # and one of a run killed long ago
        path.write_bytes(b"another's")
    os.utime(old, (0, 0))
    other = make_tree(tmp_path / "other", classes=("dog", "eel"))
    result = run("CNN", "--data", other, "--epochs", 1, cwd=tmp_path)
    place = Path("plots") / "earlier" / "CNN-1"
    assert result.status == 0 and result.out.count(f"Moved the previous run with this name to {place}") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / place).iterdir()} == earlier
    second = (plots / "CNN.csv").read_bytes()
    (plots / "CNN.pt").unlink()  # as someone does who needs the space
    assert run("CNN", "--data", other, "--epochs", 1, cwd=tmp_path).status == 0
    assert (plots / "earlier" / "CNN-2" / "CNN.csv").read_bytes() == second
    assert {path.name: path.read_bytes() for path in (tmp_path / place).iterdir()} == earlier
    assert others <= set(plots.iterdir()) and len(list(plots.glob("*.tmp"))) == 2
    flags = ["--data", tree, "--epochs", 3, "--batch-size", 16, "--lr", 0.002, "--seed", 3]
    result = run("CNN", *flags, "--out", place, "--resume", cwd=tmp_path)
    assert result.status == 0 and result.out.count("Epoch [") == 1


def interrupt() -> None:
    import common

    def ctrl_c(*_):
        raise KeyboardInterrupt

    common.train_epoch = ctrl_c


def test_a_fresh_start_that_is_stopped_at_once_displaces_nothing(stopped, tree, tmp_path):
    shutil.copytree(stopped, tmp_path / "plots")
    before = contents(tmp_path / "plots")
    assert run("CNN", "--data", tree, cwd=tmp_path, prepare=interrupt).status == 130
    assert contents(tmp_path / "plots") == before


def limit_files() -> None:
    """As on a full disk: no file of this process can grow beyond 1 MB, and a checkpoint is larger."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


@posix
@pytest.mark.parametrize("how", [["--resume"], []])
def test_a_full_disk_costs_nothing_that_was_written(how, stopped, tree, tmp_path):
    shutil.copytree(stopped, tmp_path / "plots")
    flags = ["--data", tree, "--epochs", 4, "--batch-size", 16, "--lr", 0.002, "--seed", 3, *how]
    result = run("CNN", *flags, cwd=tmp_path, prepare=limit_files)
    assert result.status == 1 and result.err.count("\n") == 1 and "Moved" not in result.out
    assert "File too large" in result.err and "--resume" in result.err
    assert contents(tmp_path / "plots") == contents(stopped)
    assert run("CNN", *flags, cwd=tmp_path).status == 0
    assert len(rows(tmp_path / "plots" / "CNN.csv")) == 5


@posix
def test_a_folder_that_turns_unwritable_is_said_once(tree, tmp_path):
    process = Process("CNN", "--data", tree, "--epochs", 500, cwd=tmp_path, curves=True)
    while not (tmp_path / "plots" / "comparison.png").exists():
        time.sleep(0.01)
    (tmp_path / "plots").rename(tmp_path / "away")
    result = process.wait()
    assert result.status == 1 and result.err.count("\n") == 1 and "cannot write" in result.err
    epochs = check_whole(tmp_path / "away", "CNN")
    (tmp_path / "away").rename(tmp_path / "plots")
    assert run("CNN", "--data", tree, "--epochs", epochs + 1, "--resume", cwd=tmp_path).status == 0


def test_a_loss_that_is_not_finite_keeps_the_last_good_epoch(stopped, tree, tmp_path):
    out = tmp_path / "plots"
    shutil.copytree(stopped, out)
    saved = torch.load(out / "CNN.pt", weights_only=True)
    saved["model"]["classifier.4.bias"][0] = 1e38  # the sum over a batch will overflow
    saved["model"]["classifier.4.bias"][1] = -1e38
    torch.save(saved, out / "CNN.pt")
    flags = ["--data", tree, "--epochs", 4, "--batch-size", 16, "--lr", 0.002, "--seed", 3, "--resume"]
    result = run("CNN", *flags, cwd=tmp_path)
    assert result.status == 1 and result.err.count("\n") == 1
    assert "epoch 3 is not finite" in result.err and "--lr 0.0002" in result.err
    assert check_whole(out, "CNN") == 2


OWN_SCRIPT = """
import torch
from torch import nn
from common import CNN, run

class Broken(nn.Module):
    def forward(self, x):
        return x * float("nan")

def build(num_classes):
    LINE
    return CNN(attention=lambda channels: Broken(), num_classes=num_classes)

run(build)
"""


def test_a_block_that_returns_nan_is_said_and_a_mistake_of_the_user_s_own_keeps_its_traceback(tree, tmp_path):
    results = []
    for line in ("pass", "torch.load('my weights.pt')"):
        (tmp_path / "Own.py").write_text(OWN_SCRIPT.replace("LINE", line), encoding="utf-8")
        results.append(run(str(tmp_path / "Own.py"), "--data", tree, "--epochs", 2, cwd=tmp_path))
    nan, own = results
    assert nan.status == 1 and nan.err.count("\n") == 1
    assert "epoch 1 is not finite" in nan.err and "nan" in nan.err and "saved" not in nan.err
    assert contents(tmp_path / "plots") == {}
    assert own.status == 1 and "Traceback" in own.err and "cannot write" not in own.err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "--batch-size than 512"),
        (MemoryError(), "--batch-size than 512"),
        (
            ValueError("Expected more than 1 value per channel when training, got"),
            "last batch of an epoch has one image",
        ),
    ],
)
def test_what_a_batch_size_cures_is_one_line(error, says, tree, tmp_path):
    result = run("CNN", "--data", tree, "--batch-size", 512, cwd=tmp_path, prepare=partial(fail_with, error))
    assert result.status == 1 and result.err.count("\n") == 1 and says in result.err


def fail_with(error: Exception) -> None:
    import common

    def fail(*_):
        raise error

    common.train_epoch = fail


def test_final_weights_load_in_the_user_s_own_code(stopped):
    """Contiguous, as other programs expect them."""
    weights = torch.load(stopped / "CNN.pt", weights_only=True)["model"]
    load("CNN").build(num_classes=3).load_state_dict(weights)
    assert all(weight.is_contiguous() for weight in weights.values())


def open_elsewhere(names: str) -> None:
    """As on Windows where another program has these files open, until the third epoch."""
    replace = os.replace

    def refuse(source, target):
        if Path(target).name in names and not Path("plots/third").exists():
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)

    os.replace = refuse


@pytest.mark.parametrize("names", [("CNN.json", "CNN.png"), ("CNN.csv",), ("CNN.pt",)])
def test_a_file_that_is_open_elsewhere_ends_no_run_unless_it_is_the_checkpoint(names, tree, tmp_path):
    flags = ["--data", tree, "--epochs", 2]
    result = run("CNN", *flags, cwd=tmp_path, prepare=partial(open_elsewhere, names), curves=True)
    if names == ("CNN.pt",):
        assert result.status == 1 and result.err.count("\n") == 1 and "cannot write" in result.err
        return
    assert (result.status, result.err) == (0, "") and result.out.count("training goes on") == len(names)
    assert f"could not be written: {', '.join(str(Path('plots', name)) for name in names)}" in result.out
    assert check_whole(tmp_path / "plots", "CNN") == 2
    (tmp_path / "plots" / "third").touch()  # now they are closed
    result = run("CNN", *flags, "--resume", cwd=tmp_path, curves=True)
    assert result.status == 0 and len(rows(tmp_path / "plots" / "CNN.csv")) == 3
    assert "could not be written" not in result.out and all((tmp_path / "plots" / name).exists() for name in names)


def note_drawings() -> None:
    """Writes a line for each drawing of a run's curves: the epochs that it shows."""
    from support.pictures import comparison

    def noted(path, csv, history, *rest):
        with open("drawings.txt", "a", encoding="utf-8") as file:
            file.write(f"{len(history)}\n")

    comparison.plot_run = noted


def test_short_epochs_are_not_drawn_one_by_one(tree, tmp_path):
    assert run("CNN", "--data", tree, "--epochs", 24, cwd=tmp_path, prepare=note_drawings, curves=True).status == 0
    drawn = (tmp_path / "drawings.txt").read_text(encoding="utf-8").split()
    assert drawn[0] == "1" and drawn[-1] == "24" and len(drawn) < 12
