"""Residual networks with blocks in them: crops, the README's recipes, the learning rate, runs on a tiny tree."""

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, check_refused, load, make_tree, run
from torch.nn import functional as F

from common import load_data, set_seed
from support.data.dataset import Data

resnet = load("ResNet-18")
SCRIPT = str(ROOT / "benchmarks" / "ResNet-18.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("data") / "tiny", classes=("ant", "bee"), train=2, test=1)


def test_each_image_is_cropped_somewhere_and_flipped_or_not():
    torch.manual_seed(0)
    padded = F.pad(torch.randint(256, (60, 3, 32, 32), dtype=torch.uint8), [4] * 4)
    crops = resnet.augment(padded)
    assert crops.dtype == torch.uint8 and crops.is_contiguous(memory_format=torch.channels_last)
    views = [padded.unfold(2, 32, 1).unfold(3, 32, 1)]  # (60, 3, 9, 9, 32, 32)
    views.append(views[0].flip(5))
    found = torch.stack([(view == crops[:, :, None, None]).all(dim=(1, 4, 5)) for view in views])  # (2, 60, 9, 9)
    flip, image, top, left = found.nonzero().unbind(1)
    assert image.sort().values.tolist() == list(range(60))  # each in exactly one place
    assert [len(choice.unique()) for choice in (flip, top, left)] == [2, 9, 9]


def with_block(network, name):
    torch.manual_seed(0)
    return resnet.put_into(copy.deepcopy(network), name)


@pytest.fixture(scope="module")
def plain():
    return {name: build(3) for name, build in resnet.NETWORKS.items()}


@pytest.mark.parametrize("name", [*resnet.FROM_SCRATCH, "SE-Gradually"])
def test_a_block_is_put_into_the_network_and_trains(name, plain):
    network = with_block(plain["ResNet-8"], name)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    same = network.eval()(images).equal(plain["ResNet-8"].eval()(images))
    assert same == (name in ("none", *resnet.ATTENTION, "SE-Gradually"))
    with torch.autocast("cpu", torch.bfloat16):
        network.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_where_the_blocks_are_and_how_their_gates_start(plain):
    channels = {"ResNet-18": [64, 64, 128, 128, 256, 256, 512, 512], "ResNet-8": [16, 32, 64]}
    for name, network in plain.items():
        gates = [m for m in with_block(network, "SE-scale2").modules() if hasattr(m, "gate")]
        assert [
            gate(torch.zeros(1, c, 1, 1)).numel() for gate, c in zip(gates, channels[name], strict=True)
        ] == channels[name]
        assert gates[0].gate(torch.zeros(1, channels[name][0], 2, 2)).unique().tolist() == [1]
        assert type(with_block(network, "Self").layer3[-1]).__name__ == "SelfAttention"
        assert network.layer1[0].conv1(network.maxpool(network.conv1(torch.zeros(1, 3, 32, 32)))).shape[2:] == (32, 32)
        assert network.layer3(torch.zeros(1, network.layer3[0].conv1.in_channels, 16, 16)).shape[2:] == (8, 8)


@pytest.mark.parametrize("constant_lr", [0, 0.01])
def test_the_learning_rate(constant_lr, monkeypatch):
    groups = []

    def step(model, optimizer, images, labels, precision):
        groups.append(dict(optimizer.param_groups[0]))
        optimizer.step()
        return torch.zeros(1), torch.zeros(1)

    monkeypatch.setattr(resnet, "train_step", step)
    images, labels = torch.zeros(50, 3, 32, 32, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64)
    options = SimpleNamespace(batch_size=1, precision="fp32")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))
    data = Data("", [], images, labels, images, labels)
    resnet.train(network, data, 0, range(1, 3), options, constant_lr)
    rates = [group["lr"] for group in groups]
    assert len(rates) == 100
    assert {(g["momentum"], g["nesterov"], g["weight_decay"]) for g in groups} == {(0.9, True, 5e-4)}
    if constant_lr:
        assert set(rates) == {constant_lr}
    else:
        assert rates[-1] < 1e-7 < rates[0] < max(rates) == 0.4 / 512
        assert rates.index(0.4 / 512) < 50 and rates[50:] == sorted(rates[50:], reverse=True)


