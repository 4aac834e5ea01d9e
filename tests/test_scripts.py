"""Every script as a user runs it: what it prints, what it leaves, what it says of wrong flags."""

import csv
import re
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, SCRIPTS, Process, load, make_tree, relu_before_pool, rows, run
from PIL import Image

sys.path.insert(0, str(ROOT / "benchmarks"))
import networks

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
        assert plot.info["Source"].startswith("tiny tree (")
    with Image.open(folder / "plots" / "comparison.png") as plot:
        assert plot.width == 1400


def test_as_a_newcomer_types_it(tmp_path):
    """In an interpreter of its own; standard output and nothing else is the log."""
    command = [
        sys.executable,
        ROOT / "SE-Attention.py",
        "--data",
        "shapes",
        "--epochs",
        "1",
        "--batch-size",
        "500",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "5,000 images to train, 1,000 to test" in done.stdout and "Epoch [1/1] Train Loss" in done.stdout
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "SE-Attention-shapes.png",
        "SE-Attention-shapes.csv",
        "SE-Attention-shapes.pt",
        "SE-Attention-shapes-attention.png",
        "comparison-shapes.png",
    }


def test_means_are_exact(tree, tmp_path):
    """The recorded test figures, recomputed from the checkpoint one image at a time."""
    from common import load_data
    from support.dataset import normalize

    assert run("CNN", "--data", tree, "--epochs", 1, "--batch-size", 7, cwd=tmp_path).status == 0
    data = load_data(str(tree))
    network = load("CNN").build(len(data.classes)).eval()
    network.load_state_dict(torch.load(tmp_path / "plots" / "CNN.pt", weights_only=True)["model"])
    with torch.no_grad():
        logits = torch.cat([network(normalize(image[None])) for image in data.test_images]).double()
    loss = -logits.log_softmax(1)[torch.arange(len(logits)), data.test_labels].mean().item()
    accuracy = 100 * (logits.argmax(1) == data.test_labels).double().mean().item()
    last = rows(tmp_path / "plots" / "CNN.csv")[-1].split(",")
    assert float(last[3]) == pytest.approx(loss, abs=1e-5)
    assert float(last[4]) == pytest.approx(accuracy, abs=1e-3)


def test_same_seed_same_figures(tree, tmp_path):
    def figures(out, seed):
        assert run("CNN", "--data", tree, "--epochs", 2, "--seed", seed, "--out", out, cwd=tmp_path).status == 0
        return rows(tmp_path / out / "CNN.csv")

    assert figures("first", 1) == figures("second", 1) != figures("third", 2)


def test_a_seed_orders_the_images_alike_in_every_script():
    from common import seed

    orders = []
    for script in ("CNN", "STN-Attention"):
        seed(3, epoch=0)
        load(script).build(10)  # draws more or fewer weights
        seed(3, epoch=1)
        orders.append(torch.randperm(1000))
    assert orders[0].equal(orders[1])
    seed(3, epoch=2)
    assert not orders[0].equal(torch.randperm(1000))


def test_pixels_are_scaled_to_minus_1_and_1():
    from support.dataset import normalize

    assert normalize(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([-1, -0.6, 1])


def test_training_is_plain_adam_on_the_same_batches():
    """The fast loop against a plain one: contiguous maps, ReLU before pool, unfused Adam."""
    from torch.nn import functional as F

    from common import CNN, seed, train_epoch
    from support.shapes import draw_shapes

    data = draw_shapes(640, 10)
    network = CNN((8, 16), hidden=16, dropout=0.0)
    plain = relu_before_pool(network)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.001, foreach=False)
    seed(0, epoch=1)
    expected = []
    for batch in torch.randperm(640).split(64):
        x = torch.stack([data.train_images[i].contiguous().float() / 127.5 - 1 for i in batch])
        loss = F.cross_entropy(plain(x), data.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    trained = [parameter.detach().clone() for parameter in plain.parameters()]

    network.load_state_dict(start)
    network.to(memory_format=torch.channels_last)
    images = data.train_images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
    seed(0, epoch=1)
    mean, _ = train_epoch(network, optimizer, images, data.train_labels, 64)
    assert mean == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    for fast, slow in zip(network.parameters(), trained, strict=True):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-4)  # after ten steps of 0.001


def test_controls_write_their_own_files(tree, tmp_path):
    flags = {
        "CNN-8-16-32": ["--widths", 8, 16, 32],
        "CNN-8-hidden16-dropout0": ["--widths", 8, "--hidden", 16, "--dropout", 0],
    }
    for name, typed in flags.items():
        assert run("CNN", "--data", tree, "--epochs", 1, *typed, cwd=tmp_path).status == 0
        assert (tmp_path / "plots" / f"{name}.csv").exists()
    assert not (tmp_path / "plots" / "CNN.csv").exists()


@pytest.mark.parametrize("name", ["My Block", "My-shapes"])
def test_a_renamed_script_writes_its_own_plot(name, tree, tmp_path):
    copy = tmp_path / f"{name}.py"
    copy.write_bytes((ROOT / "SE-Attention.py").read_bytes())
    assert run(str(copy), "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    assert {"comparison.png", f"{name}.png"} <= {path.name for path in (tmp_path / "plots").iterdir()}


def test_a_tree_named_shapes_is_not_the_drawn_shapes(tmp_path):
    make_tree(tmp_path / "shapes")
    assert run("CNN", "--data", tmp_path / "shapes", "--epochs", 1, cwd=tmp_path).status == 0
    assert (tmp_path / "plots" / "comparison.png").exists()


def test_a_network_too_large_for_the_memory(tmp_path):
    result = run("CNN", "--data", "shapes", "--hidden", 10**12, cwd=tmp_path)
    assert result.status == 1 and "out of memory" in result.err and result.err.count("\n") == 1


def test_runs_on_other_data_are_not_compared(tree, tmp_path):
    """Also where the folders of the two data sets have the same name."""
    from common import load_data
    from support.comparison import read_folder
    from support.dataset import fingerprint

    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    other = make_tree(tmp_path / tree.name, classes=("dog", "eel"))
    assert run("SE-Attention", "--data", other, "--epochs", 1, cwd=tmp_path).status == 0
    for folder, name in ((tree, "CNN"), (other, "SE-Attention")):
        assert list(read_folder(tmp_path / "plots", fingerprint(load_data(str(folder))))) == [name]


WRONG_FLAGS = [
    (["--epochs", 0], "'0' is not a whole number from 1"),
    (["--epochs", "ten"], "'ten' is not a whole number"),
    (["--epochs", 1.5], "'1.5' is not a whole number"),
    (["--batch-size", -64], "'-64' is not a whole number from 1"),
    (["--lr", 0], "'0' is not a number above 0"),
    (["--lr", "nan"], "'nan' is not a number above 0"),
    (["--lr", "inf"], "'inf' is not a number above 0"),
    (["--seed", -1], "'-1' is not a whole number from 0"),
    (["--seed", 10**30], "is not a whole number from 0"),
    (["--device", "warp"], "'warp' is not a device of this machine"),
    (["--device", "cuda:99"], "'cuda:99' is not a device of this machine"),
    (["--device", "meta"], "'meta' is not a device of this machine"),
    (["--device", ""], "'' is not a device of this machine"),
    (["--precision", "fp8"], "fp8"),
    (["--data", "nowhere"], "nowhere: there is no such folder"),
    (["--data", "file.txt"], "file.txt: there is no such folder"),
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


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_no_step_waits_for_the_device(name, monkeypatch):
    """On PyTorch's meta device, whose tensors hold no data, a step that asks for a value, or that mixes in a tensor of
    another device, fails. So a GPU is never kept waiting within an epoch."""
    import contextlib

    import common

    monkeypatch.setattr(common, "means", lambda losses, correct, images: (len(losses), images))  # the one wait
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: contextlib.nullcontext())  # which meta lacks
    with torch.device("meta"):
        model = networks.build(name)
        images, labels = torch.zeros(128, 3, 32, 32, dtype=torch.uint8), torch.zeros(128, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    assert common.train_epoch(model, optimizer, images, labels, 64) == (2, 128)
    assert common.evaluate(model, images, labels)[1] == 128