@pytest.mark.parametrize(("precision", "products"), [("tf32", "tf32"), ("bf16", "ieee"), ("fp32", "ieee")])
def test_all_products_are_in_tf32_or_none(precision, products, tiny):
    options = SimpleNamespace(batch_size=1, precision=precision)
    assert resnet.train(torch.nn.Linear(1, 1), load_data(str(tiny)), 0, range(0), options, constant_lr=1) == []
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == products


def test_runs_are_added_skipped_and_stopped_in_time(tiny, tmp_path):
    typed = ["--network", "ResNet-8", "--data", tiny, "--out", ".", "--precision", "fp32", "--epochs"]
    result = run(SCRIPT, *typed, 2, "--blocks", "none", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    table, facts = tmp_path / "ResNet-8.csv", tmp_path / "ResNet-8-facts.csv"
    first = table.read_text(encoding="utf-8")
    result = run(SCRIPT, *typed, 2, "--blocks", "none", "SE-scale2", cwd=tmp_path)
    assert result.out.startswith("seed 0, SE-scale2: ") and table.read_text(encoding="utf-8").startswith(first)
    both = table.read_text(encoding="utf-8")
    assert list(resnet.read(table)[0]) == resnet.COLUMNS
    of_runs = [(row["network"], row["seed"], row["epoch"]) for row in resnet.read(table)]
    assert of_runs == [(name, "0", epoch) for name in ("none", "SE-scale2") for epoch in "12"]
    assert [(row["network"], row["parameters"]) for row in resnet.read(facts)] == [
        ("none", "77522"),
        ("SE-scale2", "78194"),
    ]

    stopped = run(SCRIPT, *typed, 2, "--blocks", "none", "--seeds", 0, 1, "--minutes", 0, cwd=tmp_path)
    assert stopped.status == 0 and stopped.out.count("\n") == 1
    assert stopped.out.startswith("Stopped before none, seed 1, for lack of time")
    other = run(SCRIPT, *typed, 3, cwd=tmp_path)
    assert other.status == 2 and "has epochs 2, not 3: use the same value" in other.err and other.err.count("\n") == 1
    assert table.read_text(encoding="utf-8") == both
    for text in ("", "network,seed\nSE,0\n"):
        table.write_text(text)
        check_refused(run(SCRIPT, *typed, 2, cwd=tmp_path), "ResNet-8.csv is not a table of this program")
        assert table.read_text() == text


def test_blocks_are_put_into_a_trained_network(tiny, tmp_path):
    typed = ["--insert", "--network", "ResNet-8", "--blocks", "none", "SE", "Self", "--epochs", 1, "--seeds", 4]
    result = run(SCRIPT, *typed, "--precision", "fp32", "--data", tiny, "--out", ".", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    lines = resnet.read(tmp_path / "ResNet-8-inserted.csv")
    found = {(line["network"], line["epoch"]): line["test_loss"] for line in lines}
    assert list(found) == [(name, epoch) for name in ("none", "SE", "Self") for epoch in "01"]
    data = load_data(str(tiny))
    set_seed(4, epoch=0)
    network = resnet.resnet8(2).to(memory_format=torch.channels_last)
    [trained] = resnet.train(network, data, 4, range(1, 2), SimpleNamespace(batch_size=128, precision="fp32"))
    assert float(found["none", "0"]) == pytest.approx(trained[3], rel=1e-4)
    assert found["Self", "0"] == found["none", "0"] != found["SE", "0"]
    assert all(found[name, "1"] != found[name, "0"] for name in ("none", "SE", "Self"))
